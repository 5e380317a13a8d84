#pragma once

/// \file
/// The command line of evaluate.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "support/command_line.hpp"

namespace CLI {
class App;
}

namespace evaluate {

/// A folder or file with a user-chosen name.
struct Named {
  std::string name;
  std::filesystem::path path;
};

/// Everything an evaluation depends on; a --config file uses the same names.
struct Options {
  std::vector<std::string> curves, models, vaes, clips;
  example::ModelOptions every;  ///< Of every model; the values of --lora and --embedding begin with a model's name.
  std::filesystem::path clip_tokenizer, edits, images, pairs, out;
  std::string split = "test", range = "correct", numerics = "released", gnuplot = "gnuplot";
  std::optional<std::int64_t> resolution;
  std::int64_t limit = 0, grid = 4, resamples = 9999;
  std::uint64_t seed = 42;
  double confidence = 0.95;
  bool scan = false, change = false;
};

/// The names and paths of options that were checked to be "NAME=PATH"; each name may occur once.
std::vector<Named> named_paths(const std::vector<std::string>& texts, const char* option);

/// How each model is opened, by name. \throws Error for a part of a model that is not there
std::map<std::string, example::ModelOptions> models_of(const Options& o);

/// Adds the options to `app`; parsing then fills `o`.
void add_options(CLI::App& app, Options& o);

}  // namespace evaluate
