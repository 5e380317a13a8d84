#include "advice.hpp"

#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ip2p/io/model_files.hpp"

namespace example {

ip2p::ModelAdvice advice_of(const ip2p::OpenedModel& model) {
  std::error_code ignored;
  if (!std::filesystem::exists(model.path() / "model_index.json", ignored)) return {};
  return ip2p::ModelAdvice::of(ip2p::ModelFiles::open(
      model.path(), {.prefer_ema = model.options().prefer_ema, .variant = model.options().variant}));
}

std::string about_scales(const ip2p::ModelAdvice& advice, std::optional<double> image_scale, double text_scale) {
  std::vector<std::string> beyond;
  const auto check = [&](const char* option, const std::optional<ip2p::ScaleRange>& range, double scale) {
    if (!range || range->holds(scale)) return;
    beyond.push_back(fmt::format("{} {:g} is outside of {:g} to {:g}", option, scale, range->least, range->most));
  };
  check("--text-scale", advice.text_scale, text_scale);
  if (image_scale) check("--image-scale", advice.image_scale, *image_scale);
  if (beyond.empty()) return {};
  return fmt::format("{}, for which this model was trained; the picture may be spoiled", fmt::join(beyond, ", and "));
}

std::string about_instruction(const ip2p::ModelAdvice& advice, const std::string& instruction) {
  if (advice.knows(instruction)) return {};
  std::vector<std::string> names;
  for (const auto& edit : advice.known) names.push_back(edit.name);
  return fmt::format("this small model knows only these edits, and the instruction names none of them: {}",
                     fmt::join(names, ", "));
}

void warn(const std::string& sentence) {
  if (!sentence.empty()) fmt::print(stderr, "warning: {}\n", sentence);
}

}  // namespace example
