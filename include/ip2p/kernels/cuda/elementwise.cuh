#pragma once

/// \file
/// Kernels in which no thread needs another: the gated feed-forward layer's product and its gradient, bias with
/// residual, doubling of maps, and a whole step of Euler's method under linear guidance.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ip2p/kernels/arithmetic.hpp"
#include "ip2p/kernels/cuda/element.cuh"
#include "ip2p/kernels/cuda/phases.cuh"

namespace ip2p::kernels {

/// What these kernels have in common: one phase, blocks along x, a thread for each vector.
struct Elementwise {
  static constexpr int threads = 256;
  static constexpr int first = 0, last = 0;
  struct Registers {};
};

/// Most threads of a kernel here, so that their numbers fit 32 bits.
inline constexpr std::int64_t most_vectors = std::int64_t{1} << 30;

/// Arguments of `geglu_forward` and `geglu_backward`.
struct GegluArguments {
  std::int64_t rows = 0, hidden = 0;  ///< H = hidden.
  Number number = Number::fp32;       ///< Elements of all.
  const void* projected = nullptr;    ///< [rows, 2H]: values, then gates.
  const void* bias = nullptr;         ///< [2H], or null.
  const void* dy = nullptr;           ///< Backward: gradient of the result, [rows, H].
  void* result = nullptr;             ///< Forward: [rows, H]. Backward: gradient of `projected` + bias, [rows, 2H].
};

/// y = (a + bias_a) * gelu(b + bias_b), or its gradient.
template <class Element, int n, bool backward>
struct Geglu : Elementwise {
  GegluArguments given;

  template <int>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& /*none*/, const SharedMemory& /*none*/) const {
    const auto across = static_cast<unsigned>(given.hidden / n);
    const unsigned i = place.index(threads);
    if (i >= static_cast<unsigned>(given.rows) * across) return;
    const std::int64_t row = i / across;
    const std::int64_t column = static_cast<std::int64_t>(i % across) * n;
    const auto* projected = static_cast<const Element*>(given.projected) + row * 2 * given.hidden + column;
    const auto* bias = static_cast<const Element*>(given.bias);
    auto values = load<n>(projected);
    auto gates = load<n>(projected + given.hidden);
    Vector<Element, n> bias_values{}, bias_gates{};
    if (bias != nullptr) {
      bias_values = load<n>(bias + column);
      bias_gates = load<n>(bias + given.hidden + column);
    }
    auto* result = static_cast<Element*>(given.result) + row * (backward ? 2 : 1) * given.hidden + column;
    if constexpr (backward) {
      const auto dy = load<n>(static_cast<const Element*>(given.dy) + row * given.hidden + column);
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) {
        const float value = to_float(values.element[j]) + to_float(bias_values.element[j]);
        const float gate = to_float(gates.element[j]) + to_float(bias_gates.element[j]);
        const float gradient = to_float(dy.element[j]);
        values.element[j] = from_float<Element>(gradient * arithmetic::gelu(gate));
        gates.element[j] = from_float<Element>(gradient * value * arithmetic::gelu_slope(gate));
      }
      store<n>(result + given.hidden, gates);
    } else {
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) {
        const float value = to_float(values.element[j]) + to_float(bias_values.element[j]);
        const float gate = to_float(gates.element[j]) + to_float(bias_gates.element[j]);
        values.element[j] = from_float<Element>(value * arithmetic::gelu(gate));
      }
    }
    store<n>(result, values);
  }
};

/// Arguments of `add_bias_residual`.
struct BiasResidualArguments {
  std::int64_t pixels = 0, channels = 0;  ///< Of all samples together.
  Number number = Number::fp32;           ///< Elements of x, residual and y.
  const void* x = nullptr;                ///< [pixels, channels].
  AnyNumbers bias{};                      ///< [channels], or none.
  const void* residual = nullptr;         ///< [pixels, channels], or null.
  void* y = nullptr;                      ///< [pixels, channels].
};

/// y = x + bias + residual.
template <class Element, int n>
struct BiasResidual : Elementwise {
  BiasResidualArguments given;

  template <int>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& /*none*/, const SharedMemory& /*none*/) const {
    const auto across = static_cast<unsigned>(given.channels / n);
    const unsigned i = place.index(threads);
    if (i >= static_cast<unsigned>(given.pixels) * across) return;
    const auto at_element = static_cast<std::int64_t>(i) * n;
    const std::int64_t channel = static_cast<std::int64_t>(i % across) * n;
    auto y = load<n>(static_cast<const Element*>(given.x) + at_element);
    Vector<Element, n> residual{};
    if (given.residual != nullptr) residual = load<n>(static_cast<const Element*>(given.residual) + at_element);
    IP2P_UNROLL
    for (int j = 0; j < n; ++j) {
      y.element[j] =
          from_float<Element>(to_float(y.element[j]) + given.bias[channel + j] + to_float(residual.element[j]));
    }
    store<n>(static_cast<Element*>(given.y) + at_element, y);
  }
};

/// Arguments of `upsample_nearest_2x`.
struct UpsampleArguments {
  std::int64_t rows = 0, width = 0, channels = 0;  ///< rows: samples * height.
  Number number = Number::fp32;                    ///< Elements of both.
  const void* x = nullptr;                         ///< [rows, width, channels].
  void* y = nullptr;                               ///< [2 rows, 2 width, channels].
};

/// Every pixel as 2x2 equal ones.
template <class Element, int n>
struct Upsample2x : Elementwise {
  UpsampleArguments given;

  template <int>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& /*none*/, const SharedMemory& /*none*/) const {
    const auto across = static_cast<unsigned>(given.channels / n);
    const auto width = static_cast<unsigned>(given.width);
    const unsigned i = place.index(threads);
    if (i >= static_cast<unsigned>(given.rows) * width * across) return;
    const unsigned pixel = i / across;
    const std::int64_t channel = static_cast<std::int64_t>(i % across) * n;
    const std::int64_t row = pixel / width, column = pixel % width;
    const auto value = load<n>(static_cast<const Element*>(given.x) + static_cast<std::int64_t>(i) * n);
    auto* to = static_cast<Element*>(given.y) + (2 * row * 2 * width + 2 * column) * given.channels + channel;
    store<n>(to, value);
    store<n>(to + given.channels, value);
    store<n>(to + 2 * given.width * given.channels, value);
    store<n>(to + (2 * given.width + 1) * given.channels, value);
  }
};

/// Places of the numbers of a [rows, channels, pixels] tensor, in elements.
struct MapStrides {
  std::int64_t row = 0, channel = 0, pixel = 0;  ///< From one to the next.
  /// Place of one number.
  [[nodiscard]] IP2P_HOST_DEVICE std::int64_t place_of(std::int64_t r, std::int64_t c, std::int64_t p) const {
    return r * row + c * channel + p * pixel;
  }
};

/// Arguments of `guided_step`; `GuidedStep` (kernels/table.hpp) has the equations.
struct GuidedStepArguments {
  std::int64_t samples = 0, channels = 0, pixels = 0;  ///< B, C and h * w.
  std::int64_t image_channels = 0;                     ///< I.
  std::int64_t branches = 0, inputs = 0;               ///< K and D.
  Number number = Number::fp32;                        ///< Elements of predictions, images and input; the rest is fp32.
  const void* predictions = nullptr;                   ///< [K*B, C, pixels].
  const float* latents = nullptr;                      ///< [B, C, pixels].
  const float* noise = nullptr;                        ///< [B, C, pixels], or null.
  const void* images = nullptr;                        ///< [D*B, I, pixels]; null where I = 0.
  const float* coefficients = nullptr;                 ///< skip, out, step, up, next_scale, K weights, on the device.
  const std::int64_t* step = nullptr;    ///< Row of a table of coefficients, on the device; null: the first.
  std::int64_t coefficients_stride = 0;  ///< Floats of a row.
  std::int64_t noise_stride = 0;         ///< Floats from one step's noise to the next one's; 0: one for all.
  MapStrides prediction_strides{}, latent_strides{}, noise_strides{}, image_strides{};
  float* next = nullptr;      ///< [B, C, pixels], in the strides of the latents.
  float* estimate = nullptr;  ///< The same; or null.
  void* input = nullptr;      ///< [D*B, pixels, C + I], contiguous.
};

/// One step, from the predictions of all branches to the network's next input.
template <class Element>
struct GuidedEulerStep : Elementwise {
  GuidedStepArguments given;

  template <int>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& /*none*/, const SharedMemory& /*none*/) const {
    const auto pixels = static_cast<unsigned>(given.pixels);
    const auto channels = static_cast<unsigned>(given.channels + given.image_channels);
    const unsigned i = place.index(threads);
    if (i >= static_cast<unsigned>(given.samples) * channels * pixels) return;
    const std::int64_t pixel = i % pixels, channel = i / pixels % channels, sample = i / pixels / channels;
    auto* input = static_cast<Element*>(given.input) + (sample * pixels + pixel) * channels + channel;
    const std::int64_t from_input_to_next = given.samples * given.pixels * static_cast<std::int64_t>(channels);
    if (channel >= given.channels) {
      for (std::int64_t d = 0; d < given.inputs; ++d) {
        input[d * from_input_to_next] = static_cast<const Element*>(
            given.images)[given.image_strides.place_of(d * given.samples + sample, channel - given.channels, pixel)];
      }
      return;
    }
    const std::int64_t step = given.step == nullptr ? 0 : *given.step;
    const float* numbers = given.coefficients + step * given.coefficients_stride;
    float guided = 0.0f;
    for (std::int64_t k = 0; k < given.branches; ++k) {
      guided += numbers[5 + k] *
                to_float(static_cast<const Element*>(
                    given.predictions)[given.prediction_strides.place_of(k * given.samples + sample, channel, pixel)]);
    }
    const auto x = given.latent_strides.place_of(sample, channel, pixel);
    const float noise =
        given.noise == nullptr
            ? 0.0f
            : given.noise[step * given.noise_stride + given.noise_strides.place_of(sample, channel, pixel)];
    const auto result = arithmetic::euler(given.latents[x], guided, noise,
                                          {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]});
    given.next[x] = result.next;
    if (given.estimate != nullptr) given.estimate[x] = result.estimate;
    for (std::int64_t d = 0; d < given.inputs; ++d) {
      input[d * from_input_to_next] = from_float<Element>(result.input);
    }
  }
};

namespace detail {

/// Queues an elementwise kernel of `vectors` threads.
template <class Kernel, class Queue>
Status launch_elementwise(const Kernel& kernel, std::int64_t vectors, const Queue& queue) {
  if (vectors > most_vectors) return invalid_value;
  return queue(kernel, Grid{.x = divide_up(vectors, Kernel::threads)});
}

template <bool backward, class Queue>
Status launch_geglu(const GegluArguments& given, const Queue& queue) {
  const bool vectors = aligned(given.projected, given.bias, given.dy, given.result) &&
                       given.hidden % (vector_bytes / bytes_of(given.number)) == 0;
  return with_vector(given.number, vectors, [&](auto element, auto length) {
    constexpr int n = decltype(length)::value;
    return launch_elementwise(Geglu<decltype(element), n, backward>{{}, given}, given.rows * (given.hidden / n), queue);
  });
}

}  // namespace detail

/// Queues the product of values and gates. \return an error code, `invalid_value` for more than `most_vectors`
template <class Queue>
Status geglu_forward(const GegluArguments& given, const Queue& queue) {
  return detail::launch_geglu<false>(given, queue);
}

/// Queues its gradient; that of the bias is its sum over the rows.
template <class Queue>
Status geglu_backward(const GegluArguments& given, const Queue& queue) {
  return detail::launch_geglu<true>(given, queue);
}

/// Queues x + bias + residual.
template <class Queue>
Status add_bias_residual(const BiasResidualArguments& given, const Queue& queue) {
  const bool vectors =
      aligned(given.x, given.residual, given.y) && given.channels % (vector_bytes / bytes_of(given.number)) == 0;
  return with_vector(given.number, vectors, [&](auto element, auto length) {
    constexpr int n = decltype(length)::value;
    return detail::launch_elementwise(BiasResidual<decltype(element), n>{{}, given},
                                      given.pixels * (given.channels / n), queue);
  });
}

/// Queues the doubling of a map.
template <class Queue>
Status upsample_nearest_2x(const UpsampleArguments& given, const Queue& queue) {
  const bool vectors = aligned(given.x, given.y) && given.channels % (vector_bytes / bytes_of(given.number)) == 0;
  return with_vector(given.number, vectors, [&](auto element, auto length) {
    constexpr int n = decltype(length)::value;
    return detail::launch_elementwise(Upsample2x<decltype(element), n>{{}, given},
                                      given.rows * given.width * (given.channels / n), queue);
  });
}

/// Queues a step. `step`, the noise and the coefficients are read when the kernel runs, so that a captured graph serves
/// all steps.
template <class Queue>
Status guided_step(const GuidedStepArguments& given, const Queue& queue) {
  return with_element(given.number, [&](auto element) {
    return detail::launch_elementwise(GuidedEulerStep<decltype(element)>{{}, given},
                                      given.samples * (given.channels + given.image_channels) * given.pixels, queue);
  });
}

}  // namespace ip2p::kernels
