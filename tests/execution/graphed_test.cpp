#include "ip2p/execution/graphed.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include <string>
#include <thread>
#include <vector>

#include "ip2p/execution/any_execution.hpp"
#include "ip2p/execution/eager.hpp"
#include "ip2p/testing/check_execution.hpp"
#include "ip2p/testing/rerun_recorder.hpp"
#include "support/catch.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

/// Gives back the inputs of its recording as they were.
struct Stale : RerunRecorder {
  class Recording {
   public:
    explicit Recording(std::vector<at::Tensor> outputs) : outputs_(std::move(outputs)) {}
    void replay() {}
    const std::vector<at::Tensor>& outputs() const { return outputs_; }

   private:
    std::vector<at::Tensor> outputs_;
  };
  Recording record(at::Device, const std::function<std::vector<at::Tensor>()>& work) const {
    std::vector<at::Tensor> outputs;
    for (const auto& output : work()) outputs.push_back(output.clone());
    return Recording(outputs);
  }
};

/// Cannot record, as where memory is short.
struct Unable : RerunRecorder {
  Recording record(at::Device, const std::function<std::vector<at::Tensor>()>&) const {
    throw_error("no memory\nat length");
  }
};

/// Gives its results without copying them.
struct Overwriting {
  std::vector<at::Tensor> evaluate(const Evaluation& evaluation) const {
    auto results = evaluation.body(evaluation.inputs);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (i >= held->size() || (*held)[i].sizes() != results[i].sizes()) {
        held->resize(results.size());
        (*held)[i] = results[i].clone();
      } else {
        (*held)[i].copy_(results[i]);
      }
    }
    return {held->begin(), held->begin() + static_cast<std::ptrdiff_t>(results.size())};
  }
  std::shared_ptr<std::vector<at::Tensor>> held = std::make_shared<std::vector<at::Tensor>>();
};

at::Tensor first_of(const Graphed<RerunRecorder>& graphed, const Evaluation& evaluation) {
  const auto results = graphed.evaluate(evaluation);
  CHECK(same_bits(results[0], evaluation.body(evaluation.inputs)[0]));
  return results[0];
}

}  // namespace

TEST_CASE("Execution policies keep the laws", "[execution]") {
  check_execution(Eager{});
  check_execution(AnyExecution());
  check_execution(Graphed<RerunRecorder>());
  check_execution(Graphed<RerunRecorder>({.recordings = 1, .eager_first = 0}));
  check_execution(AnyExecution(Graphed<RerunRecorder>({.recordings = 8, .eager_first = 1})));
  check_execution(Graphed<Unable>());
}

TEST_CASE("The kit finds executions that break the laws", "[execution]") {
  CHECK_THROWS_WITH(check_execution(Graphed<Stale>()), Contains("the results are those of the body"));
  CHECK_THROWS_WITH(check_execution(Overwriting{}), Contains("ExecutionPolicy breaks the law"));
}

TEST_CASE("Graphed records a kind once, after evaluations at once, and replays it", "[execution]") {
  const Graphed<RerunRecorder> graphed({.eager_first = 2});
  for (std::int64_t draw = 0; draw < 6; ++draw) first_of(graphed, sample_evaluation(4, draw, at::kCPU));
  CHECK(graphed.counts().eager == 2);
  CHECK(graphed.counts().recorded == 1);
  CHECK(graphed.counts().replayed == 4);
  CHECK(graphed.reason().empty());
  // Another shape, dtype, stride and key are other kinds.
  const auto is_another_kind = [&](const Evaluation& evaluation) {
    const auto before = graphed.counts();
    first_of(graphed, evaluation);
    CHECK(graphed.counts().eager == before.eager + 1);
    CHECK(graphed.counts().replayed == before.replayed);
  };
  is_another_kind(sample_evaluation(5, 0, at::kCPU));
  auto wide = sample_evaluation(4, 0, at::kCPU);
  for (auto& input : wide.inputs) input = input.to(at::kDouble);
  is_another_kind(wide);
  auto strided = sample_evaluation(4, 0, at::kCPU);
  strided.inputs[0] = strided.inputs[0].t().contiguous().t();
  is_another_kind(strided);
  auto apart = sample_evaluation(4, 0, at::kCPU);
  apart.inputs[1] = apart.inputs[1].clone();
  is_another_kind(apart);
  auto other = sample_evaluation(4, 0, at::kCPU);
  other.recordable = [] { return Recordable{.key = "other"}; };
  is_another_kind(other);
}

TEST_CASE("Graphed copies constant inputs only when they are others", "[execution]") {
  const Graphed<RerunRecorder> graphed({.eager_first = 0});
  auto evaluation = sample_evaluation(4, 0, at::kCPU);
  first_of(graphed, evaluation);
  const auto once = graphed.counts().copies;
  for (int i = 0; i < 3; ++i) {
    evaluation.inputs[0] = evaluation.inputs[0].mul(1.5);
    first_of(graphed, evaluation);
  }
  CHECK(graphed.counts().copies == once + 3);
  // Two constant inputs in one storage are one copy.
  const auto others = sample_evaluation(4, 9, at::kCPU);
  first_of(graphed, others);
  CHECK(graphed.counts().copies == once + 5);
  CHECK(graphed.counts().recorded == 1);
  // A changing input is read each time, even if it is the same tensor.
  others.inputs[0].mul_(3.0);
  first_of(graphed, others);
  // A storage that comes where a freed one was is another.
  for (std::int64_t draw = 0; draw < 30; draw += 3) first_of(graphed, sample_evaluation(4, draw, at::kCPU));
  CHECK(graphed.counts().recorded == 1);
}

TEST_CASE("Graphed copies apart what lies far apart in one storage", "[execution]") {
  const auto large = at::arange(10000, at::kFloat);
  const Graphed<RerunRecorder> graphed({.eager_first = 0});
  const auto sum_of = [&](std::int64_t start) {
    const Evaluation evaluation{
        .inputs = {large.narrow(0, start, 4), large.narrow(0, start + 9000, 4), large.narrow(0, start, 1).expand({4}),
                   at::zeros({0})},
        .constant = 3,
        .body = [](std::span<const at::Tensor> in) { return std::vector<at::Tensor>{in[0] + in[1] + in[2]}; },
        .recordable = [] { return Recordable{.key = "sum"}; }};
    CHECK(same_bits(graphed.evaluate(evaluation)[0], evaluation.body(evaluation.inputs)[0]));
  };
  sum_of(16);
  sum_of(32);
  sum_of(64);
  CHECK(graphed.counts().recorded == 1);
  CHECK(graphed.counts().copies > 0);
}

TEST_CASE("Graphed keeps the recordings used last, within its limit", "[execution]") {
  const Graphed<RerunRecorder> graphed({.recordings = 2, .eager_first = 0});
  const auto use = [&](std::int64_t rows) { first_of(graphed, sample_evaluation(rows, rows, at::kCPU)); };
  use(4);
  use(5);
  use(4);
  CHECK(graphed.counts().recorded == 2);
  use(6);  // in place of 5
  CHECK(graphed.counts().dropped == 1);
  use(4);
  CHECK(graphed.counts().recorded == 3);
  use(5);
  CHECK(graphed.counts().recorded == 4);
  CHECK(graphed.counts().dropped == 2);
  graphed.clear();
  use(5);
  CHECK(graphed.counts().recorded == 5);
  CHECK_THROWS_WITH(Graphed<RerunRecorder>({.recordings = 0}), Contains("recordings: expected at least 1, found 0"));
  CHECK_THROWS_WITH(Graphed<RerunRecorder>({.eager_first = -1}), Contains("eager_first"));
}

TEST_CASE("Graphed says once why something is not recorded", "[execution]") {
  std::vector<std::string> told;
  const GraphedOptions options{.tell = [&](const std::string& sentence) { told.push_back(sentence); }};
  const Graphed<RerunRecorder> graphed(options);
  for (int i = 0; i < 3; ++i) first_of(graphed, sample_evaluation(4, i, at::kCPU, "gradients are enabled"));
  CHECK(told == std::vector<std::string>{"an evaluation is not recorded, because gradients are enabled"});
  CHECK(graphed.reason() == "gradients are enabled");
  CHECK(graphed.counts().eager == 3);
  auto silent = sample_evaluation(4, 0, at::kCPU);
  silent.recordable = nullptr;
  first_of(graphed, silent);
  CHECK(told.size() == 2);

  told.clear();
  const Graphed<Unable> unable(options);
  for (int i = 0; i < 5; ++i) {
    const auto evaluation = sample_evaluation(4, i, at::kCPU);
    CHECK(same_bits(unable.evaluate(evaluation)[0], evaluation.body(evaluation.inputs)[0]));
  }
  CHECK(told == std::vector<std::string>{"an evaluation is not recorded, because recording failed: no memory"});
  CHECK(unable.counts().recorded == 0);
}

TEST_CASE("Several threads can share a Graphed", "[execution]") {
  const Graphed<RerunRecorder> graphed({.recordings = 2, .eager_first = 1});
  std::vector<char> right(4, 1);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < right.size(); ++t) {
    threads.emplace_back([&, t] {
      const at::NoGradGuard no_grad;
      for (std::int64_t i = 0; i < 40; ++i) {
        const auto evaluation = sample_evaluation(4 + i % 3, static_cast<std::int64_t>(t) * 40 + i, at::kCPU);
        const auto results = graphed.evaluate(evaluation);
        if (!same_bits(results[0], evaluation.body(evaluation.inputs)[0])) right[t] = 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(right == std::vector<char>(4, 1));
  CHECK(graphed.counts().replayed + graphed.counts().eager == 160);
}
