// A TOML file with a program's settings, as --config reads it, is refused with one of CLI11's errors, whose message is
// not empty, or the options in effect, written as --save-config does, read the same.

#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "fuzz/harness.hpp"

// The programs' own units.
#include "config_file.cpp"   // NOLINT(bugprone-suspicious-include)
#include "option_table.cpp"  // NOLINT(bugprone-suspicious-include)

namespace fuzz = ip2p::testing::fuzz;

namespace {

/// The settings of the file at `path` as a program with options of all kinds would save them; nothing if it refuses it.
std::optional<std::string> saved(const std::string& path) {
  CLI::App app("fuzz");
  std::string prompt = "none", model, out;
  std::vector<std::string> loras;
  std::vector<double> scales;
  std::int64_t steps = 20;
  double scale = 1.5;
  bool marks = true, quiet = false;
  app.add_option("--prompt", prompt)->capture_default_str();
  app.add_option("--model", model)->type_name("MODEL");
  app.add_option("--out", out)->type_name("FILE");
  app.add_option("--lora", loras)->type_name("[NAME=]MODEL");
  app.add_option("--scales", scales);
  app.add_option("--steps", steps)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--scale", scale)->capture_default_str();
  app.add_flag("--quiet", quiet);
  app.add_flag("--no-marks{false}", marks);
  auto* train = app.add_subcommand("train");
  std::int64_t batch = 4;
  train->add_option("--batch", batch)->capture_default_str();
  auto* option = app.set_config("--config");
  app.config_formatter(std::make_shared<example::ConfigFile>(app, *option));
  try {
    app.parse(std::vector<std::string>{"train", "--config=" + path});
    return example::config_text(app, {});
  } catch (const CLI::Error& error) {
    fuzz::expect(*error.what() != '\0', "an error without a message");
    return {};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::ScratchFolder scratch;
  const auto first = saved(scratch.put("settings.toml", fuzz::text_of(data, size)));
  if (!first) return 0;
  const auto again = saved(scratch.put("again.toml", *first));
  fuzz::expect(again.has_value(), "settings that were saved are refused");
  if (*again != *first) std::fprintf(stderr, "%s\n---\n%s\n", first->c_str(), again->c_str());
  fuzz::expect(*again == *first, "saved, settings differ");
  return 0;
}
