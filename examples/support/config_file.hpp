#pragma once

/// \file
/// Options in a TOML file: what --config reads and --save-config writes.

#include <filesystem>
#include <istream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace example {

/// The part of TOML that options need: tables, and keys with strings, numbers, true, false or a list of them. Relative
/// paths are relative to the file. A subcommand's options are in a table of its name. An unknown key is an error.
class ConfigFile : public CLI::Config {
 public:
  /// \param app whose options the file holds; it outlives this  \param option that names the file
  ConfigFile(CLI::App& app, const CLI::Option& option) : app_(&app), option_(&option) {}

  /// The options of the program, or of the subcommand that was given.
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override;

  /// All options in effect, with absolute paths.
  std::string to_config(const CLI::App* app, bool default_also, bool write_description,
                        std::string prefix) const override;

 private:
  CLI::App* app_;
  const CLI::Option* option_;
};

/// All options in effect, after parsing, as a file in `folder`: relative paths are relative to it. Empty: paths are
/// absolute.
std::string config_text(CLI::App& app, const std::filesystem::path& folder);

}  // namespace example
