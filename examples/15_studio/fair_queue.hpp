#pragma once

/// \file
/// A bounded queue that takes turns between clients.

#include <algorithm>
#include <cstddef>
#include <deque>
#include <iterator>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace studio {

/// Whether something may be queued.
enum class Room {
  enough,
  queue_full,   ///< As many wait as may.
  client_full,  ///< As many of this client wait as may.
};

/// Entries of several items each, which wait until all of their items were taken. Clients take turns, an item a turn,
/// in the order in which they came; the entries of a client are served one after another.
///
/// Not for several threads at once: its owner has the lock.
template <class Item>
class FairQueue {
 public:
  /// \param most entries that wait  \param most_each entries of one client that do
  FairQueue(std::size_t most, std::size_t most_each) : most_(most), most_each_(most_each) {}

  [[nodiscard]] Room room(const std::string& client) const {
    if (size_ >= most_) return Room::queue_full;
    const auto turn = turn_of(client);
    return turn != turns_.end() && turn->entries.size() >= most_each_ ? Room::client_full : Room::enough;
  }

  /// Adds an entry, if there is room. \param id by which it is found again
  Room push(const std::string& client, std::string id, std::vector<Item> items) {
    const auto found = room(client);
    if (found != Room::enough || items.empty()) return found;
    auto turn = turn_of(client);
    if (turn == turns_.end()) turn = turns_.insert(turns_.end(), {client, {}});
    turn->entries.push_back({std::move(id), std::deque<Item>(std::make_move_iterator(items.begin()),
                                                             std::make_move_iterator(items.end()))});
    ++size_;
    return Room::enough;
  }

  /// The next item, and up to `most` - 1 of those that may go with it: again a turn a client, until nobody has one.
  /// Taking along what waits anyway costs nobody their turn. \param together(a, b): whether b may go with a
  template <class Together>
  std::vector<Item> take(std::size_t most, Together&& together) {
    std::vector<Item> taken;
    if (turns_.empty()) return taken;
    const auto any = [](const Item&) { return true; };
    const auto fits = [&](const Item& item) { return together(taken.front(), item); };
    take_of(turns_.begin(), any, taken);
    for (bool found = true; found && taken.size() < most;) {
      found = false;
      // Those that have had their turn move behind the others, so each is asked once.
      auto left = turns_.size();
      for (auto turn = turns_.begin(); left > 0 && taken.size() < most; --left) {
        const auto next = std::next(turn);
        found = take_of(turn, fits, taken) || found;
        turn = next;
      }
    }
    return taken;
  }

  /// Takes an entry out, whatever is left of it. \return whether it was there
  bool remove(const std::string& id) {
    for (auto turn = turns_.begin(); turn != turns_.end(); ++turn) {
      const auto entry = std::find_if(turn->entries.begin(), turn->entries.end(),
                                      [&](const Entry& candidate) { return candidate.id == id; });
      if (entry == turn->entries.end()) continue;
      turn->entries.erase(entry);
      --size_;
      if (turn->entries.empty()) turns_.erase(turn);
      return true;
    }
    return false;
  }

  /// How many entries would be served before this one, if a turn took a whole entry.
  [[nodiscard]] std::optional<std::size_t> position(const std::string& id) const {
    std::size_t earlier = 0;
    for (auto turn = turns_.begin(); turn != turns_.end(); ++turn) {
      const auto entry = std::find_if(turn->entries.begin(), turn->entries.end(),
                                      [&](const Entry& candidate) { return candidate.id == id; });
      if (entry == turn->entries.end()) continue;
      const auto own = static_cast<std::size_t>(entry - turn->entries.begin());
      bool passed = false;  // those after this client have had a turn less when it is this entry's
      for (auto other = turns_.begin(); other != turns_.end(); ++other) {
        if (other == turn) {
          earlier += own;
          passed = true;
        } else {
          earlier += std::min(other->entries.size(), own + (passed ? 0 : 1));
        }
      }
      return earlier;
    }
    return {};
  }

  [[nodiscard]] std::size_t size() const { return size_; }  ///< Entries.
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  struct Entry {
    std::string id;
    std::deque<Item> items;
  };
  struct Turn {
    std::string client;
    std::deque<Entry> entries;  // never empty
  };
  using Turns = std::list<Turn>;

  typename Turns::iterator turn_of(const std::string& client) {
    return std::find_if(turns_.begin(), turns_.end(), [&](const Turn& turn) { return turn.client == client; });
  }
  typename Turns::const_iterator turn_of(const std::string& client) const {
    return std::find_if(turns_.begin(), turns_.end(), [&](const Turn& turn) { return turn.client == client; });
  }

  /// Takes the client's first item that `fits`, and ends its turn. \return whether there was one
  template <class Fits>
  bool take_of(typename Turns::iterator turn, Fits&& fits, std::vector<Item>& taken) {
    for (auto entry = turn->entries.begin(); entry != turn->entries.end(); ++entry) {
      const auto item = std::find_if(entry->items.begin(), entry->items.end(), fits);
      if (item == entry->items.end()) continue;
      taken.push_back(std::move(*item));
      entry->items.erase(item);
      if (entry->items.empty()) {
        turn->entries.erase(entry);
        --size_;
      }
      if (turn->entries.empty()) {
        turns_.erase(turn);
      } else {
        turns_.splice(turns_.end(), turns_, turn);
      }
      return true;
    }
    return false;
  }

  std::size_t most_, most_each_, size_ = 0;
  Turns turns_;  // the next client first
};

}  // namespace studio
