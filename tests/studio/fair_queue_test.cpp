#include "fair_queue.hpp"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

using Queue = studio::FairQueue<std::string>;

const auto never = [](const std::string&, const std::string&) { return false; };
/// Items of one kind, their first letter, go together.
const auto kind = [](const std::string& a, const std::string& b) { return a.front() == b.front(); };

std::vector<std::string> all_in_turn(Queue& queue) {
  std::vector<std::string> order;
  while (!queue.empty()) order.push_back(queue.take(1, never).front());
  return order;
}

}  // namespace

TEST_CASE("Clients take turns, however much one of them sends", "[studio]") {
  Queue queue(100, 100);
  queue.push("a", "1", {"a1", "a2", "a3"});
  queue.push("a", "2", {"a4"});
  queue.push("b", "3", {"b1", "b2"});
  queue.push("c", "4", {"c1"});
  CHECK(all_in_turn(queue) == std::vector<std::string>{"a1", "b1", "c1", "a2", "b2", "a3", "a4"});
}

TEST_CASE("The queue is bounded, in all and for each client", "[studio]") {
  Queue queue(3, 2);
  CHECK(queue.push("a", "1", {"x", "y", "z"}) == studio::Room::enough);
  CHECK(queue.push("a", "2", {"x"}) == studio::Room::enough);
  CHECK(queue.room("a") == studio::Room::client_full);
  CHECK(queue.push("a", "3", {"x"}) == studio::Room::client_full);
  CHECK(queue.push("b", "4", {"x"}) == studio::Room::enough);
  CHECK(queue.push("c", "5", {"x"}) == studio::Room::queue_full);
  CHECK(queue.size() == 3);
  CHECK(queue.remove("1"));
  CHECK(queue.push("c", "5", {"x"}) == studio::Room::enough);
}

TEST_CASE("What goes together is taken together, a turn a client, and nobody waits for it", "[studio]") {
  Queue queue(100, 100);
  queue.push("a", "1", {"s1", "s2", "s3"});
  queue.push("b", "2", {"t1", "s4"});
  queue.push("c", "3", {"s5"});
  CHECK(queue.take(4, kind) == std::vector<std::string>{"s1", "s4", "s5", "s2"});
  CHECK(queue.take(4, kind) == std::vector<std::string>{"t1"});  // b was not served first, so its turn is next
  CHECK(queue.take(4, kind) == std::vector<std::string>{"s3"});
  CHECK(queue.empty());
  CHECK(queue.take(4, kind).empty());
}

TEST_CASE("The position is the number of entries that are served before", "[studio]") {
  std::mt19937 random(7);
  for (int run = 0; run < 200; ++run) {
    Queue queue(1000, 1000);
    std::map<std::string, std::size_t> promised;
    for (int i = 0; i < 12; ++i) {
      const auto id = std::to_string(i);
      queue.push(std::string(1, static_cast<char>('a' + random() % 4)), id, {id});
      if (random() % 4 == 0) queue.take(1, never);
    }
    for (int i = 0; i < 12; ++i) {
      const auto id = std::to_string(i);
      if (const auto position = queue.position(id)) promised[id] = *position;
    }
    const auto order = all_in_turn(queue);
    REQUIRE(order.size() == promised.size());
    for (std::size_t i = 0; i < order.size(); ++i) REQUIRE(promised.at(order[i]) == i);
  }
}

TEST_CASE("An entry that is removed is not served", "[studio]") {
  Queue queue(10, 10);
  queue.push("a", "1", {"x1", "x2"});
  queue.push("b", "2", {"y"});
  CHECK(queue.take(1, never).front() == "x1");
  CHECK(queue.remove("1"));
  CHECK_FALSE(queue.remove("1"));
  CHECK_FALSE(queue.position("1"));
  CHECK(all_in_turn(queue) == std::vector<std::string>{"y"});
}
