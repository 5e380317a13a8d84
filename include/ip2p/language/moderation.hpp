#pragma once

/// \file
/// Contract of moderation: which triplets are kept out of a training set, and the policies that ship.
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

/// `allows(triplet)` says whether a triplet may stay. A service behind it throws `Error` where it cannot tell.
template <class Policy>
concept ModerationPolicy = requires(const Policy& policy, const Triplet& triplet) {
  { policy.allows(triplet) } -> std::convertible_to<bool>;
};

/// Explains in one line what a moderation policy lacks.
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

/// Withholds triplets whose instruction or edited caption holds one of the words, in any case and apart from letters
/// and digits beside it. A list of words is no judgement: it is the least that a set for publication needs.
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
  /// " some words ": lower case, everything but letters, numbers and marks as one blank.
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
