#pragma once

/// \file
/// The laws of `ConditioningDropoutPolicy`.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

#include "ip2p/testing/law.hpp"
#include "ip2p/train/dropout.hpp"

namespace ip2p::testing {

/// Fractions of samples that lose something.
struct DropoutShares {
  double text = 0.0;   ///< Only the instruction.
  double both = 0.0;   ///< Both.
  double image = 0.0;  ///< Only the image.
};

/// The answers for `count` midpoints of equal parts of [0, 1), and for both ends.
template <class Dropout>
std::vector<Dropped> dropout_answers(const Dropout& dropout, std::int64_t count) {
  std::vector<double> asked;
  for (std::int64_t i = 0; i < count; ++i) {
    asked.push_back((static_cast<double>(i) + 0.5) / static_cast<double>(count));
  }
  asked.insert(asked.end(), {0.0, std::nextafter(1.0, 0.0)});
  std::vector<Dropped> answers;
  for (const double u : asked) {
    try {
      answers.push_back(dropout.drop(u));
    } catch (const std::exception& error) {
      expect_law(false, "ConditioningDropoutPolicy", "drop(u) is defined for every u in [0, 1)",
                 "drop({}) throws \"{}\"", u, error.what());
    }
  }
  return answers;
}

/// Throws `Error` naming the first law of `ConditioningDropoutPolicy` that `dropout` breaks, over 10000 numbers.
template <class Dropout>
void check_dropout(const Dropout& dropout) {
  require_dropout_policy<Dropout>();
  const auto answers = dropout_answers(dropout, 10'000), again = dropout_answers(Dropout(dropout), 10'000);
  const auto text = [](const Dropped& dropped) {
    return dropped.text && dropped.image ? "both" : dropped.text ? "the text" : dropped.image ? "the image" : "nothing";
  };
  for (std::size_t i = 0; i < answers.size(); ++i) {
    expect_law(answers[i] == again[i], "ConditioningDropoutPolicy", "drop(u) is a function of u",
               "number {} lost {} and then {}", i, text(answers[i]), text(again[i]));
  }
}

/// As above, and checks that the fractions lost are those promised (to 1 in 5000).
template <class Dropout>
void check_dropout(const Dropout& dropout, const DropoutShares& shares) {
  check_dropout(dropout);
  DropoutShares found;
  const auto answers = dropout_answers(dropout, 10'000);
  for (std::size_t i = 0; i < 10'000; ++i) {
    const auto& [text, image] = answers[i];
    (text && image ? found.both : text ? found.text : found.image) += text || image ? 1e-4 : 0.0;
  }
  const auto near = [](double a, double b) { return std::abs(a - b) <= 2e-4; };
  expect_law(near(found.text, shares.text) && near(found.both, shares.both) && near(found.image, shares.image),
             "ConditioningDropoutPolicy", "each conditioning is lost as often as promised",
             "expected text alone {:.4f}, both {:.4f}, image alone {:.4f}, found {:.4f}, {:.4f}, {:.4f}", shares.text,
             shares.both, shares.image, found.text, found.both, found.image);
}

}  // namespace ip2p::testing
