#pragma once

/// \file
/// Numbers in memory: fp32, bf16 and fp16, alone and in vectors of 16 bytes. The arithmetic is always fp32.
///
/// The 16-bit types are ours, because LibTorch's build hides CUDA's operators on half and bfloat16, and because the
/// host runs the same code.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "ip2p/kernels/arithmetic.hpp"

#ifdef __CUDACC__
/// Stands before a loop whose variables are to live in registers.
#define IP2P_UNROLL _Pragma("unroll")
#else
/// Stands before a loop whose variables are to live in registers.
#define IP2P_UNROLL
#endif

namespace ip2p::kernels {

/// A bfloat16 number as it lies in memory.
struct Bf16 {
  std::uint16_t bits;  ///< Sign, 8 bits of exponent, 7 of the fraction.
};

/// An IEEE half as it lies in memory.
struct Fp16 {
  std::uint16_t bits;  ///< Sign, 5 bits of exponent, 10 of the fraction.
};

/// The types of numbers that kernels take.
enum class Number : std::int32_t {
  fp32,  ///< float
  bf16,  ///< Bf16
  fp16,  ///< Fp16
};

/// `Number` of an element type.
template <class Element>
inline constexpr Number number_of = std::is_same_v<Element, Bf16>   ? Number::bf16
                                    : std::is_same_v<Element, Fp16> ? Number::fp16
                                                                    : Number::fp32;

/// Bytes of one.
inline constexpr int bytes_of(Number number) { return number == Number::fp32 ? 4 : 2; }

namespace detail {

/// Half to float, without instructions for it.
inline float float_of_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31u;
  const std::uint32_t fraction = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent > 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

/// Float to half, rounded to nearest, ties to even.
inline std::uint16_t half_of_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
  if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 0.5 leaves the multiples of 2^-24 in the last bits, rounded by the adder.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(rounded) - 0x3f000000u));
  }
  const std::uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<std::uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

/// Float to bfloat16, rounded to nearest, ties to even.
inline std::uint16_t bfloat16_of_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace detail

/// The number as fp32, exactly.
IP2P_HOST_DEVICE inline float to_float(float value) { return value; }
/// The number as fp32, exactly.
IP2P_HOST_DEVICE inline float to_float(Bf16 value) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
#else
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
#endif
}
/// The number as fp32, exactly.
IP2P_HOST_DEVICE inline float to_float(Fp16 value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));
#else
  return detail::float_of_half(value.bits);
#endif
}

/// fp32 rounded to an element, to nearest with ties to even.
template <class Element>
IP2P_HOST_DEVICE Element from_float(float value) {
  if constexpr (std::is_same_v<Element, float>) {
    return value;
  } else if constexpr (std::is_same_v<Element, Bf16>) {
#ifdef __CUDA_ARCH__
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
    return {detail::bfloat16_of_float(value)};
#endif
  } else {
#ifdef __CUDA_ARCH__
    return {__half_as_ushort(__float2half_rn(value))};
#else
    return {detail::half_of_float(value)};
#endif
  }
}

/// Bytes that one access of a thread moves at most.
inline constexpr int vector_bytes = 16;

/// Elements in them.
template <class Element>
inline constexpr int vector_length = vector_bytes / static_cast<int>(sizeof(Element));

/// `n` elements that move at once; n is 1 or `vector_length`.
template <class Element, int n>
struct alignas(sizeof(Element) * n) Vector {
  Element element[n];  ///< In the order of memory.
};

/// Reads the n elements at `from`, which is aligned to them.
template <int n, class Element>
IP2P_HOST_DEVICE Vector<Element, n> load(const Element* from) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(Element) * n == sizeof(uint4)) {
    return __builtin_bit_cast(Vector<Element, n>, *reinterpret_cast<const uint4*>(from));
  }
#endif
  return *reinterpret_cast<const Vector<Element, n>*>(from);
}

/// Writes them.
template <int n, class Element>
IP2P_HOST_DEVICE void store(Element* to, const Vector<Element, n>& vector) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(Element) * n == sizeof(uint4)) {
    *reinterpret_cast<uint4*>(to) = __builtin_bit_cast(uint4, vector);
    return;
  }
#endif
  *reinterpret_cast<Vector<Element, n>*>(to) = vector;
}

/// Numbers whose type is known at run time only: read once a thread, they need no kernel of their own.
struct AnyNumbers {
  const void* data = nullptr;    ///< Null: every element is `missing`.
  Number number = Number::fp32;  ///< Its type.
  float missing = 0.0f;          ///< What stands for elements where there are none.

  /// Element i.
  [[nodiscard]] IP2P_HOST_DEVICE float operator[](std::int64_t i) const {
    if (data == nullptr) return missing;
    if (number == Number::fp32) return static_cast<const float*>(data)[i];
    if (number == Number::bf16) return to_float(static_cast<const Bf16*>(data)[i]);
    return to_float(static_cast<const Fp16*>(data)[i]);
  }
};

/// The same for results.
struct MutableAnyNumbers {
  void* data = nullptr;          ///< Null: nothing is written.
  Number number = Number::fp32;  ///< Its type.

  /// Sets element i.
  IP2P_HOST_DEVICE void set(std::int64_t i, float value) const {
    if (data == nullptr) return;
    if (number == Number::fp32) {
      static_cast<float*>(data)[i] = value;
    } else if (number == Number::bf16) {
      static_cast<Bf16*>(data)[i] = from_float<Bf16>(value);
    } else {
      static_cast<Fp16*>(data)[i] = from_float<Fp16>(value);
    }
  }
};

/// Whether all of these pointers allow vector accesses; null ones do.
template <class... Pointers>
bool aligned(const Pointers*... pointers) {
  return (... && (reinterpret_cast<std::uintptr_t>(pointers) % vector_bytes == 0));
}

/// Calls `work(Element{})` with the type that `number` names. \return what it returns
template <class Work>
auto with_element(Number number, Work&& work) {
  switch (number) {
    case Number::bf16:
      return work(Bf16{});
    case Number::fp16:
      return work(Fp16{});
    case Number::fp32:
      break;
  }
  return work(0.0f);
}

/// Calls `work(Element{}, std::integral_constant<int, n>{})` with n = `vector_length` or 1. \return what it returns
template <class Work>
auto with_vector(Number number, bool vectors, Work&& work) {
  return with_element(number, [&](auto element) {
    if (vectors) return work(element, std::integral_constant<int, vector_length<decltype(element)>>{});
    return work(element, std::integral_constant<int, 1>{});
  });
}

/// Ceiling of a / b for non-negative a and positive b.
IP2P_HOST_DEVICE constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace ip2p::kernels
