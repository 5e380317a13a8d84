#pragma once

/// \file
/// Data augmentation: renames words of a caption consistently in all three texts.

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/sample_random.hpp"
#include "ip2p/io/ascii.hpp"
#include "ip2p/language/triplets.hpp"

namespace make_triplets {

inline bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline char upper_ascii(char c) { return static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c); }

/// A model that starts from nothing must learn to copy a caption, and it memorises 700 captions before that.
/// Words that change in every epoch leave nothing to memorise but the copying.
class Renaming {
 public:
  /// \param share of a caption's words that are renamed, in [0, 1]
  Renaming(std::span<const ip2p::Triplet> triplets, double share) : share_(share) {
    std::set<std::string> words;
    for (const auto& triplet : triplets) {
      for (const auto& word : words_of(triplet.caption)) words.insert(word);
    }
    words_.assign(words.begin(), words.end());
  }

  [[nodiscard]] ip2p::Triplet operator()(ip2p::Triplet triplet, ip2p::SampleRandom& random) const {
    if (share_ == 0 || words_.empty()) return triplet;
    std::map<std::string, std::string> names;
    for (const auto& word : words_of(triplet.caption)) {
      if (random.uniform() >= share_) continue;
      names[word] = words_[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(words_.size())))];
    }
    for (auto* text : {&triplet.caption, &triplet.instruction, &triplet.edited}) *text = renamed(*text, names);
    return triplet;
  }

 private:
  /// Calls `use(text, is_word)` for the runs of ASCII letters of at least three and what stands between them.
  template <class Use>
  static void for_each_part(std::string_view text, Use&& use) {
    for (std::size_t i = 0; i < text.size();) {
      const bool letters = is_ascii_letter(text[i]);
      std::size_t end = i;
      while (end < text.size() && is_ascii_letter(text[end]) == letters) ++end;
      use(text.substr(i, end - i), letters && end - i >= 3);
      i = end;
    }
  }

  static std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    for_each_part(text, [&](std::string_view part, bool word) {
      if (word) words.push_back(ip2p::detail::lower_ascii(part));
    });
    return words;
  }

  static std::string renamed(std::string_view text, const std::map<std::string, std::string>& names) {
    std::string result;
    for_each_part(text, [&](std::string_view part, bool word) {
      const auto found = word ? names.find(ip2p::detail::lower_ascii(part)) : names.end();
      std::string name(found == names.end() ? std::string(part) : found->second);
      if (found != names.end() && part[0] != ip2p::detail::lower_ascii(part[0])) name[0] = upper_ascii(name[0]);
      result += name;
    });
    return result;
  }

  double share_;
  std::vector<std::string> words_;
};

}  // namespace make_triplets
