#pragma once

/// \file
/// The options of the program.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "limits.hpp"
#include "support/command_line.hpp"
#include "support/picture_options.hpp"

namespace CLI {
class App;
}

namespace studio {

struct Options {
  example::ModelOptions model;
  example::PictureOptions picture;
  std::optional<std::int64_t> resolution;
  std::string fit;
  std::string host = "127.0.0.1", token;
  std::vector<std::string> names;
  int port = 8100;
  std::int64_t batch = 4;
  double megabytes = 32, memory = 512;
  Limits limits;
  std::filesystem::path keep;
  bool log_prompts = false;

  /// The bounds of all of them.
  [[nodiscard]] Limits all_limits() const;
};

void add_options(CLI::App& app, Options& o);

}  // namespace studio
