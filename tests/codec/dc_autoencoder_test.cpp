#include "ip2p/codec/dc_autoencoder.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <nlohmann/json.hpp>
#include <string>

#include "ip2p/core/random.hpp"
#include "ip2p/nn/initialise.hpp"
#include "support/catch.hpp"

using namespace ip2p;
using nlohmann::json;

namespace {

/// What the default configuration with another value for `key` is refused with.
std::string read_with(const char* key, const json& value) {
  auto config = DcAutoencoderConfig{}.to_json();
  config[key] = value;
  try {
    static_cast<void>(DcAutoencoderConfig::from_json(config, "vae/config.json"));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

DcAutoencoderConfig small() {
  return {.latent_channels = 4,
          .encoder_block_out_channels = {8, 8, 16},
          .decoder_block_out_channels = {8, 8, 16},
          .encoder_layers_per_block = {0, 1, 1},
          .decoder_layers_per_block = {0, 1, 2}};
}

}  // namespace

TEST_CASE("A wrong value of AutoencoderDC's config.json is refused with its key, what was expected and found",
          "[codec]") {
  CHECK(read_with("latent_channels", 64) == "no error");
  CHECK(read_with("_diffusers_version", "0.42") == "no error");
  CHECK(read_with("latent_channels", 0) == "vae/config.json: latent_channels: expected at least 1, found 0");
  CHECK(read_with("latent_channels", 48) ==
        "vae/config.json: encoder_block_out_channels: expected a last width that is a multiple of latent_channels 48, "
        "found 1024");
  CHECK(read_with("scaling_factor", -1) == "vae/config.json: scaling_factor: expected a positive number, found -1");
  CHECK(
      read_with("encoder_block_types", {"ResBlock", "EfficientViTBlock"}) ==
      R"(vae/config.json: encoder_block_types: expected "ResBlock", found ["ResBlock","EfficientViTBlock"], which is not supported)");
  CHECK(
      read_with("upsample_block_type", "interpolate") ==
      R"(vae/config.json: upsample_block_type: expected "pixel_shuffle", found "interpolate", which is not supported)");
  CHECK(read_with("encoder_block_out_channels", {128}) ==
        "vae/config.json: encoder_block_out_channels: expected 2 to 16 resolutions, found 1");
  CHECK(read_with("encoder_block_out_channels", {128, 256, 512, 512, 1024, 1022}) ==
        "vae/config.json: encoder_block_out_channels: expected positive multiples of 4, found 1022");
  CHECK(read_with("decoder_block_out_channels", {128, 256, 512, 512, 768, 1024}) ==
        "vae/config.json: decoder_block_out_channels: expected widths that divide 4 times the one before, found "
        "[128, 256, 512, 512, 768, 1024]");
  CHECK(read_with("decoder_layers_per_block", {3, 3, 3}) ==
        "vae/config.json: decoder_layers_per_block: expected 6 resolutions, found 3");
  CHECK(read_with("decoder_layers_per_block", {3, 3, 3, 0, 3, 3}) ==
        "vae/config.json: decoder_layers_per_block: expected 1 to 1000 at a coarser resolution, found 0");
  auto config = DcAutoencoderConfig{};
  config.decoder_block_out_channels = {128, 256, 512};
  config.decoder_layers_per_block = {1, 1, 1};
  CHECK_THROWS_WITH(DcAutoencoder(config),
                    "DcAutoencoderConfig: decoder_block_out_channels: expected 6 resolutions, as many as in "
                    "encoder_block_out_channels, found 3");
  CHECK(DcAutoencoderConfig::from_json(small().to_json(), "small").to_json() == small().to_json());
}

TEST_CASE("DcAutoencoder refuses other pictures and latents", "[codec]") {
  const at::NoGradGuard no_grad;
  DcAutoencoder codec(small());
  initialise(codec.module(), 1);
  CHECK(codec.downscale() == 4);
  CHECK(codec.encode(at::zeros({1, 3, 8, 4})).sizes() == at::IntArrayRef({1, 4, 2, 1}));
  CHECK(codec.decode(at::zeros({1, 4, 2, 1})).sizes() == at::IntArrayRef({1, 3, 8, 4}));
  CHECK_THROWS_WITH(codec.encode(at::zeros({1, 4, 8, 4})), Contains("images: expected [B, 3, H, W]"));
  CHECK_THROWS_WITH(codec.encode(at::zeros({1, 3, 8, 6})), Contains("multiples of 4, found [1, 3, 8, 6]"));
  CHECK_THROWS_WITH(codec.encode(at::Tensor()), Contains("found no tensor"));
  CHECK_THROWS_WITH(codec.decode(at::zeros({1, 3, 2, 1})), Contains("latents: expected [B, 4, h, w]"));
  CHECK_THROWS_WITH(codec.decode(at::zeros({1, 4, 0, 1})), Contains("found [1, 4, 0, 1]"));
}

TEST_CASE("Fresh DcAutoencoder weights let gradients through to every parameter", "[codec]") {
  const DcAutoencoder codec(small());
  initialise(codec.module(), 1);
  codec.decode(codec.encode(CounterNoise(1).normal({1, 3, 8, 8}, 0))).square().sum().backward();
  for (const auto& [name, parameter] : codec.module().named_parameters()) {
    INFO(name);
    REQUIRE(parameter.grad().defined());
    CHECK(parameter.grad().abs().max().item<double>() > 0.0);
  }
}
