#pragma once

/// \file
/// The OptimiserPolicy concept, which turns gradients into new weights.
///
/// Skeleton of your own optimiser:
///
///     class Momentum {
///      public:
///       struct Options { double beta = 0.9; };
///       Momentum(std::vector<at::Tensor> parameters, Options options);
///       void step(double rate);                           // one update from the parameters' gradients
///       void zero_gradients();                            // none remain until the next backward pass
///       std::vector<ip2p::OptimiserState> state() const;  // {{"velocity", one tensor per parameter}}
///     };
///     static_assert(ip2p::OptimiserPolicy<Momentum>);     // then: ip2p::testing::check_optimiser<Momentum>()

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// One kind of tensor in an optimiser's state.
struct OptimiserState {
  std::string name;  ///< Such as "first_moment"; prefix of its tensors in a checkpoint.
  std::vector<at::Tensor>
      tensors;  ///< One per parameter, in order, shared with the optimiser; undefined if there is none.
};

namespace detail {

template <class Optimiser>
concept HasOptimiserOptions = requires {
  typename Optimiser::Options;
  requires std::default_initializable<typename Optimiser::Options>;
  requires std::copyable<typename Optimiser::Options>;
};

template <class Optimiser>
concept MadeFromParameters = HasOptimiserOptions<Optimiser> &&
    requires(std::vector<at::Tensor> parameters, const typename Optimiser::Options& options) {
  Optimiser(std::move(parameters), options);
};

template <class Optimiser>
concept HasOptimiserStep = requires(Optimiser& optimiser, double rate) {
  optimiser.step(rate);
};

template <class Optimiser>
concept HasZeroGradients = requires(Optimiser& optimiser) {
  optimiser.zero_gradients();
};

template <class Optimiser>
concept HasOptimiserState = requires(const Optimiser& optimiser) {
  { optimiser.state() } -> std::same_as<std::vector<OptimiserState>>;
};

}  // namespace detail

/// Updates parameters from their gradients.
///
///     using Options;                                                     // an aggregate with defaults
///     Optimiser(std::vector<at::Tensor> parameters, const Options&);     // shares their storage
///     void step(double rate);                                            // learning rate of this update
///     void zero_gradients();
///     std::vector<OptimiserState> state() const;                         // everything that a later update depends on
///
/// Laws (`ip2p::testing::check_optimiser`):
///  1. a parameter without a gradient does not change, nor does its state;
///  2. the update of a parameter depends only on its own value, gradient and state and on the rate, bit for bit, which
///    lets processes share the work (`ShardedOptimiser`);
///  3. `state()` lists the same kinds in the same order for any list of parameters, even an empty one; tensors exist
///    and have their shapes from construction on; names are distinct, contain no '/', and are not "weights" or
///    "average";
///  4. after copying weights and state into another optimiser, both continue bit for bit alike;
///  5. after `zero_gradients()` no parameter has a gradient;
///  6. the first step descends the gradient, and neither the rate nor the options are ignored.
template <class Optimiser>
concept OptimiserPolicy = detail::HasOptimiserOptions<Optimiser> && detail::MadeFromParameters<Optimiser> &&
    detail::HasOptimiserStep<Optimiser> && detail::HasZeroGradients<Optimiser> && detail::HasOptimiserState<Optimiser>;

/// Stops compilation with one sentence unless `Optimiser` is an `OptimiserPolicy`.
template <class Optimiser>
consteval void require_optimiser_policy() {
  static_assert(detail::HasOptimiserOptions<Optimiser>,
                "ip2p: OptimiserPolicy needs a copyable type `Options` with defaults; "
                "see docs/reference/concepts.md#optimiserpolicy");
  if constexpr (detail::HasOptimiserOptions<Optimiser>) {
    static_assert(detail::MadeFromParameters<Optimiser>,
                  "ip2p: OptimiserPolicy needs a constructor from (std::vector<Tensor> parameters, Options); "
                  "see docs/reference/concepts.md#optimiserpolicy");
  }
  static_assert(detail::HasOptimiserStep<Optimiser>,
                "ip2p: OptimiserPolicy needs `void step(double rate)`; see docs/reference/concepts.md#optimiserpolicy");
  static_assert(detail::HasZeroGradients<Optimiser>,
                "ip2p: OptimiserPolicy needs `void zero_gradients()`; "
                "see docs/reference/concepts.md#optimiserpolicy");
  static_assert(detail::HasOptimiserState<Optimiser>,
                "ip2p: OptimiserPolicy needs `std::vector<OptimiserState> state() const`; "
                "see docs/reference/concepts.md#optimiserpolicy");
}

namespace detail {

/// Bytes of the tensors in `lists` on this process.
inline std::int64_t state_bytes(const std::vector<OptimiserState>& lists) {
  std::int64_t bytes = 0;
  for (const auto& list : lists) {
    for (const auto& tensor : list.tensors) bytes += tensor.defined() ? static_cast<std::int64_t>(tensor.nbytes()) : 0;
  }
  return bytes;
}

}  // namespace detail

}  // namespace ip2p
