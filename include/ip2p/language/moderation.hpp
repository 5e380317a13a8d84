#pragma once

/// \file
/// The ModerationPolicy concept, which decides which triplets stay out of a training set, and the built-in policies.
///
/// Laws: pure; the verdict on a triplet does not depend on other triplets.

#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/language/triplets.hpp"

namespace ip2p {

/// `allows(triplet)` says whether a triplet may stay. A policy backed by a service throws `Error` when it cannot tell.
template <class Policy>
concept ModerationPolicy = requires(const Policy& policy, const Triplet& triplet) {
  { policy.allows(triplet) } -> std::convertible_to<bool>;
};

/// Stops compilation with one sentence unless `Policy` is a `ModerationPolicy`.
template <class Policy>
consteval void require_moderation() {
  static_assert(ModerationPolicy<Policy>,
                "ip2p: ModerationPolicy needs `bool allows(const Triplet&) const`; see "
                "docs/reference/concepts.md#moderationpolicy");
}

/// Lets everything through.
struct NoModeration {
  /// Always true.
  bool allows(const Triplet&) const { return true; }
};
static_assert(ModerationPolicy<NoModeration>);

/// Rejects triplets whose instruction or edited caption contains one of the words, as a whole word and ignoring case. A
/// word list is no substitute for judgement: it is the minimum for a set that will be published.
class BlockedWords {
 public:
  /// \throws Error for a word without letters or digits
  explicit BlockedWords(const std::vector<std::string>& words) {
    for (const auto& word : words) {
      words_.push_back(spaced(word));
      require(words_.back().size() > 2, "blocked words: expected letters or digits, found '{}'", word);
    }
  }

  /// Whether neither the instruction nor the edited caption holds a blocked word.
  [[nodiscard]] bool allows(const Triplet& triplet) const {
    const auto texts = spaced(triplet.instruction) + spaced(triplet.edited);
    for (const auto& word : words_) {
      if (texts.find(word) != std::u32string::npos) return false;
    }
    return true;
  }

 private:
  /// Normalises to " some words ": lower case, each run of anything but letters, numbers and marks as one space.
  static std::u32string spaced(std::string_view text) {
    std::u32string result = U" ";
    for (const char32_t c : detail::lower(detail::nfc(detail::decode_utf8(text, InvalidUtf8::replace)))) {
      if (detail::is_letter(c) || detail::is_number(c) || detail::combining_class(c) != 0) {
        result += c;
      } else if (result.back() != U' ') {
        result += U' ';
      }
    }
    if (result.back() != U' ') result += U' ';
    return result;
  }

  std::vector<std::u32string> words_;
};
static_assert(ModerationPolicy<BlockedWords>);

}  // namespace ip2p
