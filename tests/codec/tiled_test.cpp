#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <vector>

#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/codec/tiled.hpp"
#include "ip2p/core/error.hpp"
#include "support/catch.hpp"

namespace {

/// A codec that sees no further than one latent pixel, and notes the sizes that it is asked to decode.
struct Blocks {
  std::vector<std::int64_t>* asked;
  [[nodiscard]] at::Tensor encode(const at::Tensor& x) const {
    return x.slice(2, 0, std::nullopt, 4).slice(3, 0, std::nullopt, 4);
  }
  [[nodiscard]] at::Tensor decode(const at::Tensor& z) const {
    asked->push_back(z.size(2) * z.size(3));
    return at::upsample_nearest2d(z, at::IntArrayRef{4 * z.size(2), 4 * z.size(3)});
  }
  [[nodiscard]] double scaling_factor() const { return 1; }
  [[nodiscard]] std::int64_t downscale() const { return 4; }
  [[nodiscard]] std::int64_t latent_channels() const { return 3; }
};

}  // namespace

TEST_CASE("Tiled equals the whole picture if the codec sees single pixels", "[codec]") {
  std::vector<std::int64_t> asked;
  const ip2p::Tiled tiled(Blocks{&asked}, 8, 3);
  for (const auto& [height, width] :
       {std::pair{20L, 9L}, std::pair{8L, 23L}, std::pair{5L, 30L}, std::pair{17L, 17L}}) {
    asked.clear();
    const auto z = at::randn({2, 3, height, width});
    const auto whole = at::upsample_nearest2d(z, at::IntArrayRef{4 * height, 4 * width});
    CHECK((tiled.decode(z) - whole).abs().max().item<double>() < 1e-6);
    CHECK(asked.size() > 1);
    for (const auto pixels : asked) CHECK(pixels <= 64);
    CHECK((tiled.encode(whole) - z).abs().max().item<double>() < 1e-6);
  }
}

TEST_CASE("Tiled passes pictures that fit one tile through", "[codec]") {
  std::vector<std::int64_t> asked;
  const ip2p::Tiled tiled(Blocks{&asked}, 8, 3);
  const auto z = at::randn({1, 3, 8, 5});
  CHECK(at::equal(tiled.decode(z), Blocks{&asked}.decode(z)));
  CHECK(asked == std::vector<std::int64_t>{40, 40});
}

TEST_CASE("Tiled refuses an overlap as large as the tile", "[codec]") {
  CHECK_THROWS_WITH(ip2p::Tiled(ip2p::IdentityCodec{}, 8, 8), Contains("overlap < tile"));
  CHECK_THROWS_WITH(ip2p::Tiled(ip2p::IdentityCodec{}, 8, -1), Contains("found overlap -1"));
}

TEST_CASE("Tiled refuses what its codec would refuse, rather than leave out the edge of a picture", "[codec]") {
  std::vector<std::int64_t> asked;
  const ip2p::Tiled tiled(Blocks{&asked}, 8, 3);
  CHECK_THROWS_WITH(tiled.encode(at::randn({1, 3, 80, 42})), Contains("multiples of 4, found [1, 3, 80, 42]"));
  CHECK_THROWS_WITH(tiled.encode(at::randn({3, 80, 40})), Contains("expected [B, C, h, w]"));
  CHECK_THROWS_WITH(tiled.decode(at::randn({1, 3, 0, 9})), Contains("found [1, 3, 0, 9]"));
  CHECK_THROWS_WITH(tiled.decode(at::Tensor()), Contains("found no tensor"));
}
