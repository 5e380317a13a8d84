#pragma once

/// \file
/// The options of a program as a table: what is wrong with the words that were typed, old names, and the documentation.

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace example {

/// All options of `app` and of its groups, in the order in which they were added, without those of its subcommands.
std::vector<CLI::Option*> options_of(CLI::App& app);

/// The subcommand that was given, or `app` itself.
CLI::App& chosen(CLI::App& app);

/// Lets `option` be given by its old name, too, which `--help` does not show and whose use prints a note. The value
/// must mean the same. \param before such as "--side"  \return the option by its old name
CLI::Option* old_name(CLI::App& app, CLI::Option* option, const std::string& before);

/// Says on standard error that an option was called `before`, and is called `now`.
void note_old_name(const std::string& before, const std::string& now);

/// The option itself, or the one that took its place if its name is an old one.
CLI::Option* by_new_name(CLI::Option* option);

/// The option among `app`'s, or among those that every subcommand takes, that is called "--`name`"; null for none.
CLI::Option* option_named(CLI::App& app, const std::string& name);

/// "; did you mean --steps?" for "--stepz", or nothing where no option of `app` is like it.
/// \param typed with or without its dashes
std::string did_you_mean(CLI::App& app, std::string_view typed);

/// What is wrong with the words that were typed, one sentence a line: unknown options and subcommands, options given
/// twice that have one value, options where a value was expected. Empty if nothing is. For use after parsing, even
/// where it failed.
std::string misused_words(CLI::App& app);

/// What a value of the option is, such as "FILE", "N" or "TEXT"; the first part of its type name.
std::string value_name(const CLI::Option& option);

/// Name, value, default and meaning of all options and subcommands.
nlohmann::ordered_json option_table(CLI::App& app);

}  // namespace example
