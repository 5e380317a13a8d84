#pragma once

/// \file
/// Records the attention maps that a policy uses.

#include <ATen/ops/arange.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/attention/concepts.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/to_device.hpp"

namespace ip2p {

/// Records sums of columns of text cross-attention maps during one run. The options are a plain value, whose `start()`
/// returns the recorder for a run behind a pointer: `StoreMaps{}.start()`, `LocalBlend{...}.start()`.
///
///     bool wants(const AttentionSite& site) const;                            // asked for cross-attention only
///     at::Tensor columns(std::int64_t images, std::int64_t tokens) const;     // [images or 1, T, c]
///     void record(const AttentionSite& site, const at::Tensor& sums);         // [images, N, c], fp32
///
/// `sums` is the map [N,T] of the branch that sees the text, averaged over the heads, times the columns.
///
/// Laws: `wants` and `columns` are pure; no data carries over from one run to another. The built-in recorders throw if
/// used for a second run.
template <class Recorder>
concept AttentionRecorder = requires(Recorder& recorder, const AttentionSite& site, const at::Tensor& t,
                                     std::int64_t n) {
  { recorder.wants(site) } -> std::convertible_to<bool>;
  { recorder.columns(n, n) } -> std::convertible_to<at::Tensor>;
  recorder.record(site, t);
};

/// Fails to compile, with a one-sentence message, unless `Recorder` is an `AttentionRecorder`.
template <class Recorder>
consteval void require_attention_recorder() {
  static_assert(AttentionRecorder<Recorder>,
                "ip2p: AttentionRecorder needs `bool wants(const AttentionSite&) const`, `Tensor columns(std::int64_t "
                "images, std::int64_t tokens) const` and `void record(const AttentionSite&, const Tensor& sums)`; "
                "see docs/reference/concepts.md#attentionrecorder");
}

/// `base` with a recorder attached. Results are bit-identical to the base's.
///
/// Attention applied to a set of columns as values returns the map times those columns. If the policy is linear in the
/// values, this includes its edits. So the recorder sees the maps actually in use, and policies do not have to expose
/// them. Policies are values that get copied, so the recorded data lives behind a pointer that the caller keeps, one
/// per run. For several recorders, nest them: `Observed(Observed(base, one), other)`.
template <class Base, class Recorder>
class Observed {
  static_assert((require_attention_policy<Base>(), true));
  static_assert((require_attention_recorder<Recorder>(), true));

 public:
  /// As the base says.
  static constexpr bool uniform_over_branches = ip2p::uniform_over_branches<Base>();

  /// \throws Error without a recorder
  Observed(Base base, std::shared_ptr<Recorder> recorder) : base_(std::move(base)), recorder_(std::move(recorder)) {
    require(recorder_ != nullptr, "Observed: expected a recorder, found none");
  }

  /// q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    if (site.cross && recorder_->wants(site)) observe(site, q, k);
    return base_(site, q, k, v);
  }

  /// The policy that is watched.
  [[nodiscard]] const Base& base() const { return base_; }

 private:
  void observe(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k) const {
    const auto count = std::max<std::int64_t>(1, static_cast<std::int64_t>(site.branches.size()));
    const auto text = std::ranges::find(site.branches, true, &Branch::text);
    if (text == site.branches.end() && !site.branches.empty()) return;
    const auto block = text - site.branches.begin();
    const auto images = q.size(0) / count;
    // In fp32, because sums of 16-bit maps would accumulate rounding errors.
    // The recorder owns the columns: an observer inside of another may have its address.
    const auto columns = site.once_a_run<at::Tensor>(recorder_.get(), {count, images, k.size(2)}, [&] {
      const at::Tensor own = recorder_->columns(images, k.size(2));
      return detail::to_device(own.to(at::kFloat), q.device()).expand({images, -1, -1}).repeat({count, 1, 1});
    });
    const auto values = columns.unsqueeze(1).expand({-1, q.size(1), -1, -1});
    const at::Tensor sums = base_(site, q.to(at::kFloat), k.to(at::kFloat), values);
    recorder_->record(site, sums.narrow(0, block * images, images).mean(1));
  }

  Base base_;
  std::shared_ptr<Recorder> recorder_;
};

namespace detail {

/// Sums of recorded columns over the layers and steps of one run, separately for each map size.
class RecordedMaps {
 public:
  /// \param who names the recorder in messages
  explicit RecordedMaps(std::string_view who) : who_(who) {}

  /// Adds the sums of one layer. \param sums [images, height * width, c]
  /// \throws Error for a step of another run, or sums of another shape
  void add(const AttentionSite& site, const at::Tensor& sums) {
    const Step& step = site.step;
    if (site.memory != nullptr) {  // each run has one of its own, in which this leaves a mark
      bool begins = false;
      site.memory->once_a_run<bool>(this, {}, [&] { return begins = true; });
      require(!begins || count_ == 0,
              "{}: expected the steps of one run, found the beginning of another: start() a recorder for each run",
              who_);
    }
    require(step.index > index_ || (step.index == index_ && !ended_),
            "{}: expected the steps of one run in order, found step {} after step {}: start() a recorder for "
            "each run",
            who_, step.index, index_);
    require(count_ == 0 || step.count == count_,
            "{}: expected a run of {} steps as before, found one of {}: start() a recorder for each run", who_, count_,
            step.count);
    index_ = step.index;
    count_ = step.count;
    ended_ = false;
    const auto map = sums.transpose(1, 2).unflatten(2, {site.height, site.width});
    auto& [sum, count] = by_size_[{site.height, site.width}];
    require(!sum.defined() || sum.sizes() == map.sizes(),
            "{}: expected sums {} as before, found {}: start() a recorder for each run", who_,
            sum.defined() ? shape_text(sum.sizes()) : "", shape_text(map.sizes()));
    sum = sum.defined() ? sum.add(map) : map.clone();
    ++count;
  }

  /// Ends step `index` and the last recorded step: no more data is accepted for them.
  void end_step(std::int64_t index = -1) {
    index_ = std::max(index_, index);
    ended_ = true;
  }

  /// Mean of the maps of this size over layers and steps, [images, c, height, width]. Throws `Error` if there are none.
  [[nodiscard]] at::Tensor mean(std::int64_t height, std::int64_t width) const {
    const auto found = by_size_.find({height, width});
    if (found == by_size_.end()) {
      std::vector<std::string> sizes;
      for (const auto& [size, maps] : by_size_) sizes.push_back(fmt::format("{}x{}", size.first, size.second));
      throw_error("{}: expected cross-attention layers with maps of {}x{}, found {}", who_, height, width,
                  sizes.empty() ? "none recorded" : fmt::format("{}", fmt::join(sizes, ", ")));
    }
    return found->second.sum / found->second.count;
  }

  [[nodiscard]] std::vector<std::pair<std::int64_t, std::int64_t>> sizes() const {
    std::vector<std::pair<std::int64_t, std::int64_t>> result;
    for (const auto& [size, maps] : by_size_) result.push_back(size);
    return result;
  }

 private:
  struct Maps {
    at::Tensor sum;
    std::int64_t count = 0;
  };
  std::string_view who_;
  std::int64_t index_ = -1;  // of the last step
  std::int64_t count_ = 0;   // steps of the run; 0 before the first
  bool ended_ = false;
  std::map<std::pair<std::int64_t, std::int64_t>, Maps> by_size_;
};

}  // namespace detail

}  // namespace ip2p
