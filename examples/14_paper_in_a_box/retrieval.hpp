#pragma once

/// \file
/// How well a CLIP finds the caption of a picture and the picture of a caption.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/vision/clip.hpp"

namespace small_world {

/// Share of rows whose own column is among the `k` largest; ties count half a place each.
inline double recall(const at::Tensor& similarity, std::int64_t k) {
  const auto own = similarity.diagonal().unsqueeze(1);
  const auto above = similarity.gt(own).sum(1).to(at::kFloat);
  const auto level = (similarity.eq(own).sum(1) - 1).to(at::kFloat) / 2;
  return (above + level).lt(static_cast<double>(k)).to(at::kFloat).mean().item<double>();
}

/// How well pictures and the captions at the same places find each other. \param images, texts unit features [N, D]
inline nlohmann::json retrieval(const at::Tensor& images, const at::Tensor& texts) {
  const auto similarity = texts.matmul(images.t());
  const auto count = similarity.size(0);
  nlohmann::json json{{"pictures", count}};
  for (const std::int64_t k : {1, 5}) {
    const auto name = fmt::format("recall_at_{}", k);
    json["picture_of_caption"][name] = recall(similarity, k);
    json["caption_of_picture"][name] = recall(similarity.t(), k);
    json["chance"][name] = std::min(1.0, static_cast<double>(k) / static_cast<double>(count));
  }
  return json;
}

/// Features of many pictures, a few at a time.
inline at::Tensor image_features(const ip2p::Clip& clip, std::span<const ip2p::Image> pictures) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < pictures.size(); i += 32) {
    parts.push_back(clip.image_features(pictures.subspan(i, std::min<std::size_t>(32, pictures.size() - i))));
  }
  return at::cat(parts);
}

}  // namespace small_world
