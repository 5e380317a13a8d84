#pragma once

/// \file
/// Byte-pair encoding of one word: adjacent tokens are merged in order of rank, lowest first and leftmost among equals.

#include <cstddef>
#include <cstdint>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// The merge rules of a vocabulary, over token ids.
class BytePairs {
 public:
  struct Rule {
    std::int64_t rank;  ///< Position in the list of merges; lower ranks merge first.
    std::int64_t id;    ///< The merged token.
  };

  /// Adds the rule that `left` and `right` merge into `id`. A later rule for the same pair replaces the earlier one.
  void add(std::int64_t left, std::int64_t right, Rule rule) { rules_[key(left, right)] = rule; }

  [[nodiscard]] std::size_t size() const { return rules_.size(); }

  /// Merges `word` in place until no rule applies. Each merge removes a token and queues at most two candidates, so
  /// fewer than 3n candidates are queued for n tokens, however repetitive the word. Returns the number queued.
  std::size_t merge(std::vector<std::int64_t>& word) const {
    const auto count = static_cast<std::int64_t>(word.size());
    if (count < 2) return 0;
    std::vector<std::int64_t> previous(word.size()), next(word.size());
    for (std::int64_t i = 0; i < count; ++i) {
      previous[static_cast<std::size_t>(i)] = i - 1;
      next[static_cast<std::size_t>(i)] = i + 1 < count ? i + 1 : gone;
    }
    std::priority_queue<Candidate, std::vector<Candidate>, Later> queue;
    std::size_t queued = 0;
    const auto consider = [&](std::int64_t left) {
      if (left < 0) return;
      const auto right = next[static_cast<std::size_t>(left)];
      if (right == gone) return;
      const auto found = rules_.find(key(word[static_cast<std::size_t>(left)], word[static_cast<std::size_t>(right)]));
      if (found == rules_.end()) return;
      queue.push({found->second.rank, left, found->second.id});
      ++queued;
    };
    for (std::int64_t i = 0; i + 1 < count; ++i) consider(i);

    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      const auto index = static_cast<std::size_t>(top.left);
      // A candidate is stale if one of its two tokens has been merged since; the rule found here then differs.
      if (word[index] == gone || next[index] == gone) continue;
      const auto right = static_cast<std::size_t>(next[index]);
      const auto rule = rules_.find(key(word[index], word[right]));
      if (rule == rules_.end() || rule->second.id != top.id) continue;
      word[index] = top.id;
      word[right] = gone;
      next[index] = next[right];
      if (next[index] != gone) previous[static_cast<std::size_t>(next[index])] = top.left;
      consider(previous[index]);
      consider(top.left);
    }
    std::erase(word, gone);
    return queued;
  }

 private:
  static constexpr std::int64_t gone = -1;

  struct Candidate {
    std::int64_t rank, left, id;
  };
  struct Later {
    bool operator()(const Candidate& a, const Candidate& b) const {
      return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
    }
  };

  /// Ids fit into 32 bits; this is checked when a vocabulary is opened.
  static std::uint64_t key(std::int64_t left, std::int64_t right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
  }

  std::unordered_map<std::uint64_t, Rule> rules_;
};

}  // namespace ip2p::detail
