#include "ip2p/train/checkpoint_writer.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;
using namespace std::chrono_literals;
using ip2p::testing::ScratchDir;

namespace {

Checkpoint of(std::int64_t step, const at::Tensor& weight) { return {step, {{"weight", weight}}, {{"note", "x"}}}; }

/// Tries for ten seconds until `condition()` holds.
template <class Condition>
bool eventually(Condition&& condition) {
  for (int i = 0; i < 10000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

/// What is written to the standard error while `work` runs.
template <class Work>
std::string errors_of(Work&& work) {
  const ScratchDir scratch;
  std::FILE* file = std::fopen((scratch / "errors").c_str(), "w+");
  std::fflush(stderr);
  const int old = dup(STDERR_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  work();
  std::fflush(stderr);
  dup2(old, STDERR_FILENO);
  close(old);
  std::string text(1000, '\0');
  std::rewind(file);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

}  // namespace

TEST_CASE("Copies through one block keep values, dtype and strides", "[train]") {
  const auto block = at::empty({1 << 16}, at::kByte);
  const auto weight = at::randn({6, 5, 3, 3});
  for (const auto& tensor : {weight, weight.contiguous(at::MemoryFormat::ChannelsLast), weight.to(at::kHalf),
                             weight.to(at::kDouble), weight.to(at::kLong), at::full({}, 3.0), at::empty({0, 4}),
                             at::randn({4, 7}).t(), at::randn({9, 4}).narrow(0, 3, 2)}) {
    const auto copy = ip2p::detail::HostCopies::through(tensor, block);
    CHECK(copy.scalar_type() == tensor.scalar_type());
    CHECK(copy.strides() == tensor.strides());
    CHECK(copy.equal(tensor));
    CHECK_FALSE(copy.is_alias_of(tensor));
    CHECK_FALSE(copy.is_alias_of(block));
  }
  ip2p::detail::HostCopies host_copy;
  const auto plain = host_copy(weight);
  CHECK(plain.equal(weight));
  CHECK_FALSE(plain.is_alias_of(weight));
  CHECK_FALSE(host_copy({}).defined());
}

TEST_CASE("CheckpointWriter returns before anything is written, and writes what it was given", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path());
  std::promise<void> gate;
  const auto open = gate.get_future().share();
  CheckpointWriter writer([&](const Checkpoint& checkpoint) {
    open.wait();
    folder.save(checkpoint);
  });
  auto weight = at::full({3}, 1.0);
  writer.save(of(1, weight));
  CHECK(folder.steps().empty());  // so the call did not wait for the file
  weight.fill_(2.0);              // and training continues
  writer.check();
  CHECK(folder.steps().empty());
  gate.set_value();
  writer.wait();
  const auto written = folder.load_newest();
  REQUIRE(written.has_value());
  CHECK(written->step == 1);
  CHECK(written->state == nlohmann::json{{"note", "x"}});
  CHECK(written->tensors.at("weight").equal(at::full({3}, 1.0)));
}

TEST_CASE("CheckpointWriter writes one checkpoint at a time, in order, and waits for the one before", "[train]") {
  std::promise<void> gate;
  const auto open = gate.get_future().share();
  std::atomic<int> at_work = 0, most = 0;
  std::vector<std::int64_t> order;
  CheckpointWriter writer([&](const Checkpoint& checkpoint) {
    most = std::max<int>(most, ++at_work);
    open.wait();
    order.push_back(checkpoint.step);
    --at_work;
  });
  const auto weight = at::full({3}, 1.0);
  writer.save(of(1, weight));
  auto second = std::async(std::launch::async, [&] { writer.save(of(2, weight)); });
  CHECK(second.wait_for(50ms) == std::future_status::timeout);
  gate.set_value();
  second.get();
  writer.save(of(3, weight));
  writer.wait();
  CHECK(order == std::vector<std::int64_t>{1, 2, 3});
  CHECK(most == 1);
}

TEST_CASE("If a checkpoint could not be written, the next call throws the error, once", "[train]") {
  std::vector<std::int64_t> written;
  bool broken = true;
  CheckpointWriter writer([&](const Checkpoint& checkpoint) {
    if (broken) throw_error("cannot write checkpoint of step {}", checkpoint.step);
    written.push_back(checkpoint.step);
  });
  const auto weight = at::full({3}, 1.0);
  SECTION("from save, which then begins nothing") {
    writer.save(of(1, weight));
    CHECK_THROWS_WITH(writer.save(of(2, weight)), "cannot write checkpoint of step 1");
  }
  SECTION("from wait") {
    writer.save(of(1, weight));
    CHECK_THROWS_WITH(writer.wait(), "cannot write checkpoint of step 1");
  }
  SECTION("from check, as soon as it is known") {
    writer.save(of(1, weight));
    std::string words;
    CHECK(eventually([&] {
      try {
        writer.check();
      } catch (const Error& error) {
        words = error.what();
      }
      return !words.empty();
    }));
    CHECK(words == "cannot write checkpoint of step 1");
  }
  CHECK_NOTHROW(writer.check());
  CHECK_NOTHROW(writer.wait());
  broken = false;
  writer.save(of(3, weight));
  writer.wait();
  CHECK(written == std::vector<std::int64_t>{3});
}

TEST_CASE("Other exceptions of a write become errors, and the last one is printed if no call follows", "[train]") {
  const auto broken = [](const Checkpoint&) { throw std::runtime_error("out of luck"); };
  const auto weight = at::full({3}, 1.0);
  CheckpointWriter writer(broken);
  writer.save(of(1, weight));
  CHECK_THROWS_AS(writer.wait(), Error);
  writer.save(of(1, weight));
  CHECK_THROWS_WITH(writer.wait(), "cannot write the checkpoint: out of luck");
  CheckpointWriter full([](const Checkpoint&) { throw std::bad_alloc(); });
  full.save(of(1, weight));
  CHECK_THROWS_AS(full.wait(), std::bad_alloc);  // which has advice of its own
  CHECK(errors_of([&] {
          CheckpointWriter last(broken);
          last.save(of(1, weight));
        }) == "cannot write the checkpoint: out of luck\n");
  CHECK(errors_of([&] {
          CheckpointWriter last([](const Checkpoint&) {});
          last.save(of(1, weight));
        }) == "");
}

TEST_CASE("The copy of a checkpoint is freed as soon as it is written, not at the next call", "[train]") {
  c10::weak_intrusive_ptr<at::TensorImpl> copy(at::full({1}, 0.0).getIntrusivePtr());
  std::atomic<bool> began = false;
  CheckpointWriter writer([&](const Checkpoint& checkpoint) {
    copy = c10::weak_intrusive_ptr<at::TensorImpl>(checkpoint.tensors.at("weight").getIntrusivePtr());
    began = true;
  });
  const auto weight = at::full({3}, 1.0);
  writer.save(of(1, weight));
  CHECK(eventually([&] { return began && copy.expired(); }));
}
