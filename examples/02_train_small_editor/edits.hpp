#pragma once

/// \file
/// The instructed edits that the small editor learns: each family computes its target from the photograph, so
/// the right answer is known exactly for every photograph, including held-out ones.

#include <ATen/ATen.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/replication_pad2d.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
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

/// Means over squares of `side` pixels, in columns and then in rows, which costs 2 * side instead of side * side
/// additions; borders average over the pixels that exist among `padding` more. [1,C,H,W]
inline at::Tensor box_means(const at::Tensor& x, std::int64_t side, std::int64_t padding) {
  const auto columns = at::avg_pool2d(x, {side, 1}, {1, 1}, {padding, 0}, false, /*count_include_pad=*/false);
  return at::avg_pool2d(columns, {1, side}, {1, 1}, {0, padding}, false, /*count_include_pad=*/false);
}

/// Smoothing by two box filters of side 2*radius+1; borders average over the pixels that exist.
inline at::Tensor blur(const at::Tensor& x, std::int64_t radius) {
  const std::int64_t side = 2 * radius + 1;
  return box_means(box_means(x.unsqueeze(0), side, radius), side, radius).squeeze(0);
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
  const auto mean = box_means(padded, side, 0).squeeze(0);
  const auto square = box_means(padded.square(), side, 0).squeeze(0);
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

/// Where green is the strongest channel: [3,H,W] -> [1,H,W] in [0,1].
inline at::Tensor foliage_of(const at::Tensor& rgb) {
  const auto others = at::maximum(rgb.narrow(0, 0, 1) * 0.92, rgb.narrow(0, 2, 1));
  return ((rgb.narrow(0, 1, 1) - others) * 6 + 0.1).clamp(0, 1);
}

/// Foliage turns orange; everything else warms a little.
inline at::Tensor autumn(const at::Tensor& rgb) {
  const auto foliage = foliage_of(rgb);
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

inline at::Tensor blue(const at::Tensor& rgb) {
  return unit(luma(rgb) * colour(0.20, 0.42, 1.15) + colour(0.0, 0.02, 0.08));
}

inline at::Tensor brighter(const at::Tensor& rgb) { return unit(rgb.clamp_min(1e-4).pow(0.6) * 1.04 + 0.06); }

inline at::Tensor darker(const at::Tensor& rgb) { return unit(rgb.pow(1.5) * 0.62); }

inline at::Tensor high_contrast(const at::Tensor& rgb) { return (rgb * 10 - 5).sigmoid(); }

inline at::Tensor faded(const at::Tensor& rgb) { return unit(saturate(rgb, 0.55) * 0.42 + 0.42); }

inline at::Tensor vivid(const at::Tensor& rgb) { return unit((saturate(rgb, 2.3) - 0.5) * 1.12 + 0.5); }

inline at::Tensor warmer(const at::Tensor& rgb) {
  return unit(rgb * colour(1.18, 1.0, 0.66) + colour(0.05, 0.01, 0.0));
}

inline at::Tensor cooler(const at::Tensor& rgb) {
  return unit(rgb * colour(0.70, 0.96, 1.16) + colour(0.0, 0.02, 0.07));
}

/// The distance of each pixel from the middle, [1,H,W]: 0 there, 1 at the middle of the sides.
inline at::Tensor eccentricity(const at::Tensor& rgb) {
  const auto axis = [](std::int64_t n) { return at::linspace(-1, 1, n).square(); };
  return (axis(rgb.size(1)).unsqueeze(1) + axis(rgb.size(2))).sqrt().unsqueeze(0);
}

inline at::Tensor vignette(const at::Tensor& rgb) {
  const auto dark = ((eccentricity(rgb) - 0.35) * 1.15).clamp(0, 1).square();
  return unit(rgb * (1 - 0.95 * dark));
}

/// A portrait's depth: the middle and what stands before it, down to the lower border, stay sharp.
inline at::Tensor blurred_background(const at::Tensor& rgb) {
  const auto height = rgb.size(1), width = rgb.size(2);
  const auto y = at::linspace(-1, 1, height).unsqueeze(1), x = at::linspace(-1, 1, width);
  // Half an ellipse above the middle, straight sides below it.
  const auto distance = ((y - 0.1).clamp_max(0).square() + (x * 1.15).square()).sqrt().unsqueeze(0);
  const auto far = ((distance - 0.45) * 3.0).clamp(0, 1);
  return rgb * (1 - far) + blur(rgb, std::max<std::int64_t>(1, width / 40)) * far;
}

/// Four flat colours with soft borders, by luma.
inline at::Tensor pop_art(const at::Tensor& rgb) {
  const auto grey = blur(luma(rgb), 1);
  const auto above = [&](double level) { return ((grey - level) * 24).sigmoid(); };
  auto out = colour(0.16, 0.08, 0.48).expand_as(rgb);
  out = out + (colour(0.92, 0.10, 0.44) - out) * above(0.25);
  out = out + (colour(1.0, 0.80, 0.08) - out) * above(0.48);
  return unit(out + (colour(0.55, 0.95, 0.98) - out) * above(0.72));
}

/// How fast a [1,H,W] picture changes at each pixel, in both directions.
inline at::Tensor slope(const at::Tensor& grey) {
  const auto padded = at::replication_pad2d(grey.unsqueeze(0), {1, 1, 1, 1}).squeeze(0);
  const auto dx = padded.slice(1, 1, -1).slice(2, 2) - padded.slice(1, 1, -1).slice(2, 0, -2);
  const auto dy = padded.slice(1, 2).slice(2, 1, -1) - padded.slice(1, 0, -2).slice(2, 1, -1);
  return (dx.square() + dy.square() + 1e-6).sqrt();
}

/// Glowing outlines in the dark.
inline at::Tensor neon(const at::Tensor& rgb) {
  const auto line = (blur(slope(luma(rgb)), 1) * 3.2).clamp(0, 1);
  const auto glow = unit(saturate(blur(rgb, 2), 3.0) * colour(1.1, 0.75, 1.2) + colour(0.25, 0.05, 0.35));
  return unit(line * glow * 1.3 + rgb * colour(0.16, 0.08, 0.24) + colour(0.02, 0.0, 0.06));
}

/// Flat dabs, as in watercolour, in deep colours.
inline at::Tensor oil_painting(const at::Tensor& rgb) {
  const auto flat = kuwahara(kuwahara(rgb, 4), 3);
  return unit((saturate(flat, 1.7) - 0.45) * 1.3 + 0.42);
}

/// Four levels a channel, with soft borders.
inline at::Tensor posterised(const at::Tensor& rgb) {
  constexpr double steps = 3.0;
  const auto x = blur(rgb, 1) * steps;
  const auto fraction = x - x.floor();
  return unit((x.floor() + ((fraction - 0.5) * 14).sigmoid()) / steps);
}

/// Lifted shadows, yellowed lights, and less of everything between them.
inline at::Tensor vintage(const at::Tensor& rgb) {
  return unit(saturate(rgb, 0.6) * colour(0.74, 0.66, 0.46) + colour(0.20, 0.15, 0.16));
}

inline at::Tensor moonlight(const at::Tensor& rgb) {
  const auto grey = saturate(rgb, 0.2).pow(1.15);
  return unit(grey * colour(0.46, 0.66, 0.84) + colour(0.01, 0.03, 0.06));
}

/// Drained and dark, most of all above.
inline at::Tensor storm(const at::Tensor& rgb) {
  const auto above = (1 - at::linspace(0, 1.6, rgb.size(1))).clamp_min(0).view({1, -1, 1});
  const auto drained = unit((saturate(rgb, 0.22) - 0.5) * 1.25 + 0.47) * colour(0.66, 0.72, 0.76);
  return unit(drained * (1 - 0.55 * above));
}

/// Fresh greens, and light that blossoms pink.
inline at::Tensor spring(const at::Tensor& rgb) {
  const auto grey = luma(rgb);
  const auto foliage = foliage_of(rgb);
  const auto leaf = unit(grey.clamp_min(1e-4).pow(0.75) * colour(0.72, 1.16, 0.34) + colour(0.02, 0.06, 0.0));
  const auto light = gradient_map(grey, colour(0.10, 0.16, 0.10), colour(0.78, 0.52, 0.62), colour(1.0, 0.90, 0.95));
  return unit(leaf * foliage + (0.55 * light + 0.45 * rgb.clamp_min(1e-4).pow(0.8)) * (1 - foliage));
}

inline at::Tensor desert(const at::Tensor& rgb) {
  const auto sand =
      gradient_map(luma(rgb), colour(0.26, 0.12, 0.05), colour(0.86, 0.60, 0.32), colour(1.0, 0.94, 0.76));
  return unit(0.85 * sand + 0.15 * rgb);
}

/// Cinema's colours: shadows turn teal, lights orange.
inline at::Tensor teal_and_orange(const at::Tensor& rgb) {
  const auto graded =
      gradient_map(luma(rgb), colour(0.0, 0.14, 0.20), colour(0.32, 0.50, 0.48), colour(1.0, 0.80, 0.52));
  return unit(0.62 * graded + 0.38 * saturate(rgb, 1.3) * colour(1.12, 0.96, 0.86));
}

/// Foliage turns white and blue skies dark, as on infrared film.
inline at::Tensor infrared(const at::Tensor& rgb) {
  const auto seen = 0.45 * rgb.narrow(0, 0, 1) + 1.30 * rgb.narrow(0, 1, 1) - 0.75 * rgb.narrow(0, 2, 1);
  return gradient_map(unit(seen * 1.15), colour(0.05, 0.02, 0.08), colour(0.72, 0.42, 0.52), colour(1.0, 0.96, 0.97));
}

/// Heat as a camera for it shows it, by luma.
inline at::Tensor thermal(const at::Tensor& rgb) {
  const auto grey = blur(luma(rgb), 1);
  const auto cold =
      gradient_map(unit(grey * 2), colour(0.02, 0.0, 0.20), colour(0.36, 0.0, 0.62), colour(0.88, 0.14, 0.34));
  const auto hot =
      gradient_map(unit(grey * 2 - 1), colour(0.88, 0.14, 0.34), colour(1.0, 0.62, 0.05), colour(1.0, 1.0, 0.78));
  const auto is_hot = (grey > 0.5).to(rgb.scalar_type());
  return unit(cold * (1 - is_hot) + hot * is_hot);
}

/// White lines on blue paper.
inline at::Tensor blueprint(const at::Tensor& rgb) {
  const auto line = (slope(blur(luma(rgb), 1)) * 3.0).clamp(0, 1);
  return colour(0.07, 0.22, 0.56) * (1 - line) + colour(0.90, 0.95, 1.0) * line;
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
      {"blue",
       &detail::blue,
       {"make it blue", "tint it blue", "turn it blue", "give it a blue tint", "make everything blue", "blue",
        "apply a blue filter", "as if under blue light", "color the picture blue", "make the photo blue",
        "put a blue filter on it", "tint everything blue"},
       {"blue"}},
      {"brighter",
       &detail::brighter,
       {"make it brighter", "brighten it", "make the photo lighter", "increase the brightness", "brighter",
        "turn up the exposure", "lighten the picture", "give it more light", "brighten up the image",
        "make the picture brighter", "increase the exposure", "brighten the photo"},
       {"bright", "brighter", "brighten", "brightness", "lighter", "lighten", "exposure", "light"}},
      {"darker",
       &detail::darker,
       {"make it darker", "darken it", "make the photo darker", "lower the brightness", "darker",
        "turn down the exposure", "darken the picture", "give it less light", "reduce the exposure of the image",
        "make the picture darker", "lower the exposure", "darken the photo"},
       {"darker", "darken", "brightness", "exposure", "light"}},
      {"high contrast",
       &detail::high_contrast,
       {"increase the contrast", "make it high contrast", "add contrast", "give it more contrast", "high contrast",
        "boost the contrast", "make the contrast stronger", "turn up the contrast",
        "make the photo punchy with strong contrast", "make the picture high contrast", "raise the contrast",
        "add more contrast to it"},
       {"contrast", "punchy"}},
      {"faded",
       &detail::faded,
       {"make it faded", "fade the colors", "make it look washed out", "give it a faded look", "faded",
        "wash out the picture", "make the colors pale", "lower the contrast", "turn it into a pale faded photo",
        "make the photo look faded", "make it pale and washed out", "fade the picture"},
       {"fade", "faded", "pale", "wash", "washed", "contrast"}},
      {"vivid",
       &detail::vivid,
       {"make it vivid", "make the colors vivid", "saturate the colors", "make it more colorful", "vivid",
        "boost the saturation", "make the colors pop", "give it vibrant colors", "turn up the saturation",
        "make the photo more vivid", "make the colors more vibrant", "boost the colors"},
       {"vivid", "vibrant", "saturate", "saturation", "colorful", "colourful", "colors", "colours"}},
      {"warmer",
       &detail::warmer,
       {"make it warmer", "warm up the colors", "give it a warm tone", "make the photo warm", "warmer",
        "use a warmer white balance", "add warmth", "make the light warm and cozy", "shift it to warm tones",
        "make the picture warmer", "warm the photo up", "give it warmer tones"},
       {"warm", "warmer", "warmth"}},
      {"cooler",
       &detail::cooler,
       {"make it cooler", "cool down the colors", "give it a cool tone", "make the photo cold", "cooler",
        "use a cooler white balance", "add a cold tone", "make the light cold and icy", "shift it to cool tones",
        "make the picture cooler", "cool the photo down", "give it cooler tones"},
       {"cool", "cooler", "cold", "icy"}},
      {"vignette",
       &detail::vignette,
       {"add a vignette", "darken the corners", "give it a vignette", "put a dark vignette around it", "vignette",
        "make the edges darker", "darken the edges of the photo", "fade the corners to black", "add dark corners",
        "put a vignette on it", "make the corners dark", "add a dark vignette"},
       {"vignette", "corners", "edges"}},
      {"blurred background",
       &detail::blurred_background,
       {"blur the background", "make the background blurry", "give it a blurred background",
        "put the background out of focus", "blurred background", "add depth of field",
        "make it a portrait with a soft background", "defocus the background", "focus on the subject and blur the rest",
        "make the background soft", "blur out the background", "add a blurry background"},
       {"blur", "blurry", "blurred", "background", "focus", "defocus", "depth"}},
      {"pop art",
       &detail::pop_art,
       {"make it pop art", "turn it into pop art", "as a pop art poster", "in the style of andy warhol", "pop art",
        "give it a pop art look", "make it look like a warhol print", "paint it as pop art",
        "make the picture a bright pop art print", "as a pop art print", "convert it to pop art",
        "make it a warhol poster"},
       {"pop", "warhol"}},
      {"neon",
       &detail::neon,
       {"make it neon", "add neon lights", "turn it into neon", "give it a neon glow", "neon", "make the edges glow",
        "as neon lights in the dark", "draw it with glowing neon lines", "make it look like a neon sign",
        "make it a neon picture", "as glowing neon", "turn the picture neon"},
       {"neon", "glow"}},
      {"oil painting",
       &detail::oil_painting,
       {"make it an oil painting", "turn it into an oil painting", "paint it in oil", "as an oil painting",
        "oil painting", "make it look like oil on canvas", "convert the photo to an oil painting",
        "paint it with thick oil colors", "turn the picture into a classic oil painting", "as oil on canvas",
        "make the picture an oil painting", "as a thick oil painting"},
       {"oil", "canvas"}},
      {"posterized",
       &detail::posterised,
       {"posterize it", "make it posterized", "reduce the number of colors", "turn it into a poster with flat colors",
        "posterize", "use only a few flat colors", "give it a posterized look", "flatten the colors",
        "posterize the photo", "make the picture posterized", "use fewer flat colors", "posterize the colors"},
       {"poster", "posterize", "posterise", "posterized", "posterised", "flat", "flatten"}},
      {"vintage",
       &detail::vintage,
       {"make it vintage", "give it a vintage look", "make it look like the seventies", "turn it into a retro photo",
        "vintage", "apply a retro filter", "as a photo from the 1970s", "make it look like an aged polaroid",
        "add a vintage film look", "make the photo vintage", "apply a vintage filter",
        "turn it into a vintage polaroid"},
       {"vintage", "retro", "polaroid", "1970s", "seventies"}},
      {"moonlight",
       &detail::moonlight,
       {"put it in moonlight", "make it moonlit", "light it with the moon", "as if lit by the moon", "moonlight",
        "bathe it in moonlight", "make it look moonlit", "under a full moon", "give it pale moonlight",
        "make the scene moonlit", "in the light of the moon", "in pale moonlight"},
       {"moon", "moonlight", "moonlit"}},
      {"storm",
       &detail::storm,
       {"make it stormy", "add a storm", "put it in a storm", "make the weather stormy", "storm",
        "give it dark storm clouds", "as if a thunderstorm is coming", "turn it into a gloomy rainy day",
        "make it look like before a thunderstorm", "make it a stormy day", "add a thunderstorm",
        "make the scene stormy"},
       {"storm", "stormy", "thunderstorm", "gloomy", "rainy"}},
      {"spring",
       &detail::spring,
       {"make it spring", "change the season to spring", "as if it were spring", "add spring blossoms", "spring",
        "make everything bloom", "turn the season to springtime", "give it fresh spring colors",
        "make it a fresh spring day", "make it springtime", "in spring with blossoms", "make the season spring"},
       {"spring", "springtime", "blossoms", "bloom"}},
      {"desert",
       &detail::desert,
       {"make it a desert", "turn it into a desert", "put it in the desert", "cover it in sand", "desert",
        "make it sandy", "as if it were in the sahara", "make it dry and dusty", "turn the place into a sandy desert",
        "make it look like a desert", "cover everything in sand", "put the scene in the desert"},
       {"desert", "sand", "sandy", "sahara", "dusty"}},
      {"teal and orange",
       &detail::teal_and_orange,
       {"make it teal and orange", "give it a cinematic look", "apply a teal and orange grade",
        "color grade it like a movie", "teal and orange", "make it cinematic", "make it look like a film still",
        "give it hollywood colors", "grade it in teal and orange", "make the photo teal and orange",
        "give it cinematic colors", "color it like a movie"},
       {"teal", "cinematic", "movie", "hollywood", "film"}},
      {"infrared",
       &detail::infrared,
       {"make it infrared", "turn it into an infrared photo", "as infrared film", "show it in infrared", "infrared",
        "make the leaves white like infrared", "apply an infrared filter", "shoot it with an infrared camera",
        "give it an infrared look", "make the photo infrared", "convert it to infrared", "as an infrared picture"},
       {"infrared"}},
      {"thermal",
       &detail::thermal,
       {"make it thermal", "show it in thermal vision", "as a heat map", "as seen by a thermal camera", "thermal",
        "turn it into a heat map", "give it thermal colors", "show how hot it is", "use a thermal camera on it",
        "make it a heat map", "convert it to thermal vision", "make it a thermal picture"},
       {"thermal", "heat", "hot"}},
      {"blueprint",
       &detail::blueprint,
       {"make it a blueprint", "turn it into a blueprint", "as a blueprint", "draw it as a technical plan", "blueprint",
        "make it white lines on blue paper", "convert the photo to a blueprint", "show it as an architect's blueprint",
        "make it look like a blueprint", "as a blueprint drawing", "convert it into a blueprint",
        "make the picture a blueprint"},
       {"blueprint", "plan"}},
  };
  return families;
}

/// The families with these names; all without any.
inline std::vector<EditFamily> chosen_families(const std::vector<std::string>& names) {
  std::vector<EditFamily> families;
  for (const auto& family : edit_families()) {
    if (names.empty() || std::find(names.begin(), names.end(), family.name) != names.end()) families.push_back(family);
  }
  return families;
}

}  // namespace small_editor
