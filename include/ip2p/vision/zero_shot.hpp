#pragma once

/// \file
/// Zero-shot classification by class names (Radford et al. 2021, section 3.1).

#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/vision/clip.hpp"

namespace ip2p {

/// One unit vector per class: the mean over `templates` of the features of each template with the class name in place
/// of "{}", normalised.
/// \return [classes, projection_dim]  \throws Error for empty lists and for a template without "{}"
inline at::Tensor class_features(const Clip& clip, std::span<const std::string> classes,
                                 std::span<const std::string> templates) {
  require(!classes.empty() && !templates.empty(), "zero-shot: expected classes and templates, found {} and {}",
          classes.size(), templates.size());
  constexpr std::string_view place = "{}";
  std::vector<at::Tensor> rows;
  for (const auto& name : classes) {
    std::vector<std::string> texts;
    for (const auto& pattern : templates) {
      const auto position = pattern.find(place);
      require(position != std::string::npos, "zero-shot: template '{}': expected {{}} where the class goes, found none",
              pattern);
      texts.push_back(std::string(pattern).replace(position, place.size(), name));
    }
    const auto mean = clip.text_features(texts).mean(0);
    rows.push_back(mean / mean.norm());
  }
  return at::stack(rows);
}

/// Probability of each class: softmax over the classes of scale * cosine.
/// \param images [B, D] and \param classes [K, D] unit features  \return [B, K], rows sum to 1
inline at::Tensor class_probabilities(const Clip& clip, const at::Tensor& images, const at::Tensor& classes) {
  return at::softmax(clip.model().scale() * images.matmul(classes.t()), 1);
}

}  // namespace ip2p
