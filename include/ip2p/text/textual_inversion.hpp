#pragma once

/// \file
/// Textual inversions (Gal et al. 2022): input vectors of a text encoder, learned for a new word.

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/weight_file.hpp"

namespace ip2p {

namespace detail {

/// The model that a text encoder's width belongs to, e.g. " (Stable Diffusion 1)"; empty if unknown.
inline std::string_view width_owner(std::int64_t width) {
  return width == 768    ? " (Stable Diffusion 1)"
         : width == 1024 ? " (Stable Diffusion 2)"
         : width == 1280 ? " (Stable Diffusion XL)"
                         : "";
}

}  // namespace detail

/// A word and its vectors; see `ClipTextEncoder::add_embedding`.
struct TextualInversion {
  std::string word;    ///< The word to use in prompts; case does not matter.
  at::Tensor vectors;  ///< [n, width], fp32.

  /// Reads a safetensors file or a pickle of PyTorch (.pt, .bin) in diffusers' format ({"<word>": [n, width] or
  /// [width]}) or in those of AUTOMATIC1111's web UI and of the authors' program, where the word is the file's name:
  /// {"emb_params": [n, width]} and {"string_to_param": {"*": [n, width]}}.
  ///
  /// \param word replaces the file's own word  \throws Error as `open_weight_file`, for unexpected tensors or shapes,
  ///   and for non-finite numbers
  static TextualInversion open(const std::filesystem::path& path, std::string word = {}) {
    const auto weights = open_weight_file(path, {.check_finite = true}).weights;
    const auto where = path.string();
    require(!weights.contains("clip_g"),
            "{}: expected an embedding for Stable Diffusion 1 or 2, found one for Stable "
            "Diffusion XL (tensor 'clip_g')",
            where);
    const bool parameters = weights.contains("emb_params");
    require(parameters || weights.size() == 1,
            "{}: expected an embedding: one tensor under the name of its word, or 'emb_params'; found {} tensors{}",
            where, weights.size(),
            weights.empty() ? "" : ", '" + detail::printable(weights.begin()->first) + "' first");
    const std::string name = parameters ? "emb_params" : weights.begin()->first;
    const bool web_ui = parameters || name.starts_with("string_to_param.");
    auto vectors = weights.at(name).read();
    if (vectors.dim() == 1) vectors = vectors.unsqueeze(0);
    require(vectors.is_floating_point() && vectors.dim() == 2 && vectors.numel() > 0,
            "{}: tensor '{}': expected floating-point vectors [n, width], found {} {}", where, detail::printable(name),
            at::toString(vectors.scalar_type()), shape_text(vectors.sizes()));
    if (word.empty()) word = web_ui ? path.stem().string() : name;
    return {.word = std::move(word), .vectors = vectors.to(at::kFloat)};
  }
};

}  // namespace ip2p
