#include "ip2p/io/config_keys.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "ip2p/codec/kl_autoencoder_config.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/reference.hpp"

// Expected values: diffusers and transformers, by tests/parity/make_config_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

/// sd1-4ch with some keys of its configuration changed.
UNet unet_with(const nlohmann::json& change) {
  ModelFilesOptions options;
  auto files = ModelFiles::open(fixture("unet/fixtures/sd1-4ch"), options);
  auto config = files.config("unet");
  config.update(change);
  UNet unet(UNetConfig::from_json(config, "config.json"));
  auto weights = files.weights("unet");
  if (!unet.config().middle) {
    std::erase_if(weights, [](const auto& item) { return item.first.starts_with("mid_block."); });
  }
  load_weights(unet.module(), weights, "sd1-4ch", at::kFloat);
  unet.freeze();
  return unet;
}

}  // namespace

TEST_CASE("UNet honours the keys of its configuration as diffusers does", "[unet][parity]") {
  const at::NoGradGuard no_grad;
  const auto file = SafetensorsFile::open(fixture("unet/fixtures/config-expected.safetensors"));
  const auto x = file.tensor("x"), t = file.tensor("t"), context = file.tensor("context");
  const auto plain = unet_with(nlohmann::json::object())(x, t, context);
  const auto width = context.size(2);
  for (const auto& [name, change] : std::map<std::string, nlohmann::json>{
           {"sine_first", {{"flip_sin_to_cos", false}}},
           {"shifted", {{"freq_shift", 1}}},
           {"epsilon", {{"norm_eps", 1e-2}}},
           {"centred", {{"center_input_sample", true}}},
           {"no_middle", {{"mid_block_type", nullptr}}},
           {"lists", {{"layers_per_block", {1, 1, 1, 1}}, {"cross_attention_dim", {width, width, width, width}}}},
       }) {
    INFO(name);
    const auto expected = file.tensor(name);
    const auto out = unet_with(change)(x, t, context);
    CHECK(max_difference(out, expected) / deviation(expected) < 1e-4);
    CHECK((max_difference(plain, expected) / deviation(expected) > 1e-3) == (name != "lists"));
  }
}

TEST_CASE("A UNet without a middle block takes deep features over", "[unet]") {
  const at::NoGradGuard no_grad;
  const auto file = SafetensorsFile::open(fixture("unet/fixtures/config-expected.safetensors"));
  const auto unet = unet_with({{"mid_block_type", nullptr}});
  const auto times = unet.project_time(file.tensor("t"));
  const auto texts = unet.project_context(file.tensor("context"));
  at::Tensor deep;
  const auto whole = unet.with_deep_features(file.tensor("x"), times, texts, PlainAttention{}, {}, {}, 2, deep);
  CHECK(whole.equal(unet(file.tensor("x"), times, texts)));
  CHECK(unet.with_deep_features(file.tensor("x"), times, texts, PlainAttention{}, {}, {}, 2, deep).equal(whole));
}

TEST_CASE("ClipTextModel honours layer_norm_eps as transformers does", "[text][parity]") {
  const at::NoGradGuard no_grad;
  const auto file = SafetensorsFile::open(fixture("text/fixtures/config-expected.safetensors"));
  const auto expected = file.tensor("out");
  const auto with = [&](double eps) {
    ModelFilesOptions options;
    options.overrides = {{"text_encoder", {{"layer_norm_eps", eps}}}};
    return load<ClipTextModel>(ModelFiles::open(fixture("text/fixtures/sd2-text"), options))(file.tensor("ids"));
  };
  CHECK(max_difference(with(1e-2), expected) / deviation(expected) < 1e-4);
  CHECK(max_difference(with(1e-5), expected) / deviation(expected) > 1e-3);
}

TEST_CASE("Configurations that ask for other arithmetic are refused by key", "[unet][codec][text][schedule]") {
  const auto unet = [](const nlohmann::json& change) {
    auto config = UNetConfig{}.to_json();
    config.update(change);
    return UNetConfig::from_json(config, "c.json");
  };
  const auto vae = [](const nlohmann::json& change) {
    auto config = KlAutoencoderConfig{}.to_json();
    config.update(change);
    return KlAutoencoderConfig::from_json(config, "c.json");
  };
  CHECK_THROWS_WITH(unet({{"act_fn", "gelu"}}),
                    "c.json: act_fn: expected \"silu\" or \"swish\", found \"gelu\", which is not supported");
  CHECK_THROWS_WITH(unet({{"resnet_out_scale_factor", 2.0}}),
                    "c.json: resnet_out_scale_factor: expected 1, found 2.0, which is not supported");
  CHECK_THROWS_WITH(unet({{"only_cross_attention", {false, true, false, false}}}),
                    "c.json: only_cross_attention: expected false, found [false,true,false,false], which is not "
                    "supported");
  CHECK_THROWS_WITH(unet({{"class_embed_type", "timestep"}}),
                    "c.json: class_embed_type: expected none, found \"timestep\", which is not supported");
  CHECK_THROWS_WITH(unet({{"time_embedding_dim", 512}}),
                    Catch::Matchers::Contains("time_embedding_dim: expected four"));
  CHECK_THROWS_WITH(unet({{"mid_block_type", "UNetMidBlock2D"}}), Catch::Matchers::Contains("mid_block_type"));
  CHECK_THROWS_WITH(unet({{"_class_name", "UNetMotionModel"}}), Catch::Matchers::Contains("_class_name"));
  CHECK_THROWS_WITH(unet({{"freq_shift", 160}}), "c.json: freq_shift: expected a number below 160, found 160");
  CHECK_NOTHROW(unet({{"only_cross_attention", {false, false, false, false}}, {"time_embedding_dim", 1280}}));
  CHECK_THROWS_WITH(vae({{"act_fn", "gelu"}}), Catch::Matchers::Contains("act_fn"));
  CHECK_THROWS_WITH(vae({{"shift_factor", 0.1}}),
                    "c.json: shift_factor: expected 0, found 0.1, which is not supported");
  CHECK_THROWS_WITH(vae({{"down_block_types", {"DownEncoderBlock2D", "AttnDownEncoderBlock2D"}}}),
                    Catch::Matchers::Contains("down_block_types: expected \"DownEncoderBlock2D\""));
  auto text = ClipTextConfig{}.to_json();
  text["model_type"] = "t5";
  CHECK_THROWS_WITH(ClipTextConfig::from_json(text, "c.json"),
                    "c.json: model_type: expected clip_text_model, clip, found \"t5\", which is not supported");
  const auto scheduler = [](const nlohmann::json& json) { return scheduler_config_from_json(json, "s.json"); };
  for (const char* other : {"FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"}) {
    CHECK_THROWS_WITH(scheduler({{"_class_name", other}}), Catch::Matchers::Contains(other));
  }
  for (const char* key : {"use_beta_sigmas", "use_flow_sigmas", "use_lu_lambdas", "thresholding"}) {
    CHECK_THROWS_WITH(scheduler({{key, true}}),
                      fmt::format("s.json: {}: expected false, found true, which is not supported", key));
  }
  CHECK_THROWS_WITH(scheduler({{"use_karras_sigmas", true}, {"use_exponential_sigmas", true}}),
                    Catch::Matchers::Contains("use_karras_sigmas"));
  CHECK(scheduler({{"trained_betas", nlohmann::json::array()}}).noise.betas.empty());
}

TEST_CASE("A model that asks for Karras' or exponential noise levels gets them", "[pipeline]") {
  for (const auto numerics : {Numerics::released, Numerics::diffusers}) {
    CHECK(diffusion_of(scheduler_config_from_json({{"use_karras_sigmas", true}}, "s"), numerics).schedule.name() ==
          "karras");
    CHECK(diffusion_of(scheduler_config_from_json({{"use_exponential_sigmas", true}}, "s"), numerics).schedule.name() ==
          "exponential");
  }
}
