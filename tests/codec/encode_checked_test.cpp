#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/zeros.h>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/codec/identity_codec.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

enum class CodecResult { sound, half_size, no_tensor, whole_numbers, no_downscale };

/// Means of 4x4 pixels, altered as `result` says.
struct BlockMeans {
  CodecResult result = CodecResult::sound;
  at::Tensor encode(const at::Tensor& images) const {
    if (result == CodecResult::no_tensor) return {};
    const auto side = result == CodecResult::half_size ? 8 : 4;
    const auto means = at::avg_pool2d(images, {side, side}, {side, side});
    return result == CodecResult::whole_numbers ? means.to(at::kLong) : means;
  }
  at::Tensor decode(const at::Tensor& latents) const {
    if (result == CodecResult::no_tensor) return {};
    const auto f = result == CodecResult::half_size ? 2 : 4;
    const auto images = latents.repeat_interleave(f, 2).repeat_interleave(f, 3);
    return result == CodecResult::whole_numbers ? images.to(at::kLong) : images;
  }
  double scaling_factor() const { return 1.0; }
  std::int64_t downscale() const { return result == CodecResult::no_downscale ? 0 : 4; }
  std::int64_t latent_channels() const { return 3; }
};
static_assert(ImageCodec<BlockMeans>);

}  // namespace

TEST_CASE("A codec's result is refused if it does not have the shape that the codec declares", "[codec]") {
  const auto images = at::zeros({2, 3, 16, 24}), latents = at::zeros({2, 3, 4, 6});
  CHECK(encode_checked(BlockMeans{}, images).sizes() == latents.sizes());
  CHECK(decode_checked(BlockMeans{}, latents).sizes() == images.sizes());
  CHECK(encode_checked(IdentityCodec{}, images).sizes() == images.sizes());
  require_latents(BlockMeans{}, images, latents);

  const BlockMeans half{CodecResult::half_size}, none{CodecResult::no_tensor}, whole{CodecResult::whole_numbers};
  CHECK_THROWS_WITH(encode_checked(half, images),
                    "codec: expected latents [2, 3, 4, 6] in floating point for images [2, 3, 16, 24], found [2, 3, 2, "
                    "3] of Float");
  CHECK_THROWS_WITH(decode_checked(half, latents),
                    "codec: expected pictures [2, 3, 16, 24] in floating point of latents [2, 3, 4, 6], found [2, 3, "
                    "8, 12] of Float");
  CHECK_THROWS_WITH(encode_checked(none, images), Contains("found no tensor"));
  CHECK_THROWS_WITH(decode_checked(none, latents), Contains("found no tensor"));
  CHECK_THROWS_WITH(encode_checked(whole, images), Contains("found [2, 3, 4, 6] of Long"));
  CHECK_THROWS_WITH(decode_checked(whole, latents), Contains("found [2, 3, 16, 24] of Long"));
  CHECK_THROWS_WITH(encode_checked(BlockMeans{CodecResult::no_downscale}, images),
                    "codec: expected downscale() >= 1, found 0");
  CHECK_THROWS_WITH(decode_checked(BlockMeans{}, latents[0]), "codec: latents: expected [B, C, h, w], found [3, 4, 6]");
  CHECK_THROWS_WITH(require_latents(BlockMeans{}, images, latents.narrow(1, 0, 2)), Contains("found [2, 2, 4, 6]"));
}
