#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/state.hpp"
#include "support/catch.hpp"

namespace {

ip2p::KlAutoencoder small_codec(std::uint64_t seed) {
  ip2p::KlAutoencoderConfig config;
  config.block_out_channels = {8, 16};
  config.layers_per_block = 1;
  config.norm_num_groups = 4;
  ip2p::KlAutoencoder codec(config);
  ip2p::initialise(codec.module(), seed);
  return codec;
}

ip2p::Weights weights_from(const std::map<std::string, at::Tensor>& tensors) {
  ip2p::Weights weights;
  for (const auto& [name, tensor] : tensors) {
    weights.emplace(name, ip2p::WeightEntry{tensor.sizes().vec(), tensor.scalar_type(),
                                            [tensor = tensor.clone()] { return tensor; }});
  }
  return weights;
}

const std::string query = "encoder.mid_block.attentions.0.to_q.weight";

}  // namespace

TEST_CASE("A module's state has the names in files and can fill another module", "[nn]") {
  const auto source = small_codec(1);
  const auto state = ip2p::state_of(source.module());
  REQUIRE(state.contains(query));
  CHECK(state.at(query).sizes() == at::IntArrayRef({16, 16}));
  const auto target = small_codec(2);
  ip2p::load_weights(target.module(), weights_from(state), "test");
  for (const auto& [name, tensor] : ip2p::state_of(target.module())) {
    INFO(name);
    CHECK(at::equal(tensor, state.at(name)));
  }
}

TEST_CASE("A linear layer can be loaded from a 1x1 convolution", "[nn]") {
  const auto source = small_codec(1);
  auto state = ip2p::state_of(source.module());
  state[query] = state[query].unsqueeze(-1).unsqueeze(-1).clone();
  CHECK_NOTHROW(ip2p::load_weights(small_codec(2).module(), weights_from(state), "test"));
}

TEST_CASE("Weights that do not fit are all reported at once and change nothing", "[nn]") {
  auto state = ip2p::state_of(small_codec(1).module());
  state["decoder.conv_in.wieght"] = state["decoder.conv_in.weight"];
  state.erase("decoder.conv_in.weight");
  state["encoder.conv_in.weight"] = at::randn({8, 4, 3, 3});
  const auto target = small_codec(2);
  const auto before = ip2p::state_of(target.module());
  std::map<std::string, at::Tensor> kept;
  for (const auto& [name, tensor] : before) kept[name] = tensor.clone();
  CHECK_THROWS_WITH(ip2p::load_weights(target.module(), weights_from(state), "model.safetensors (vae)"),
                    Contains("model.safetensors (vae)") &&
                        Contains("1 tensors missing, 1 unexpected, 1 of another shape") &&
                        Contains("missing: decoder.conv_in.weight; nearest: 'decoder.conv_in.wieght'") &&
                        Contains("encoder.conv_in.weight: expected [8, 3, 3, 3], found [8, 4, 3, 3]") &&
                        Contains("unexpected: decoder.conv_in.wieght"));
  for (const auto& [name, tensor] : ip2p::state_of(target.module())) CHECK(at::equal(tensor, kept.at(name)));
}
