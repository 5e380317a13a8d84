#pragma once

/// \file
/// Execution by recordings: what was recorded once is repeated with other inputs.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/execution/concepts.hpp"
#include "ip2p/execution/static_inputs.hpp"

namespace ip2p {

/// Options of `Graphed`.
struct GraphedOptions {
  /// Recordings kept, >= 1; the least recently used is dropped for a new one. Each holds the activations of one
  /// evaluation, for as long as it is kept. A run needs one for each set of branches that its guidance evaluates, twice
  /// as many with `DeepCache`, and where steps are one operator each (`LatentPipeline::denoise`) one more for each
  /// change from a set to another.
  std::size_t recordings = 4;
  /// Evaluations of a kind that are done at once before it is recorded, >= 0: weights take their final form at the
  /// first, and what is used only once need not be recorded.
  std::int64_t eager_first = 2;
  /// Told once, in a sentence, each reason why something is not recorded.
  std::function<void(const std::string&)> tell = {};
};

/// What a `Graphed` and its copies have done.
struct GraphedCounts {
  std::int64_t recorded = 0;  ///< Recordings made.
  std::int64_t replayed = 0;  ///< Evaluations by a recording.
  std::int64_t eager = 0;     ///< Evaluations at once, those before a recording included.
  std::int64_t dropped = 0;   ///< Recordings dropped for others.
  std::int64_t copies = 0;    ///< Flat copies of inputs, over all replays.
};

/// Records each kind of evaluation once and repeats the recording afterwards, bit for bit.
///
/// A kind is what the evaluation's key says, the layout of its inputs, and the recorder's place. Inputs are copied into
/// buffers of the recording, results out of them. What cannot be recorded is done at once; `reason()` tells why.
///
/// Copies share their recordings, so that runs of several pipelines, one after another or in several threads, can use
/// one. Only one thread at a time records or replays.
///
/// \code
/// ip2p::Graphed<ip2p::CudaGraph> graphed;   // execution/cuda_graph.hpp
/// edit.execution = graphed;
/// \endcode
template <class Recorder>
class Graphed {
  static_assert((require_graph_recorder<Recorder>(), true));

 public:
  /// \throws Error for options out of range
  explicit Graphed(GraphedOptions options = {}, Recorder recorder = {})
      : shared_(std::make_shared<Shared>(std::move(options), std::move(recorder))) {
    require(shared_->options.recordings >= 1, "Graphed: recordings: expected at least 1, found {}",
            shared_->options.recordings);
    require(shared_->options.eager_first >= 0, "Graphed: eager_first: expected at least 0, found {}",
            shared_->options.eager_first);
  }

  /// As `evaluation.body`, by a recording if there is one.
  [[nodiscard]] std::vector<at::Tensor> evaluate(const Evaluation& evaluation) const {
    if (auto results = shared_->from_recording(evaluation)) return std::move(*results);
    return evaluation.body(evaluation.inputs);
  }

  /// Why the last evaluation that cannot be recorded cannot; empty if there was none.
  [[nodiscard]] std::string reason() const {
    const std::scoped_lock alone(shared_->mutex);
    return shared_->reason;
  }

  /// What was done so far.
  [[nodiscard]] GraphedCounts counts() const {
    const std::scoped_lock alone(shared_->mutex);
    return shared_->counts;
  }

  /// Drops all recordings and the memory that they hold.
  void clear() const {
    const std::scoped_lock alone(shared_->mutex);
    shared_->kinds.clear();
  }

 private:
  using Recording = std::remove_cvref_t<decltype(std::declval<const Recorder&>().record(
      std::declval<at::Device>(), std::declval<const std::function<std::vector<at::Tensor>()>&>()))>;

  struct Kind {
    std::string key;
    std::int64_t seen = 0;  ///< Evaluations at once.
    std::string obstacle = {};
    // The buffers outlive the recording that reads them.
    std::optional<detail::StaticInputs> inputs = {};
    std::optional<Recording> recording = {};
  };

  struct Shared {
    Shared(GraphedOptions options_, Recorder recorder_)
        : options(std::move(options_)), recorder(std::move(recorder_)) {}

    /// The results, or nothing if the work is to be done at once.
    std::optional<std::vector<at::Tensor>> from_recording(const Evaluation& evaluation) {
      auto what = evaluation.recordable ? evaluation.recordable()
                                        : Recordable{.key = {}, .obstacle = "it does not say what tells it apart"};
      if (what.obstacle.empty()) what.obstacle = obstacle_of(evaluation.inputs);
      const std::scoped_lock alone(mutex);
      if (!what.obstacle.empty()) return refused(what.obstacle);
      const auto device = evaluation.inputs.front().device();
      const detail::InputLayout layout(evaluation.inputs, evaluation.constant);
      auto& kind = kind_of(what.key + '\n' + recorder.place(device) + '\n' + layout.key(evaluation.inputs));
      if (!kind.obstacle.empty()) return refused(kind.obstacle);
      if (!kind.recording) {
        if (kind.seen++ < options.eager_first) {
          ++counts.eager;
          return std::nullopt;
        }
        try {
          record(kind, evaluation, layout, device);
        } catch (const std::exception& error) {
          // If the work itself is at fault, doing it at once tells the caller.
          kind.inputs.reset();
          kind.obstacle = fmt::format("recording failed: {}", first_line(error.what()));
          return refused(kind.obstacle);
        }
      }
      return replay(kind, evaluation, layout);
    }

    [[nodiscard]] std::string obstacle_of(const std::vector<at::Tensor>& inputs) const {
      if (inputs.empty()) return "it has no inputs";
      for (const auto& input : inputs) {
        if (input.device() != inputs.front().device()) return "its inputs are on several devices";
        if (!input.has_storage()) return "its inputs are not all plain tensors";
      }
      return recorder.obstacle(inputs.front().device());
    }

    std::nullopt_t refused(const std::string& why) {
      ++counts.eager;
      reason = why;
      if (options.tell && told.insert(why).second) {
        options.tell(fmt::format("an evaluation is not recorded, because {}", why));
      }
      return std::nullopt;
    }

    /// The kind of that key, now the most recently used.
    Kind& kind_of(const std::string& key) {
      for (auto kind = kinds.begin(); kind != kinds.end(); ++kind) {
        if (kind->key != key) continue;
        kinds.splice(kinds.begin(), kinds, kind);
        return kinds.front();
      }
      kinds.push_front({.key = key});
      // Kinds without a recording are only a key, but a process may meet any number of them.
      while (kinds.size() > options.recordings + 60) kinds.pop_back();
      return kinds.front();
    }

    void record(Kind& kind, const Evaluation& evaluation, const detail::InputLayout& layout, at::Device device) {
      std::size_t held = 1;
      for (auto other = kinds.begin(); other != kinds.end();) {
        const bool drop = other->recording && ++held > options.recordings;
        counts.dropped += drop ? 1 : 0;
        other = drop ? kinds.erase(other) : std::next(other);
      }
      kind.inputs.emplace(evaluation.inputs, layout);
      kind.inputs->fill(evaluation.inputs, layout);
      kind.recording.emplace(
          recorder.record(device, [body = evaluation.body, inputs = kind.inputs->tensors()] { return body(inputs); }));
      ++counts.recorded;
    }

    std::vector<at::Tensor> replay(Kind& kind, const Evaluation& evaluation, const detail::InputLayout& layout) {
      counts.copies += static_cast<std::int64_t>(kind.inputs->fill(evaluation.inputs, layout));
      kind.recording->replay();
      ++counts.replayed;
      std::vector<at::Tensor> results;
      for (const at::Tensor& output : kind.recording->outputs()) results.push_back(output.clone());
      return results;
    }

    static std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

    GraphedOptions options;
    Recorder recorder;
    std::mutex mutex;
    std::list<Kind> kinds;  ///< Most recently used first.
    std::set<std::string> told;
    std::string reason;
    GraphedCounts counts;
  };

  std::shared_ptr<Shared> shared_;
};

}  // namespace ip2p
