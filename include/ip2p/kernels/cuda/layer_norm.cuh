#pragma once

/// \file
/// Sum of two token sequences and its normalisation over the last axis, and their gradients. A warp takes a row.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ip2p/kernels/arithmetic.hpp"
#include "ip2p/kernels/cuda/element.cuh"
#include "ip2p/kernels/cuda/parameter_gradients.cuh"
#include "ip2p/kernels/cuda/phases.cuh"
#include "ip2p/kernels/norm_arithmetic.hpp"

namespace ip2p::kernels {

/// Threads of a block.
inline constexpr int row_threads = 128;
/// Rows of a block.
inline constexpr int rows_of_block = row_threads / warp_size;

/// Arguments of `add_layer_norm_forward`.
struct LayerNormForwardArguments {
  std::int64_t rows = 0, channels = 0;
  Number number = Number::fp32;                   ///< Elements of x, residual, sum and y.
  const void* x = nullptr;                        ///< [rows, channels].
  const void* residual = nullptr;                 ///< [rows, channels], or null: the sum is x.
  Number parameter_number = Number::fp32;         ///< Elements of weight and bias: `number` or fp32.
  const void *weight = nullptr, *bias = nullptr;  ///< [channels].
  float eps = 1e-5f;                              ///< Added to the variance.
  void* sum = nullptr;                            ///< x + residual, rounded; null where there is no residual.
  void* y = nullptr;                              ///< The normalised sum.
  float *mean = nullptr, *inverse = nullptr;      ///< [rows], or null: not written.
};

/// Arguments of `add_layer_norm_backward`.
struct LayerNormBackwardArguments {
  std::int64_t rows = 0, channels = 0;
  Number number = Number::fp32;                     ///< Elements of sum, dy, dsum and dx.
  const void* sum = nullptr;                        ///< What was normalised.
  const void* dy = nullptr;                         ///< Gradient of the normalised sum.
  const void* dsum = nullptr;                       ///< Gradient of the sum from elsewhere, or null.
  AnyNumbers weight{.missing = 1.0f};               ///< [channels].
  const float *mean = nullptr, *inverse = nullptr;  ///< [rows], as the forward kernel wrote them.
  void* dx = nullptr;                               ///< Gradient of x and of residual alike.
  MutableAnyNumbers dweight{}, dbias{};             ///< [channels], or none.
};

/// The forward kernel. \tparam n elements that a lane moves at once
/// \tparam held vectors of a row that a lane keeps; 0: rows of any length, read again from the cache
template <class Element, class Parameter, int n, int held>
struct LayerNormForward {
  static constexpr int threads = row_threads;
  static constexpr int first = 0, last = 2;
  static IP2P_HOST_DEVICE constexpr Meeting after(int /*phase*/) { return Meeting::warp_sum; }
  struct Registers {
    float exchanged[1];
    float mean;
    Vector<Element, n> kept[held > 0 ? held : 1];
  };

  LayerNormForwardArguments given;

  template <int phase>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& registers, const SharedMemory& /*none*/) const {
    const std::int64_t row = static_cast<std::int64_t>(place.x) * rows_of_block + place.warp();
    if constexpr (phase == 1) registers.mean = registers.exchanged[0] / static_cast<float>(given.channels);
    float inverse = 0.0f;
    if constexpr (phase == 2) {
      const auto count = static_cast<float>(given.channels);
      const arithmetic::Moments moments{count, registers.mean, registers.exchanged[0]};
      inverse = arithmetic::inverse_deviation(moments, given.eps);
    }
    registers.exchanged[0] = 0.0f;
    if (row >= given.rows) return;
    if constexpr (phase == 2) {
      if (place.lane() == 0 && given.mean != nullptr) given.mean[row] = registers.mean;
      if (place.lane() == 0 && given.inverse != nullptr) given.inverse[row] = inverse;
    }
    if constexpr (held > 0) {
      IP2P_UNROLL
      for (int k = 0; k < held; ++k) {
        const std::int64_t column = (static_cast<std::int64_t>(k) * warp_size + place.lane()) * n;
        if (column < given.channels) step<phase>(row, column, registers, registers.kept[k], inverse);
      }
    } else {
      for (std::int64_t column = place.lane() * n; column < given.channels; column += warp_size * n) {
        if constexpr (phase > 0) {
          const auto* summed = static_cast<const Element*>(given.sum == nullptr ? given.x : given.sum);
          registers.kept[0] = load<n>(summed + row * given.channels + column);
        }
        step<phase>(row, column, registers, registers.kept[0], inverse);
      }
    }
  }

  /// What a phase does with one vector.
  template <int phase>
  IP2P_HOST_DEVICE void step(std::int64_t row, std::int64_t column, Registers& registers, Vector<Element, n>& kept,
                             float inverse) const {
    const auto place = row * given.channels + column;
    if constexpr (phase == 0) {
      kept = load<n>(static_cast<const Element*>(given.x) + place);
      if (given.residual != nullptr) {
        const auto residual = load<n>(static_cast<const Element*>(given.residual) + place);
        IP2P_UNROLL
        for (int j = 0; j < n; ++j) {
          kept.element[j] = from_float<Element>(to_float(kept.element[j]) + to_float(residual.element[j]));
        }
        store<n>(static_cast<Element*>(given.sum) + place, kept);
      }
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) registers.exchanged[0] += to_float(kept.element[j]);
    } else if constexpr (phase == 1) {
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) {
        const float apart = to_float(kept.element[j]) - registers.mean;
        registers.exchanged[0] += apart * apart;
      }
    } else {
      const auto weight = parameters(given.weight, column);
      const auto bias = parameters(given.bias, column);
      Vector<Element, n> y;
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) {
        y.element[j] =
            from_float<Element>((to_float(kept.element[j]) - registers.mean) * inverse * to_float(weight.element[j]) +
                                to_float(bias.element[j]));
      }
      store<n>(static_cast<Element*>(given.y) + place, y);
    }
  }

  /// A vector's parameters; fp32 ones of 16-bit elements are two vectors of their own.
  static IP2P_HOST_DEVICE Vector<Parameter, n> parameters(const void* from, std::int64_t column) {
    const auto* first_one = static_cast<const Parameter*>(from) + column;
    constexpr int length = n > vector_length<Parameter> ? vector_length<Parameter> : n;
    Vector<Parameter, n> result;
    IP2P_UNROLL
    for (int k = 0; k < n; k += length) {
      const auto part = load<length>(first_one + k);
      IP2P_UNROLL
      for (int j = 0; j < length; ++j) result.element[k + j] = part.element[j];
    }
    return result;
  }
};

/// The backward kernel for x: with g = dy * weight,
/// dx = inverse * (g - mean(g) - normed * mean(g * normed)) + dsum.
template <class Element, int n>
struct LayerNormBackward {
  static constexpr int threads = row_threads;
  static constexpr int first = 0, last = 1;
  static IP2P_HOST_DEVICE constexpr Meeting after(int /*phase*/) { return Meeting::warp_sum; }
  struct Registers {
    float exchanged[2];
  };

  LayerNormBackwardArguments given;

  template <int phase>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& registers, const SharedMemory& /*none*/) const {
    const std::int64_t row = static_cast<std::int64_t>(place.x) * rows_of_block + place.warp();
    if constexpr (phase == 0) registers.exchanged[0] = registers.exchanged[1] = 0.0f;
    if (row >= given.rows) return;
    const float mean = given.mean[row];
    const auto channels = static_cast<float>(given.channels);
    const arithmetic::NormGradient means{registers.exchanged[0] / channels, registers.exchanged[1] / channels,
                                         given.inverse[row]};
    for (std::int64_t column = place.lane() * n; column < given.channels; column += warp_size * n) {
      const auto at_element = row * given.channels + column;
      const auto sum = load<n>(static_cast<const Element*>(given.sum) + at_element);
      const auto dy = load<n>(static_cast<const Element*>(given.dy) + at_element);
      Vector<Element, n> result{};
      if (phase == 1 && given.dsum != nullptr) result = load<n>(static_cast<const Element*>(given.dsum) + at_element);
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) {
        const float normed = (to_float(sum.element[j]) - mean) * means.inverse;
        const float g = to_float(dy.element[j]) * given.weight[column + j];
        if constexpr (phase == 0) {
          registers.exchanged[0] += g;
          registers.exchanged[1] += g * normed;
        } else {
          result.element[j] =
              from_float<Element>(to_float(result.element[j]) + arithmetic::norm_gradient(g, normed, means));
        }
      }
      if constexpr (phase == 1) store<n>(static_cast<Element*>(given.dx) + at_element, result);
    }
  }
};

/// Sums over a chunk of rows of dy and of dy * normed, each column's. A block has 32 vectors of columns and a row for
/// each of its warps.
template <class Element, int n>
struct LayerNormParameterSums {
  static constexpr int threads = 256;
  static constexpr int warps = threads / warp_size;
  static constexpr int first = 0, last = 1;
  static IP2P_HOST_DEVICE constexpr Meeting after(int /*phase*/) { return Meeting::block; }
  struct Registers {};

  LayerNormBackwardArguments given;
  std::int64_t chunk_rows;
  float* sums;  ///< [chunks, 2, channels].

  /// Bytes of shared memory.
  static constexpr std::size_t shared_bytes = 2 * warps * warp_size * n * sizeof(float);

  template <int phase>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& /*none*/, const SharedMemory& memory) const {
    constexpr int columns = warp_size * n;
    auto* shared = reinterpret_cast<float*>(memory.own);  // [2][warps][columns]
    const std::int64_t first_column = static_cast<std::int64_t>(place.x) * columns;
    if constexpr (phase == 0) {
      const std::int64_t column = first_column + place.lane() * n;
      float totals[2][n] = {};
      const std::int64_t begin = place.y * chunk_rows;
      const std::int64_t end = begin + chunk_rows < given.rows ? begin + chunk_rows : given.rows;
      for (std::int64_t row = begin + place.warp(); row < end && column < given.channels; row += warps) {
        const auto at_element = row * given.channels + column;
        const auto sum = load<n>(static_cast<const Element*>(given.sum) + at_element);
        const auto dy = load<n>(static_cast<const Element*>(given.dy) + at_element);
        IP2P_UNROLL
        for (int j = 0; j < n; ++j) {
          const float gradient = to_float(dy.element[j]);
          totals[0][j] += gradient;
          totals[1][j] += gradient * (to_float(sum.element[j]) - given.mean[row]) * given.inverse[row];
        }
      }
      IP2P_UNROLL
      for (int i = 0; i < 2; ++i) {
        IP2P_UNROLL
        for (int j = 0; j < n; ++j) {
          shared[(i * warps + place.warp()) * columns + place.lane() * n + j] = totals[i][j];
        }
      }
    } else {
      for (int i = place.thread; i < 2 * columns; i += threads) {
        const int which = i / columns;
        const std::int64_t column = first_column + i % columns;
        if (column >= given.channels) continue;
        float total = 0.0f;
        for (int warp = 0; warp < warps; ++warp) total += shared[(which * warps + warp) * columns + i % columns];
        sums[(static_cast<std::int64_t>(place.y) * 2 + which) * given.channels + column] = total;
      }
    }
  }
};

/// Parts into which the rows are divided for the gradients of weight and bias.
inline std::int64_t row_chunks(std::int64_t rows) { return std::clamp<std::int64_t>(rows / 64, 1, 64); }

/// Bytes of workspace that `add_layer_norm_backward` needs.
inline std::size_t workspace_bytes(const LayerNormBackwardArguments& given) {
  return static_cast<std::size_t>(row_chunks(given.rows) * 2 * given.channels) * sizeof(float);
}

namespace detail {

/// Queues the kernel that holds a row, if one does.
template <class Element, class Parameter, int n, class Queue>
Status launch_rows(const LayerNormForwardArguments& given, const Queue& queue) {
  const Grid grid{.x = divide_up(given.rows, rows_of_block)};
  if constexpr (n > 1) {
    const auto each = divide_up(given.channels, warp_size * n);
    if (each <= 5) return queue(LayerNormForward<Element, Parameter, n, 5>{given}, grid);
    if (each <= 12) return queue(LayerNormForward<Element, Parameter, n, 12>{given}, grid);
  }
  return queue(LayerNormForward<Element, Parameter, n, 0>{given}, grid);
}

}  // namespace detail

/// Queues sum and normalisation. \return an error code, `invalid_value` for parameters of a third type
template <class Queue>
Status add_layer_norm_forward(const LayerNormForwardArguments& given, const Queue& queue) {
  if (given.parameter_number != given.number && given.parameter_number != Number::fp32) return invalid_value;
  const bool vectors = aligned(given.x, given.residual, given.weight, given.bias, given.sum, given.y) &&
                       given.channels % (vector_bytes / bytes_of(given.number)) == 0;
  return with_vector(given.number, vectors, [&](auto element, auto length) {
    using Element = decltype(element);
    constexpr int n = decltype(length)::value;
    return given.parameter_number == Number::fp32 ? detail::launch_rows<Element, float, n>(given, queue)
                                                  : detail::launch_rows<Element, Element, n>(given, queue);
  });
}

/// Queues the gradients. \param workspace of `workspace_bytes`; null if neither dweight nor dbias is asked for
template <class Queue>
Status add_layer_norm_backward(const LayerNormBackwardArguments& given, void* workspace, const Queue& queue) {
  const bool vectors = aligned(given.sum, given.dy, given.dsum, given.dx) &&
                       given.channels % (vector_bytes / bytes_of(given.number)) == 0;
  auto* sums = static_cast<float*>(workspace);
  const auto chunks = row_chunks(given.rows);
  const bool parameters = given.dweight.data != nullptr || given.dbias.data != nullptr;
  const auto error = with_vector(given.number, vectors, [&](auto element, auto length) {
    using Element = decltype(element);
    constexpr int n = decltype(length)::value;
    const auto failed = queue(LayerNormBackward<Element, n>{given}, Grid{.x = divide_up(given.rows, rows_of_block)});
    if (failed != 0 || !parameters) return failed;
    using Sums = LayerNormParameterSums<Element, n>;
    return queue(Sums{given, divide_up(given.rows, chunks), sums},
                 Grid{.x = divide_up(given.channels, warp_size * n), .y = chunks, .shared_bytes = Sums::shared_bytes});
  });
  if (error != 0 || !parameters) return error;
  return queue(ParameterGradients{sums, chunks, given.channels, given.dbias, given.dweight},
               Grid{.x = divide_up(2 * given.channels, ParameterGradients::threads)});
}

}  // namespace ip2p::kernels
