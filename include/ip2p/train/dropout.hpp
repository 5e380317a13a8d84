#pragma once

/// \file
/// Drops conditionings of training samples, so that one model learns all three branches of guidance.

#include <concepts>

namespace ip2p {

/// What one sample loses.
struct Dropped {
  bool text = false;   ///< The instruction becomes "".
  bool image = false;  ///< The conditioning latent becomes zero.

  friend constexpr bool operator==(const Dropped&, const Dropped&) = default;
};

/// Decides from one uniform random number what a sample loses.
///
/// Laws (`ip2p::testing::check_dropout`): pure; `drop(u)` is defined for every u in [0, 1).
///
/// Skeleton:
/// \code
/// struct MyDropout {
///   ip2p::Dropped drop(double u) const;   // u uniform in [0, 1)
/// };
/// static_assert(ip2p::ConditioningDropoutPolicy<MyDropout>);
/// \endcode
template <class Dropout>
concept ConditioningDropoutPolicy = requires(const Dropout& dropout, double u) {
  { dropout.drop(u) } -> std::convertible_to<Dropped>;
};

/// Stops compilation with one sentence unless `Dropout` is a `ConditioningDropoutPolicy`.
template <class Dropout>
consteval void require_dropout_policy() {
  static_assert(ConditioningDropoutPolicy<Dropout>,
                "ip2p: ConditioningDropoutPolicy needs `Dropped drop(double u) const`; see "
                "docs/reference/concepts.md#conditioningdropoutpolicy");
}

/// Three adjacent intervals of u: text only, both, image only. The default is InstructPix2Pix's p = .05
/// (`ddpm_edit.py`): [0, .05) text, [.05, .10) both, [.10, .15) image.
struct ConditioningDropout {
  double text = 0.05;   ///< Share of samples that lose only the instruction.
  double both = 0.05;   ///< Share that loses both.
  double image = 0.05;  ///< Share that loses only the image. The three add up to at most 1.

  /// \param u uniform in [0, 1)
  [[nodiscard]] constexpr Dropped drop(double u) const {
    return {u < text + both, u >= text && u < text + both + image};
  }
};
static_assert(ConditioningDropoutPolicy<ConditioningDropout>);

/// Drops nothing.
struct NoDropout {
  /// The sample keeps both.
  [[nodiscard]] constexpr Dropped drop(double) const { return {}; }
};
static_assert(ConditioningDropoutPolicy<NoDropout>);

}  // namespace ip2p
