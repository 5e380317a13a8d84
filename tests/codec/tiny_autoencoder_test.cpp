#include "ip2p/codec/tiny_autoencoder.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/io/taesd_files.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/state.hpp"
#include "support/catch.hpp"

using namespace ip2p;
using nlohmann::json;

namespace {

std::string error_of_config(const json& config) {
  try {
    static_cast<void>(TinyAutoencoderConfig::from_json(config, "vae/config.json"));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// What the published configuration with another value for `key` is refused with.
std::string with(const char* key, const json& value) {
  auto config = TinyAutoencoderConfig{}.to_json();
  config[key] = value;
  return error_of_config(config);
}

Weights entries(const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& shapes) {
  Weights weights;
  for (const auto& [name, shape] : shapes) {
    weights.emplace(name, WeightEntry{shape, at::kFloat, [shape = shape] { return at::zeros(shape); }});
  }
  return weights;
}

}  // namespace

TEST_CASE("A wrong value of TAESD's config.json is refused with its key, what was expected and found", "[codec]") {
  CHECK(error_of_config(TinyAutoencoderConfig{}.to_json()) == "no error");
  CHECK(error_of_config(json::object()) == "no error");
  CHECK(with("latent_channels", nullptr) == "no error");
  CHECK(with("latent_channels", 16) == "no error");

  CHECK(error_of_config(json::array()) == "vae/config.json: expected the config.json of an AutoencoderTiny, found []");
  CHECK(with("latent_channels", 0) == "vae/config.json: latent_channels: expected at least 1, found 0");
  CHECK(with("latent_channels", 4.5) == "vae/config.json: latent_channels: expected a whole number, found 4.5");
  CHECK(with("latent_channels", "4") == "vae/config.json: latent_channels: expected a whole number, found \"4\"");
  CHECK(with("scaling_factor", 0) == "vae/config.json: scaling_factor: expected a positive number, found 0");
  CHECK(with("scaling_factor", false) == "vae/config.json: scaling_factor: expected a number, found false");
  CHECK(with("in_channels", 4) == "vae/config.json: in_channels: expected 3, found 4, which is not supported");
  CHECK(with("out_channels", 1) == "vae/config.json: out_channels: expected 3, found 1, which is not supported");
  CHECK(with("act_fn", "silu") == R"(vae/config.json: act_fn: expected "relu", found "silu", which is not supported)");
  CHECK(with("upsampling_scaling_factor", 4) ==
        "vae/config.json: upsampling_scaling_factor: expected 2, found 4, which is not supported");
  CHECK(with("num_encoder_blocks", {1, 3, 3, -3}) ==
        "vae/config.json: num_encoder_blocks: expected 0 to 1000 blocks at a resolution, found -3");
  CHECK(with("num_encoder_blocks", json::array()) ==
        "vae/config.json: num_encoder_blocks: expected a list of whole numbers, found []");
  CHECK(with("num_decoder_blocks", {3, 3, 1.5, 1}) ==
        "vae/config.json: num_decoder_blocks: expected a list of whole numbers, found [3,3,1.5,1]");
  CHECK(with("num_decoder_blocks", {3, 3, 1}) ==
        "vae/config.json: decoder_block_out_channels: expected one entry for each of 3 resolutions, found 4");
  CHECK(with("encoder_block_out_channels", {64, 64, 32, 64}) ==
        "vae/config.json: encoder_block_out_channels: expected one width for all resolutions of encoder and decoder, "
        "found 64 and 32");
  CHECK(with("decoder_block_out_channels", {32, 32, 32, 32}) ==
        "vae/config.json: decoder_block_out_channels: expected one width for all resolutions of encoder and decoder, "
        "found 64 and 32");
  CHECK(with("encoder_block_out_channels", {64, 64}) ==
        "vae/config.json: encoder_block_out_channels: expected one entry for each of 4 resolutions, found 2");

  auto config = TinyAutoencoderConfig{}.to_json();
  for (const auto* key : {"encoder_block_out_channels", "decoder_block_out_channels"}) config[key] = {0, 0, 0, 0};
  CHECK(error_of_config(config) == "vae/config.json: encoder_block_out_channels: expected at least 1, found 0");
  config = {{"num_decoder_blocks", {3, 1}}};
  CHECK(error_of_config(config) ==
        "vae/config.json: num_decoder_blocks: expected 4 resolutions, as many as in num_encoder_blocks, found 2");
  CHECK_THROWS_WITH(TinyAutoencoder({.encoder_blocks = {}}),
                    "TinyAutoencoderConfig: encoder_blocks: expected 1 to 16 resolutions, found 0");
  CHECK_THROWS_WITH(TinyAutoencoder({.channels = -1}),
                    "TinyAutoencoderConfig: channels: expected at least 1, found -1");
}

TEST_CASE("TAESD's configuration is inferred from its weights, or they are refused by name", "[codec][io]") {
  const TinyAutoencoderConfig small{
      .latent_channels = 2, .channels = 4, .encoder_blocks = {0, 1}, .decoder_blocks = {2, 1}};
  Weights weights;
  for (const auto& [name, tensor] : state_of(TinyAutoencoder(small).module())) {
    weights.emplace(name, WeightEntry{tensor.sizes().vec(), at::kFloat, [tensor = tensor] { return tensor; }});
  }
  const auto inferred = TinyAutoencoderConfig::from_json(taesd_config(weights, "taesd"), "taesd");
  CHECK(inferred.to_json() == small.to_json());

  auto other = weights;
  other.emplace("encoder.layers.x.weight", other.begin()->second);
  CHECK_THROWS_WITH(taesd_config(other, "taesd"),
                    "taesd: expected names such as 'encoder.layers.0.weight', found 'encoder.layers.x.weight'");
  CHECK_THROWS_WITH(taesd_config(entries({{"encoder.layers.0.weight", {4, 3, 3, 3}}}), "taesd"),
                    "taesd: expected two or more convolutions under 'encoder.layers.', found 1 among 1 tensors");
  other = weights;
  other.at("encoder.layers.0.weight").shape[1] = 4;
  CHECK_THROWS_WITH(TinyAutoencoderConfig::from_json(taesd_config(other, "taesd"), "taesd"),
                    "taesd: in_channels: expected 3, found 4, which is not supported");
}

TEST_CASE("TinyAutoencoder refuses other pictures and latents", "[codec]") {
  const at::NoGradGuard no_grad;
  TinyAutoencoder codec({.latent_channels = 2, .channels = 4, .encoder_blocks = {0, 1}, .decoder_blocks = {1, 0}});
  initialise(codec.module(), 1);
  CHECK(codec.encode(at::zeros({1, 3, 8, 6})).sizes() == at::IntArrayRef({1, 2, 4, 3}));
  CHECK_THROWS_WITH(codec.encode(at::zeros({1, 4, 8, 6})), Contains("images: expected [B, 3, H, W]"));
  CHECK_THROWS_WITH(codec.encode(at::zeros({1, 3, 8, 7})), Contains("multiples of 2, found [1, 3, 8, 7]"));
  CHECK_THROWS_WITH(codec.encode(at::zeros({1, 3, 0, 6})), Contains("found [1, 3, 0, 6]"));
  CHECK_THROWS_WITH(codec.encode(at::Tensor()), Contains("found no tensor"));
  CHECK_THROWS_WITH(codec.decode(at::zeros({1, 4, 4, 3})), Contains("latents: expected [B, 2, h, w]"));
  CHECK_THROWS_WITH(codec.decode(at::zeros({1, 2, 0, 3})), Contains("found [1, 2, 0, 3]"));
  CHECK_THROWS_WITH(codec.decode(at::Tensor()), Contains("found no tensor"));
}
