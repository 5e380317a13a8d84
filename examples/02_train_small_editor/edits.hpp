#pragma once

/// \file
/// The instructed edits that the small editor learns: each family computes its target from the photograph, so
/// the right answer is known exactly for every photograph, including held-out ones.

#include <ATen/ATen.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/replication_pad2d.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace small_editor {

/// One kind of edit: how the target is computed, and how people ask for it.
struct EditFamily {
  /// Phrasings of every family: the first `train_phrasings` are trained on, the rest are kept for measurement.
  static constexpr std::size_t phrasings = 12;
  static constexpr std::size_t train_phrasings = 9;

  std::string_view name;
  /// [3,H,W] RGB in [0,1] -> the same; pure.
  at::Tensor (*apply)(const at::Tensor& rgb);
  std::array<std::string_view, phrasings> texts;
  /// What tells the phrasings from those of other edits, for the model's folder (`ip2p::KnownEdit`).
  std::vector<std::string_view> words;

  [[nodiscard]] std::span<const std::string_view> training_texts() const {
    return std::span(texts).first(train_phrasings);
  }
  [[nodiscard]] std::span<const std::string_view> held_out_texts() const {
    return std::span(texts).subspan(train_phrasings);
  }
};

namespace detail {

/// Rec. 601 luma, [3,H,W] -> [1,H,W].
inline at::Tensor luma(const at::Tensor& rgb) {
  return (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]).unsqueeze(0);
}

/// [3,1,1] tensor that broadcasts over pixels.
inline at::Tensor colour(double r, double g, double b) {
  return at::tensor({static_cast<float>(r), static_cast<float>(g), static_cast<float>(b)}).view({3, 1, 1});
}

inline at::Tensor unit(const at::Tensor& x) { return x.clamp(0.0, 1.0); }

/// Smoothing by two box filters of side 2*radius+1; borders average over the pixels that exist.
inline at::Tensor blur(const at::Tensor& x, std::int64_t radius) {
  const std::int64_t side = 2 * radius + 1;
  auto out = x.unsqueeze(0);
  for (int pass = 0; pass < 2; ++pass) {
    out = at::avg_pool2d(out, {side, side}, {1, 1}, {radius, radius}, false, /*count_include_pad=*/false);
  }
  return out.squeeze(0);
}

/// Moves every pixel away from (amount > 1) or towards (amount < 1) its own luma.
inline at::Tensor saturate(const at::Tensor& rgb, double amount) {
  const auto grey = luma(rgb);
  return unit(grey + (rgb - grey) * amount);
}

/// Maps luma 0, 0.5 and 1 to three colours, linearly in between.
inline at::Tensor gradient_map(const at::Tensor& grey, const at::Tensor& dark, const at::Tensor& middle,
                               const at::Tensor& light) {
  const auto low = (grey * 2).clamp(0, 1);
  const auto high = (grey * 2 - 1).clamp(0, 1);
  return dark + (middle - dark) * low + (light - middle) * high;
}

/// Kuwahara filter: each pixel becomes the mean of the quadrant around it that varies least; [3,H,W].
inline at::Tensor kuwahara(const at::Tensor& rgb, std::int64_t radius) {
  const std::int64_t height = rgb.size(1);
  const std::int64_t width = rgb.size(2);
  const std::int64_t side = radius + 1;
  const auto padded = at::replication_pad2d(rgb.unsqueeze(0), {radius, radius, radius, radius});
  const auto mean = at::avg_pool2d(padded, {side, side}, {1, 1}).squeeze(0);
  const auto square = at::avg_pool2d(padded.square(), {side, side}, {1, 1}).squeeze(0);
  const auto variance = (square - mean.square()).sum(0);
  std::vector<at::Tensor> means;
  std::vector<at::Tensor> variances;
  for (const std::int64_t y : {std::int64_t{0}, radius}) {
    for (const std::int64_t x : {std::int64_t{0}, radius}) {
      means.push_back(mean.narrow(1, y, height).narrow(2, x, width));
      variances.push_back(variance.narrow(0, y, height).narrow(1, x, width));
    }
  }
  const auto least = at::stack(variances).argmin(0);                            // [H,W]
  const auto index = least.view({1, 1, height, width}).expand({1, 3, -1, -1});  // [1,3,H,W]
  return at::stack(means).gather(0, index).squeeze(0);
}

inline at::Tensor sepia(const at::Tensor& rgb) {
  return unit(luma(rgb) * colour(0.86, 0.70, 0.50) + colour(0.14, 0.10, 0.06));
}

inline at::Tensor black_and_white(const at::Tensor& rgb) { return luma(rgb).expand({3, -1, -1}).contiguous(); }

/// Snow lies where light falls: bright and middle tones turn white, shadows keep a blue cast.
inline at::Tensor winter(const at::Tensor& rgb) {
  const auto pale = saturate(rgb, 0.25);
  const auto cover = ((luma(rgb) - 0.12) * 2.2).clamp(0, 1) * 0.62;
  return unit((pale * colour(0.85, 0.95, 1.10)) * (1 - cover) + colour(0.92, 0.97, 1.0) * cover);
}

inline at::Tensor night(const at::Tensor& rgb) {
  const auto dim = saturate(rgb, 0.45).pow(1.25);
  return unit(dim * colour(0.20, 0.28, 0.52) + colour(0.0, 0.01, 0.05));
}

inline at::Tensor sunset(const at::Tensor& rgb) {
  const auto glow =
      gradient_map(luma(rgb), colour(0.22, 0.02, 0.26), colour(0.92, 0.34, 0.30), colour(1.0, 0.82, 0.48));
  return unit(0.75 * glow + 0.25 * rgb * colour(1.2, 0.85, 0.7));
}

/// Foliage (green is the strongest channel) turns orange; everything else warms a little.
inline at::Tensor autumn(const at::Tensor& rgb) {
  const auto green = rgb.narrow(0, 1, 1);
  const auto others = at::maximum(rgb.narrow(0, 0, 1) * 0.92, rgb.narrow(0, 2, 1));
  const auto foliage = ((green - others) * 6 + 0.1).clamp(0, 1);
  const auto leaf = unit(luma(rgb) * colour(1.80, 0.78, 0.10) + colour(0.08, 0.0, 0.0));
  const auto warm = unit(saturate(rgb, 1.2) * colour(1.20, 0.92, 0.50) + colour(0.04, 0.01, 0.0));
  return leaf * foliage + warm * (1 - foliage);
}

inline at::Tensor fog(const at::Tensor& rgb) {
  return unit(0.34 * saturate(blur(rgb, 1), 0.5) + 0.66 * colour(0.80, 0.82, 0.84));
}

/// Colour dodge of the grey picture with its smoothed self: paper white, strokes where tones change.
inline at::Tensor pencil_sketch(const at::Tensor& rgb) {
  const auto grey = blur(luma(rgb), 1) * 0.5 + luma(rgb) * 0.5;
  const auto stroke = unit((grey + 0.03) / (blur(grey, 5) + 0.03));
  return unit(stroke.pow(2.2) * 0.97 + 0.02).expand({3, -1, -1}).contiguous();
}

inline at::Tensor watercolour(const at::Tensor& rgb) {
  const auto flat = kuwahara(kuwahara(rgb, 3), 2);
  return unit(saturate(flat, 1.55) * 0.68 + 0.32);
}

inline at::Tensor negative(const at::Tensor& rgb) { return 1 - rgb; }

inline at::Tensor underwater(const at::Tensor& rgb) {
  const auto soft = blur(rgb, 1);
  return unit(gradient_map(luma(soft), colour(0.0, 0.10, 0.22), colour(0.0, 0.52, 0.60), colour(0.55, 0.98, 0.95)) *
                  0.85 +
              soft * 0.15);
}

inline at::Tensor red(const at::Tensor& rgb) {
  return unit(luma(rgb) * colour(1.15, 0.16, 0.14) + colour(0.10, 0.0, 0.0));
}

inline at::Tensor green(const at::Tensor& rgb) {
  return unit(luma(rgb) * colour(0.22, 1.10, 0.18) + colour(0.0, 0.06, 0.0));
}

inline at::Tensor purple(const at::Tensor& rgb) {
  return unit(luma(rgb) * colour(0.80, 0.30, 1.10) + colour(0.06, 0.0, 0.10));
}

}  // namespace detail

/// All families, in the order in which tables name them.
inline const std::vector<EditFamily>& edit_families() {
  static const std::vector<EditFamily> families = {
      {"sepia",
       &detail::sepia,
       {"make it sepia", "turn it into a sepia photo", "apply a sepia tone", "as an old sepia photograph",
        "give it a brown sepia look", "sepia", "make the photo look old and brown",
        "convert the picture to sepia tones", "tint it sepia like an antique print",
        "make this an antique sepia picture", "add a sepia tint", "turn the image sepia brown"},
       {"sepia", "brown", "old", "antique"}},
      {"black and white",
       &detail::black_and_white,
       {"make it black and white", "turn it into a black and white photo", "remove the colors", "convert to grayscale",
        "black and white", "make the picture monochrome", "take away all color", "make it a grayscale image",
        "as a black and white photograph", "convert the photo to black and white",
        "remove all the color from the image", "turn it grayscale"},
       {"black", "white", "color", "colour", "gray", "grey", "monochrome"}},
      {"winter",
       &detail::winter,
       {"make it winter", "make it snowy", "add snow", "cover everything in snow", "turn the season to winter",
        "let it snow", "as if it were winter with snow", "make it look like a snowy winter day", "winter",
        "cover it with snow", "make it a snowy winter scene", "change the season to winter"},
       {"winter", "snow"}},
      {"night",
       &detail::night,
       {"make it night", "turn day into night", "make it nighttime", "as if taken at night", "night",
        "make it a dark night", "change the time to midnight", "make it look like night time",
        "set the scene at midnight", "make it dark like at night", "change it to nighttime",
        "turn the photo into a night scene"},
       {"night", "midnight", "dark"}},
      {"sunset",
       &detail::sunset,
       {"make it sunset", "add a sunset", "at sunset", "make it look like golden hour", "turn it into a sunset",
        "bathe it in sunset light", "sunset", "give it the glow of the setting sun", "change the time to golden hour",
        "make the light look like sunset", "in golden hour light", "change it to a glowing sunset"},
       {"sunset", "sun", "golden"}},
      {"autumn",
       &detail::autumn,
       {"make it autumn", "turn the leaves orange", "make it fall", "change the season to autumn", "autumn",
        "give it autumn colors", "make it look like fall with orange leaves", "as if it were autumn",
        "turn the season to fall", "make it an autumn day", "change the leaves to orange autumn colors",
        "make the season fall"},
       {"autumn", "fall", "leaves"}},
      {"fog",
       &detail::fog,
       {"add fog", "make it foggy", "cover it in mist", "make it misty", "fog", "put it in dense fog",
        "as if on a foggy morning", "fill the scene with fog", "make the weather foggy and misty", "add dense mist",
        "make it a foggy day", "cover the scene in fog"},
       {"fog", "foggy", "mist"}},
      {"pencil sketch",
       &detail::pencil_sketch,
       {"make it a pencil sketch", "turn it into a sketch", "draw it with a pencil", "as a pencil drawing",
        "pencil sketch", "make it look like a drawing", "convert the photo to a pencil drawing", "sketch it",
        "turn the picture into a line drawing", "make it a drawing in pencil", "convert it into a sketch",
        "as a hand drawn pencil sketch"},
       {"pencil", "sketch", "draw"}},
      {"watercolour",
       &detail::watercolour,
       {"make it a watercolor", "turn it into a watercolor painting", "paint it in watercolor", "as a watercolor",
        "make it a painting", "watercolor painting", "make it look like it was painted",
        "convert the photo to a painting", "turn the picture into a soft watercolor", "as a watercolor painting",
        "make the picture look painted", "turn it into a painting"},
       {"watercolor", "watercolour", "paint"}},
      {"negative",
       &detail::negative,
       {"invert the colors", "make it a negative", "turn it into a photo negative", "negative", "invert it",
        "show the film negative", "reverse the colors", "make the colors inverted", "convert the picture to a negative",
        "invert all colors of the image", "as a film negative", "turn the picture negative"},
       {"negative", "invert", "reverse"}},
      {"underwater",
       &detail::underwater,
       {"make it underwater", "put it under water", "as if it were under the sea", "sink it into the ocean",
        "underwater", "make it look like it is underwater", "move the scene to the bottom of the sea",
        "turn it into an underwater scene", "flood it with ocean water", "make it an underwater photo",
        "place it at the bottom of the ocean", "put the scene under the sea"},
       {"underwater", "water", "sea", "ocean"}},
      {"red",
       &detail::red,
       {"make it red", "tint it red", "turn it red", "give it a red tint", "make everything red", "red",
        "apply a red filter", "as if under red light", "color the picture red", "make the photo red",
        "put a red filter on it", "tint everything red"},
       {"red"}},
      {"green",
       &detail::green,
       {"make it green", "tint it green", "turn it green", "give it a green tint", "make everything green", "green",
        "apply a green filter", "as if under green light", "color the picture green", "make the photo green",
        "put a green filter on it", "tint everything green"},
       {"green"}},
      {"purple",
       &detail::purple,
       {"make it purple", "tint it purple", "turn it purple", "give it a purple tint", "make everything purple",
        "purple", "apply a purple filter", "as if under purple light", "color the picture purple",
        "make the photo purple", "put a purple filter on it", "tint everything purple"},
       {"purple"}},
  };
  return families;
}

}  // namespace small_editor
