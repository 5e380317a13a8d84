#pragma once

/// \file
/// Computed edits as a training set in the layout in which InstructPix2Pix's is published.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "edits.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/train/export.hpp"
#include "photographs.hpp"
#include "support/interrupt.hpp"
#include "support/program.hpp"

namespace small_editor {

/// Writes one prompt for each training photograph and family, cycling through the family's phrasings. seeds.json is
/// written last, so a set that has it is complete; where the work ends early, its folders are removed.
/// \param side of the square pictures  \param on_photograph called with the number done, and of all
/// \return pairs written  \throws Cancelled
inline std::int64_t write_pairs(const std::vector<std::filesystem::path>& photographs, const std::filesystem::path& out,
                                std::int64_t side, const example::Interrupt& interrupt,
                                const std::function<void(std::int64_t, std::int64_t)>& on_photograph) {
  example::Outputs written;
  if (!std::filesystem::exists(out)) written.add(out, [&] { std::filesystem::create_directories(out); });
  auto seeds = nlohmann::json::array();
  std::int64_t turn = 0;
  for (const auto& path : photographs) {
    interrupt.check();
    const auto before = centre_square(load_photograph(path, side), side);
    const auto picture = [](const at::Tensor& rgb) { return ip2p::from_tensor((rgb * 255).round().to(at::kByte)); };
    for (const auto& family : edit_families()) {
      const auto texts = family.training_texts();
      const auto prompt = fmt::format("{:07}", seeds.size());
      const auto folder = out / prompt;
      if (!std::filesystem::exists(folder)) written.add(folder, [&] { std::filesystem::create_directory(folder); });
      ip2p::write_image(folder / "0_0.jpg", picture(before), 95);
      ip2p::write_image(folder / "0_1.jpg", picture(family.apply(before)), 95);
      const auto caption = path.stem().string();
      ip2p::write_json(
          folder / "prompt.json",
          ip2p::pair_words_json({.instruction = std::string(texts[static_cast<std::size_t>(turn) % texts.size()]),
                                 .input = caption,
                                 .output = fmt::format("{}, {}", caption, family.name),
                                 .url = {}}));
      seeds.push_back({prompt, {"0"}});
    }
    on_photograph(++turn, std::ssize(photographs));
  }
  ip2p::write_json(out / "seeds.json", seeds);
  written.keep();
  return static_cast<std::int64_t>(seeds.size());
}

}  // namespace small_editor
