#include "ip2p/nn/state.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

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

namespace {

/// Three layers of 256 KiB each, so that each weight is mapped on its own.
struct ThreeLayers : ip2p::Module {
  ThreeLayers() {
    for (const auto* name : {"a", "b", "c"}) register_module(name, std::make_shared<ip2p::Linear>(256, 256));
  }
};

/// What `load_weights` says of the weights of `file`, after which `module` must be as it was.
std::string refused(ip2p::Module& module, const ip2p::Weights& weights) {
  std::map<std::string, at::Tensor> kept;
  for (const auto& [name, tensor] : module.named_parameters()) kept[name] = tensor.detach().clone();
  std::string message = "no error";
  try {
    ip2p::load_weights(module, weights, "test", at::kHalf);
  } catch (const ip2p::Error& error) {
    message = error.what();
  }
  for (const auto& [name, tensor] : module.named_parameters()) {
    INFO(name);
    CHECK(tensor.scalar_type() == at::kFloat);
    CHECK(at::equal(tensor, kept.at(name)));
  }
  return message;
}

}  // namespace

TEST_CASE("Weights that cannot be read to the end leave a module as it was", "[nn]") {
  const ip2p::testing::ScratchDir scratch;
  const auto path = scratch / "weights.safetensors";
  ThreeLayers source, target;
  ip2p::initialise(source, 1);
  ip2p::initialise(target, 2);
  const auto access = GENERATE(ip2p::WeightAccess::copied, ip2p::WeightAccess::mapped);
  const auto state = ip2p::state_of(source);
  const auto opened = [&](bool check_finite = false) {
    return weights_of(ip2p::SafetensorsFile::open(path, {.access = access, .check_finite = check_finite}));
  };

  ip2p::write_safetensors(path, state);
  auto weights = opened();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);  // after its header was checked
  CHECK_THAT(refused(target, weights), Contains("the file shrank"));

  auto damaged = state;
  damaged["c.weight"] = state.at("c.weight").clone();
  damaged["c.weight"][255][255] = std::nan("");
  ip2p::write_safetensors(path, damaged);
  CHECK_THAT(refused(target, opened(true)), Contains("tensor 'c.weight' holds 1 NaN"));

  weights = weights_from(state);
  weights["c.weight"].read = [] { return at::full({256, 255}, 0.5); };
  CHECK_THAT(refused(target, weights),
             Contains("tensor 'c.weight': expected floating-point values [256, 256], found [256, 255] of Float"));
  weights["c.weight"].read = [] { return at::full({256, 256}, 1, at::kInt); };
  CHECK_THAT(refused(target, weights), Contains("found [256, 256] of Int"));
  weights["c.weight"].read = []() -> at::Tensor { throw ip2p::Error("input/output error"); };
  CHECK_THAT(refused(target, weights), Contains("input/output error"));
  CHECK_THROWS_WITH(ip2p::load_weights(target, weights_from(state), "test", at::kInt),
                    Contains("test: dtype: expected a floating-point one, found Int"));

  ip2p::write_safetensors(path, state);
  ip2p::load_weights(target, opened(), "test");
  for (const auto& [name, tensor] : ip2p::state_of(target)) CHECK(at::equal(tensor, state.at(name)));
}

TEST_CASE("Weights that cannot be read leave a model in use as it was, packed weights included", "[nn]") {
  const at::NoGradGuard no_grad;
  auto codec = small_codec(1);
  codec.freeze();
  const auto images = at::full({1, 3, 16, 16}, 0.25);
  const auto before = codec.encode(images);
  auto weights = weights_from(ip2p::state_of(small_codec(2).module()));
  weights.rbegin()->second.read = []() -> at::Tensor { throw ip2p::Error("input/output error"); };
  CHECK_THROWS_WITH(ip2p::load_weights(codec.module(), weights, "test"), Contains("input/output error"));
  CHECK(at::equal(codec.encode(images), before));
}
