#pragma once

/// \file
/// The objective that Text2LIVE minimises: the losses of a layer over pictures, given texts and random draws.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/text2live/augmentations.hpp"
#include "ip2p/text2live/clip_guide.hpp"
#include "ip2p/text2live/edit_layer.hpp"
#include "ip2p/text2live/losses.hpp"

namespace ip2p {

/// The texts of an edit.
struct Text2LiveTexts {
  std::string edited{};  ///< Describes the edited picture: "a golden horse".
  std::string source{};  ///< Describes the original picture: "a horse".
  std::string layer{};   ///< Describes the layer alone; empty: `edited`.
  std::string region{};  ///< What to edit in the picture: "horse"; empty: left to the other losses.
};

/// Sentences into which a text is inserted, as in the released code.
inline constexpr std::array<std::string_view, 14> picture_templates{"photo of {}.",
                                                                    "high quality photo of {}.",
                                                                    "a photo of {}.",
                                                                    "the photo of {}.",
                                                                    "image of {}.",
                                                                    "an image of {}.",
                                                                    "high quality image of {}.",
                                                                    "a high quality image of {}.",
                                                                    "the {}.",
                                                                    "a {}.",
                                                                    "{}.",
                                                                    "{}",
                                                                    "{}!",
                                                                    "{}..."};
/// Sentences about a layer before a green screen.
inline constexpr std::array<std::string_view, 2> screen_templates{"{} over a green screen.",
                                                                  "{} in front of a green screen."};

/// Inserts a text into templates. \param templates with {} where the text goes
inline std::vector<std::string> in_templates(const std::string& text, std::span<const std::string_view> templates) {
  std::vector<std::string> all;
  for (const auto pattern : templates) {
    all.push_back(std::string(pattern).replace(pattern.find("{}"), 2, text));
  }
  return all;
}

/// Views for the losses of one picture.
struct JudgeDraws {
  std::vector<ViewDraws> edited, before, after, screen;  ///< Of the result; of input and result; of the layer.
};

/// Everything that an update draws except the pictures: the templates to use, with repetition, and each picture's
/// views.
struct ObjectiveDraws {
  std::vector<std::int64_t> edited, direction, screen;  ///< Indices of templates.
  std::vector<JudgeDraws> pictures;
};

/// The losses of layers over pictures for an edit's texts, measured by a guide. Pure: random draws are arguments.
class Text2LiveObjective {
 public:
  /// \throws Error for missing texts, and for weights and views out of range
  Text2LiveObjective(ClipGuide guide, const Text2LiveTexts& texts, const Text2LiveWeights& weights = {},
                     const ClipViews& views = {})
      : guide_(std::move(guide)), weights_(weights), views_(views) {
    require(!texts.edited.empty(), "Text2Live: texts: edited: expected what the edited picture shows, found nothing");
    require(!texts.source.empty(), "Text2Live: texts: source: expected what the picture shows, found nothing");
    weights_.validate();
    views_.validate();
    edited_ = guide_.text_features(in_templates(texts.edited, picture_templates));
    source_ = guide_.text_features(in_templates(texts.source, picture_templates));
    screen_ = guide_.text_features(in_templates(texts.layer.empty() ? texts.edited : texts.layer, screen_templates));
    if (!texts.region.empty()) region_ = guide_.text_features({&texts.region, 1});
  }

  /// The judge.
  [[nodiscard]] const ClipGuide& guide() const { return guide_; }
  /// What each loss counts.
  [[nodiscard]] const Text2LiveWeights& weights() const { return weights_; }

  /// Draws what one update needs. \param pictures their sizes, in order
  [[nodiscard]] ObjectiveDraws draw(const std::vector<Size>& pictures, SampleRandom& random) const {
    const auto some = [&](const at::Tensor& texts) {
      const auto count = 1 + random.below(texts.size(0));
      std::vector<std::int64_t> places;
      for (std::int64_t i = 0; i < count; ++i) places.push_back(random.below(texts.size(0)));
      return places;
    };
    ObjectiveDraws draws;
    draws.edited = some(edited_);
    draws.direction = some(edited_);
    draws.screen = some(screen_);
    for (const auto& picture : pictures) {
      const auto views = [&] { return views_.draw(picture, guide_.view_size(picture), random); };
      JudgeDraws judged;
      for (auto* of : {&judged.edited, &judged.before, &judged.after, &judged.screen}) *of = views();
      draws.pictures.push_back(std::move(judged));
    }
    return draws;
  }

  /// Each loss is the mean over the pictures.
  /// \param pictures [1, 3, H, W] in [0, 1] each  \param layers of the same sizes  \param step 0-based
  /// \throws Error when the numbers of pictures, layers and draws differ or are 0
  [[nodiscard]] Text2LiveTerms operator()(const std::vector<at::Tensor>& pictures, const std::vector<EditLayer>& layers,
                                          const ObjectiveDraws& draws, std::int64_t step) const {
    require(!pictures.empty() && pictures.size() == layers.size() && pictures.size() == draws.pictures.size(),
            "Text2Live: expected as many layers and draws as pictures, at least one, found {}, {} and {}",
            layers.size(), draws.pictures.size(), pictures.size());
    const double bootstrap = region_.defined() ? weights_.bootstrap_at(step) : 0.0;
    Text2LiveTerms terms;
    const auto add = [&](at::Tensor& term, const at::Tensor& value) {
      const auto share = value / static_cast<double>(pictures.size());
      term = term.defined() ? term + share : share;
    };
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      const auto& picture = pictures[i];
      const auto& layer = layers[i];
      const auto& drawn = draws.pictures[i];
      const auto result = layer.over(picture);
      const auto seen = [&](const at::Tensor& of, const std::vector<ViewDraws>& views) {
        return guide_.features(views_.apply(of, guide_.view_size(size_of(of)), views));
      };
      if (weights_.structure > 0) {
        add(terms.structure, structure_distance(guide_.self_similarity(result),
                                                without_gradients([&] { return guide_.self_similarity(picture); })));
      }
      if (weights_.composition > 0) {
        add(terms.edited, spherical_distance(seen(result, drawn.edited), rows(edited_, draws.edited)));
        const auto before = without_gradients([&] { return seen(picture, drawn.before); });
        add(terms.direction,
            direction_distance(seen(result, drawn.after) - before, rows(edited_ - source_, draws.direction)));
      }
      if (weights_.screen > 0) {
        add(terms.screen, spherical_distance(seen(layer.on_green_screen(), drawn.screen), rows(screen_, draws.screen)));
      }
      if (weights_.sparsity > 0) add(terms.sparsity, opacity_cost(layer.alpha, weights_.alpha_l1, weights_.alpha_l0));
      if (bootstrap > 0) add(terms.bootstrap, bootstrap_loss(picture, layer));
    }
    terms.total = at::zeros({}, at::TensorOptions().device(pictures.front().device()));
    for (const auto& [term, weight] :
         std::initializer_list<std::pair<at::Tensor, double>>{{terms.structure, weights_.structure},
                                                              {terms.edited, weights_.composition},
                                                              {terms.direction, weights_.composition},
                                                              {terms.screen, weights_.screen},
                                                              {terms.sparsity, weights_.sparsity},
                                                              {terms.bootstrap, bootstrap}}) {
      if (term.defined()) terms.total = terms.total + weight * term;
    }
    return terms;
  }

 private:
  template <class Make>
  static at::Tensor without_gradients(Make&& make) {
    const at::NoGradGuard no_grad;
    return make();
  }

  static at::Tensor rows(const at::Tensor& features, const std::vector<std::int64_t>& places) {
    const auto index = at::tensor(at::ArrayRef<std::int64_t>(places), at::kLong);
    return features.index_select(0, detail::to_device(index, features.device()));
  }

  /// Distance between the layer's opacity and CLIP's relevance map of the region, both at CLIP's input size.
  [[nodiscard]] at::Tensor bootstrap_loss(const at::Tensor& picture, const EditLayer& layer) const {
    const Size square{guide_.side(), guide_.side()};
    return at::mse_loss(bilinear(layer.alpha, square), guide_.relevance(bilinear(picture, square), region_));
  }

  ClipGuide guide_;
  Text2LiveWeights weights_;
  ClipViews views_;
  at::Tensor edited_, source_, screen_, region_;
};

}  // namespace ip2p
