// Conversions of the device's 16-bit numbers, on the host.

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "ip2p/kernels/cuda/element.cuh"
#include "support/catch.hpp"

TEST_CASE("Halves and bfloat16 become the floats that LibTorch makes of them", "[kernels]") {
  std::uint32_t bits = 0;
  for (; bits < 65536; ++bits) {
    const auto one = static_cast<std::uint16_t>(bits);
    const float half = static_cast<float>(c10::Half(one, c10::Half::from_bits()));
    const float brain = static_cast<float>(c10::BFloat16(one, c10::BFloat16::from_bits()));
    const float our_half = ip2p::kernels::to_float(ip2p::kernels::Fp16{one});
    const float our_brain = ip2p::kernels::to_float(ip2p::kernels::Bf16{one});
    const bool same_half = std::isnan(half)
                               ? std::isnan(our_half)
                               : std::bit_cast<std::uint32_t>(half) == std::bit_cast<std::uint32_t>(our_half);
    const bool same_brain = std::bit_cast<std::uint32_t>(brain) == std::bit_cast<std::uint32_t>(our_brain);
    if (!same_half || !same_brain) break;
  }
  CHECK(bits == 65536);  // else the first that differs
}

TEST_CASE("Floats are rounded to halves and bfloat16 as by LibTorch", "[kernels]") {
  std::mt19937 engine(7);
  const auto check = [](float value) {
    const auto half = c10::Half(value).x;
    const auto brain = c10::BFloat16(value).x;
    const auto our_half = ip2p::kernels::from_float<ip2p::kernels::Fp16>(value).bits;
    const auto our_brain = ip2p::kernels::from_float<ip2p::kernels::Bf16>(value).bits;
    if (std::isnan(value)) {
      if (!std::isnan(ip2p::kernels::to_float(ip2p::kernels::Fp16{our_half})) ||
          !std::isnan(ip2p::kernels::to_float(ip2p::kernels::Bf16{our_brain}))) {
        FAIL("NaN became a number");
      }
    } else if (half != our_half || brain != our_brain) {
      FAIL("value " << value << " half " << half << " " << our_half << " bfloat16 " << brain << " " << our_brain);
    }
  };
  for (int i = 0; i < 2'000'000; ++i) check(std::bit_cast<float>(static_cast<std::uint32_t>(engine())));
  // Where halves live, and every tie between two of them.
  for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto low = ip2p::kernels::to_float(ip2p::kernels::Fp16{static_cast<std::uint16_t>(bits)});
    const auto high =
        bits == 0x7bff ? 65536.0F : ip2p::kernels::to_float(ip2p::kernels::Fp16{static_cast<std::uint16_t>(bits + 1)});
    const float middle = (low + high) / 2;
    for (const float value : {low, middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 1e9F)}) {
      check(value);
      check(-value);
    }
  }
  for (const float value : {0.0F, -0.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::denorm_min(), std::nanf("")}) {
    check(value);
  }
}
