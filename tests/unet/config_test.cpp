#include "ip2p/unet/config.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "ip2p/codec/kl_autoencoder_config.hpp"
#include "ip2p/core/error.hpp"
#include "support/catch.hpp"

using namespace ip2p;
using nlohmann::json;

namespace {

/// What the default configuration with another value for `key` is refused with; null leaves the key out.
template <class Config>
std::string refused(const char* key, const json& value) {
  auto config = Config{}.to_json();
  config[key] = value;
  if (value.is_null()) config.erase(key);
  try {
    static_cast<void>(Config::from_json(config, "config.json"));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("A wrong value of a UNet's config.json is refused with its key", "[unet]") {
  const auto with = [](const char* key, const json& value) { return refused<UNetConfig>(key, value); };
  CHECK(with("_class_name", "UNet2DConditionModel") == "no error");
  CHECK(with("in_channels", nullptr) == "config.json: in_channels: expected a value, found none");
  CHECK(with("in_channels", "8") == "config.json: in_channels: expected a whole number, found \"8\"");
  CHECK(with("block_out_channels", 320) ==
        "config.json: block_out_channels: expected a list of whole numbers, found 320");
  CHECK(with("cross_attention_dim", {768, 768}) == "no error");
  CHECK(with("cross_attention_dim", {768, 1024}) ==
        "config.json: cross_attention_dim: expected one value, or a list of equal ones, found [768,1024], which is not "
        "supported");
  CHECK(with("attention_head_dim", 8) == "no error");
  CHECK(with("attention_head_dim", 8.5) == "config.json: attention_head_dim: expected a whole number, found 8.5");
  CHECK(with("transformer_layers_per_block", {1, 1, {1, 2}, 1}) ==
        "config.json: transformer_layers_per_block: expected a list of whole numbers, found [1,1,[1,2],1]");
  CHECK(with("use_linear_projection", 1) == "config.json: use_linear_projection: expected true or false, found 1");
  CHECK(with("down_block_types", nullptr) == "config.json: down_block_types: expected a value, found none");
  CHECK_THAT(with("layers_per_block", 0), Contains("found 8, 4, 0, 768 and 32"));
  CHECK(with("layers_per_block", 2147483648) ==
        "config.json: layers_per_block: expected at most 1000, found 2147483648");
  CHECK(with("cross_attention_dim", 1000000000) ==
        "config.json: cross_attention_dim: expected at most 1000000, found 1000000000");
  CHECK(with("transformer_layers_per_block", 1000000000) ==
        "config.json: transformer_layers_per_block: expected at most 1000, found 1000000000");
}

TEST_CASE("A wrong value of an AutoencoderKL's config.json is refused with its key", "[codec]") {
  const auto with = [](const char* key, const json& value) { return refused<KlAutoencoderConfig>(key, value); };
  CHECK(with("use_quant_conv", true) == "no error");
  CHECK(with("use_quant_conv", false) ==
        "config.json: use_quant_conv: expected true, found false, which is not supported");
  CHECK(with("block_out_channels", nullptr) == "config.json: block_out_channels: expected a value, found none");
  CHECK(with("block_out_channels", json::array()) ==
        "config.json: block_out_channels: expected a list of whole numbers, found []");
  CHECK(with("latent_channels", 4.5) == "config.json: latent_channels: expected a whole number, found 4.5");
  CHECK(with("scaling_factor", 0) == "config.json: scaling_factor: expected a positive number, found 0");
  CHECK(with("latent_channels", 9223372036854775807) ==
        "config.json: latent_channels: expected at most 1000000, found 9223372036854775807");
  CHECK(with("layers_per_block", 1001) == "config.json: layers_per_block: expected at most 1000, found 1001");
  CHECK(with("norm_num_groups", 0) ==
        "config.json: expected positive latent_channels, layers_per_block and norm_num_groups, found 4, 2 and 0");
}
