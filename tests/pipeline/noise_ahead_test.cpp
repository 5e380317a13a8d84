#include "ip2p/pipeline/noise_ahead.hpp"

#include <ATen/ops/equal.h>

#include <vector>

#include "ip2p/testing/check_noise.hpp"
#include "support/catch.hpp"

namespace {

using namespace ip2p;

/// Records the draws that were requested.
struct CountedNoise {
  TorchNoise noise{3};
  std::vector<std::int64_t> draws = {};
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    draws.push_back(draw);
    return noise.normal(shape, draw);
  }
};

}  // namespace

TEST_CASE("Noise drawn ahead equals noise drawn step by step, bit for bit", "[pipeline]") {
  constexpr std::int64_t steps = 7;
  for (const std::int64_t block : {1, 2, 3, 64}) {
    CountedNoise source;
    TorchNoise plain(3);
    NoiseAhead ahead(source, steps, at::kCPU, block);
    CHECK(at::equal(ahead.normal({2, 3}, 0), plain.normal({2, 3}, 0)));
    for (std::int64_t draw = 1; draw <= steps; ++draw) {
      CHECK(at::equal(ahead.normal({2, 3}, draw), plain.normal({2, 3}, draw)));
    }
    CHECK(source.draws.size() == steps + 1);  // none beyond the run's last one
  }
  CountedNoise at_once;
  NoiseAhead ahead(at_once, steps, at::kCPU, 64);
  static_cast<void>(ahead.normal({2, 3}, 1));
  CHECK(at_once.draws.size() == steps);
}

TEST_CASE("A run may begin with any draw", "[pipeline]") {
  CountedNoise source;
  TorchNoise plain(3);
  NoiseAhead ahead(source, 7, at::kCPU, 2);
  for (std::int64_t draw = 4; draw <= 7; ++draw) {
    CHECK(at::equal(ahead.normal({2, 3}, draw), plain.normal({2, 3}, draw)));
  }
  CHECK(source.draws == std::vector<std::int64_t>{4, 5, 6, 7});
}

TEST_CASE("Noise held ahead takes at most 64 MiB", "[pipeline]") {
  CountedNoise source;
  NoiseAhead ahead(source, 64, at::kCPU, 64);
  static_cast<void>(ahead.normal({6, 1 << 20}, 1));  // 24 MiB
  CHECK(source.draws == std::vector<std::int64_t>{1, 2});
}

TEST_CASE("Draws out of order and of another shape go to the source itself", "[pipeline]") {
  CountedNoise source;
  NoiseAhead ahead(source, 5, at::kCPU, 2);
  static_cast<void>(ahead.normal({2, 3}, 3));
  CHECK(source.draws == std::vector<std::int64_t>{3, 4});
  static_cast<void>(ahead.normal({2, 3}, 1));
  CHECK(source.draws == std::vector<std::int64_t>{3, 4, 1});
  CHECK(ahead.normal({4, 3}, 4).sizes() == at::IntArrayRef({4, 3}));
  CHECK(source.draws.back() == 4);
  static_cast<void>(ahead.normal({2, 3}, 9));
  CHECK(source.draws.back() == 9);
}
