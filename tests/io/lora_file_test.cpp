#include "ip2p/io/lora_file.hpp"
#include "ip2p/io/write_safetensors.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "io/crafted_safetensors.hpp"
#include "io/ldm_table.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

using Tensors = std::map<std::string, at::Tensor>;

Weights weights_from(const Tensors& tensors) {
  Weights weights;
  for (const auto& [name, tensor] : tensors) {
    weights.emplace(name,
                    WeightEntry{tensor.sizes().vec(), tensor.scalar_type(), [tensor = tensor] { return tensor; }});
  }
  return weights;
}

LoraFile lora(const Tensors& tensors, const std::map<std::string, std::string>& metadata = {}) {
  return LoraFile::from(weights_from(tensors), "file", metadata);
}

std::string refusal(const Tensors& tensors, const std::map<std::string, std::string>& metadata = {}) {
  return error_of([&] { static_cast<void>(lora(tensors, metadata)); });
}

/// "component module part" of a name, or "unknown".
std::string read(const std::string& name) {
  const auto key = detail::parse_lora_key(name);
  if (!key) return "unknown";
  const char* parts[] = {"down", "up", "mid", "alpha"};
  return key->component + " " + key->module + " " + parts[static_cast<int>(key->part)];
}

const std::string query = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
const std::string dotted = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
const std::string down = "lora_unet_" + query + ".lora_down.weight";
const std::string up = "lora_unet_" + query + ".lora_up.weight";
const std::string alpha = "lora_unet_" + query + ".alpha";

Tensors pair() { return {{down, at::ones({2, 6})}, {up, at::ones({8, 2})}}; }

}  // namespace

TEST_CASE("Every writer's name for a layer is read as the same layer", "[io][lora]") {
  const std::string attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.";
  for (const auto& base :
       {"unet." + dotted + ".lora_A.weight", "unet." + dotted + ".lora.down.weight", down,
        "unet." + attention + "processor.to_q_lora.down.weight", "unet." + attention + "to_q_lora.down.weight",
        dotted + ".lora_A.weight", attention + "processor.to_q_lora.down.weight",
        "base_model.model." + dotted + ".lora_A.weight", "unet." + dotted + ".lora_A.default.weight",
        "unet." + dotted + ".lora_A.my_style.weight", dotted + ".lora_A.default_0.weight",
        "base_model.model." + dotted + ".lora_A.default_0.weight", "unet.unet." + dotted + ".lora_A.weight",
        "base_model.model.unet." + dotted + ".lora_A.weight", "diffusion_model." + dotted + ".lora_down.weight",
        "lycoris_" + query + ".lora_down.weight", "lycoris_unet_" + query + ".lora_down.weight",
        "lora_unet." + dotted + ".lora_down.weight"}) {
    INFO(base);
    CHECK(read(base) == "unet " + query + " down");
  }
  CHECK(read("unet." + attention + "processor.to_out_lora.up.weight") ==
        "unet down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0 up");
  CHECK(read("lora_unet_mid_block_resnets_1_conv2.lora_mid.weight") == "unet mid_block_resnets_1_conv2 mid");
  const auto ldm =
      detail::parse_lora_key("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_down.weight");
  REQUIRE(ldm);
  CHECK(detail::lora_module_in(ldm->module, 2) == query);
  CHECK(read("unet.conv_in.lora_B.weight") == "unet conv_in up");
  CHECK(read(alpha) == "unet " + query + " alpha");
  CHECK(read("unet." + dotted + ".alpha") == "unet " + query + " alpha");
  CHECK(read("unet." + attention + "processor.to_q_lora.alpha") == "unet " + query + " alpha");

  const std::string layer = "text_encoder text_model_encoder_layers_0_self_attn_q_proj";
  for (const std::string base :
       {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
        "text_encoder.encoder.layers.0.self_attn.q_proj.lora_A.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight",
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te.text_model.encoder.layers.0.self_attn.q_proj.lora_down.weight",
        "lycoris_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.style.weight",
        "text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"}) {
    INFO(base);
    CHECK(read(base) == layer + " down");
  }
  CHECK(read("text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.up.weight") ==
        "text_encoder text_model_encoder_layers_3_mlp_fc1 up");

  for (const std::string name : {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
                                 "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", "something",
                                 "transformer.blocks.0.attn.to_q.lora_A.weight", "emb_params"}) {
    INFO(name);
    CHECK(read(name) == "unknown");
  }
}

TEST_CASE("A file with two adapters of PEFT is refused", "[io][lora]") {
  const Tensors tensors{{"unet." + dotted + ".lora_A.one.weight", at::ones({2, 6})},
                        {"unet." + dotted + ".lora_B.one.weight", at::ones({8, 2})},
                        {"unet." + dotted + ".lora_A.two.weight", at::ones({2, 6})},
                        {"unet." + dotted + ".lora_B.two.weight", at::ones({8, 2})}};
  CHECK(refusal(tensors) == "file: expected one adapter in the file, found 'one' and 'two'");
}

TEST_CASE("LDM's block names in kohya's spelling map to diffusers' layers, for the whole of SD1.5", "[io][lora]") {
  std::size_t layers = 0;
  const auto table = ldm_table("sd15");
  for (const auto& row : table.at("unet")) {
    if (row.shape.size() < 2) continue;  // norms and biases have no adapters
    const std::string prefix = "model.diffusion_model.";
    const auto strip = [](std::string name) {
      name.resize(name.size() - std::string(".weight").size());
      return detail::replace_all(name, ".", "_");
    };
    INFO(row.source);
    const auto key = detail::parse_lora_key("lora_unet_" + strip(row.source.substr(prefix.size())) + ".alpha");
    REQUIRE(key);
    CHECK(detail::lora_module_in(key->module, 2) == strip(row.target));
    CHECK(detail::lora_module_in(strip(row.target), 2) == strip(row.target));
    ++layers;
  }
  CHECK(layers == 282);
  // With one layer per block, blocks are shorter.
  CHECK(detail::lora_module_in("input_blocks_3_1_proj_in", 1) == "down_blocks_1_attentions_0_proj_in");
  CHECK(detail::lora_module_in("output_blocks_1_1_conv", 1) == "up_blocks_0_upsamplers_0_conv");
}

TEST_CASE("A LoRA's strength is alpha over rank, or one if there is no alpha", "[io][lora]") {
  auto tensors = pair();
  const auto plain = lora(tensors);
  REQUIRE(plain.layers().size() == 1);
  CHECK(plain.layers()[0].rank == 2);
  CHECK(plain.layers()[0].strength == 1);
  CHECK(plain.layers()[0].component == "unet");
  CHECK(plain.layers()[0].module == query);
  CHECK(plain.layers()[0].name == "lora_unet_" + query);
  for (const auto& value : {at::full({}, 3.0), at::full({1}, 3), at::full({}, 3.0, at::kHalf)}) {
    tensors[alpha] = value;
    CHECK(lora(tensors).layers()[0].strength == 1.5);
  }
}

TEST_CASE("Alpha may be in the metadata that diffusers writes", "[io][lora]") {
  const Tensors tensors{{"unet." + dotted + ".lora_A.weight", at::ones({4, 6})},
                        {"unet." + dotted + ".lora_B.weight", at::ones({8, 4})},
                        {"text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", at::ones({4, 6})},
                        {"text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight", at::ones({8, 4})}};
  const auto strength = [&](const std::string& settings, const std::string& component) {
    return lora(tensors, {{"lora_adapter_metadata", settings}}).part(component).layers().at(0).strength;
  };
  const std::string both = R"({"unet.r": 4, "unet.lora_alpha": 8, "text_encoder.lora_alpha": 2})";
  CHECK(strength(both, "unet") == 2);
  CHECK(strength(both, "text_encoder") == 0.5);
  CHECK(strength(R"({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 16}})", "unet") == 4);
  CHECK(strength(R"({"unet.lora_alpha": 8, "unet.alpha_pattern": {"to_k": 16, "1.to_q": 16}})", "unet") == 2);
  CHECK(strength(R"({"unet.lora_alpha": 8, "unet.use_rslora": true})", "unet") == 4);
  auto stated = tensors;
  stated["unet." + dotted + ".alpha"] = at::full({}, 1.0);
  CHECK(lora(stated, {{"lora_adapter_metadata", both}}).part("unet").layers().at(0).strength == 0.25);
  CHECK_THAT(refusal(tensors, {{"lora_adapter_metadata", "{"}}), Contains("lora_adapter_metadata: expected a JSON"));
  CHECK_THAT(refusal(tensors, {{"lora_adapter_metadata", R"({"unet.lora_alpha": "eight"})"}}),
             Contains("lora_adapter_metadata: expected PEFT's configuration, found"));
}

TEST_CASE("A file's adapters are grouped by component; unknown tensors are kept separately", "[io][lora]") {
  auto tensors = pair();
  tensors["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = at::ones({2, 6});
  tensors["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"] = at::ones({8, 2});
  tensors["lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"] = at::ones({8, 2});
  const auto file = lora(tensors);
  CHECK(file.where() == "file");
  CHECK(file.layers().size() == 2);
  CHECK(file.part("unet").layers().size() == 1);
  CHECK(file.part("text_encoder").layers().at(0).module == "text_model_encoder_layers_0_mlp_fc1");
  const std::vector<std::string> unknown{"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"};
  CHECK(file.unrecognised() == unknown);
  CHECK(file.part("unet").unrecognised() == unknown);
}

TEST_CASE("Other kinds of adapters are refused with the tensor's name", "[io][lora]") {
  const auto kinds = std::map<std::string, std::string>{
      {"lora_unet_x.dora_scale", "DoRA"},
      {"unet.x.lora_magnitude_vector", "DoRA"},
      {"unet.x.lora_magnitude_vector.default.weight", "DoRA"},
      {"lora_unet_x.hada_w1_a", "LoHa"},
      {"lora_unet_x.lokr_w1", "LoKr"},
      {"lora_unet_x.oft_blocks", "OFT"},
      {"lora_unet_x.on_input", "(IA)^3"},
      {"lora_unet_x.diff", "a full difference of weights"},
      {"lora_unet_x.diff_b", "a full difference of weights"},
      {"unet.x.lora_B.bias", "a LoRA with biases"},
  };
  for (const auto& [name, kind] : kinds) {
    auto tensors = pair();
    tensors[name] = at::ones({2, 2});
    CHECK(refusal(tensors) == "file: tensor '" + name + "': expected a LoRA (down, up and alpha), found " + kind +
                                  ", which is not supported");
  }
  CHECK(detail::foreign_adapter("model.diffusion_model.out.2.weight").empty());
}

TEST_CASE("Damaged and mis-shaped LoRAs are refused with the tensor's name", "[io][lora]") {
  const auto with = [](const std::string& name, const at::Tensor& tensor) {
    auto tensors = pair();
    tensors[name] = tensor;
    return refusal(tensors);
  };
  CHECK_THAT(refusal({}), Contains("file: contains no LoRA: expected tensors such as") && Contains("found none"));
  CHECK_THAT(refusal({{"x.weight", at::ones({2})}}), Contains("contains no LoRA") && Contains("found 'x.weight'"));
  CHECK_THAT(refusal({{down, at::ones({2, 6})}}),
             Contains("layer 'lora_unet_" + query + "': expected a tensor 'up'") && Contains("beside '" + down + "'"));
  CHECK_THAT(refusal({{up, at::ones({8, 2})}, {alpha, at::ones({})}}),
             Contains("layer 'lora_unet_" + query + "': expected a tensor 'down'"));
  CHECK_THAT(with(up, at::ones({8, 3})), Contains("tensor '" + up +
                                                  "': expected [out, 2] or [out, 2, 1, 1], for the "
                                                  "rank 2 of '" +
                                                  down + "', found [8, 3]"));
  CHECK_THAT(with(up, at::ones({8, 2, 3, 3})), Contains("tensor '" + up + "'") && Contains("found [8, 2, 3, 3]"));
  CHECK_THAT(with(down, at::ones({6})), Contains("tensor '" + down + "': expected [rank, in] or [rank, in, k, k]"));
  CHECK_THAT(with(down, at::ones({2, 6, 3, 1})), Contains("found [2, 6, 3, 1]"));
  CHECK_THAT(with(down, at::ones({0, 6})), Contains("found [0, 6]"));
  CHECK_THAT(with(down, at::ones({2, 6}, at::kLong)), Contains("expected floating-point numbers, found Long"));
  CHECK_THAT(with(alpha, at::ones({2})), Contains("tensor '" + alpha + "': expected one number, found [2]"));
  CHECK_THAT(with(alpha, at::full({}, std::numeric_limits<double>::quiet_NaN())),
             Contains("tensor '" + alpha + "': expected a finite number, found nan"));
  CHECK_THAT(with("unet." + dotted + ".lora_A.weight", at::ones({2, 6})),
             Contains("expected one adapter per layer") && Contains(down));

  const std::string mid = "lora_unet_" + query + ".lora_mid.weight";
  CHECK_THAT(with(mid, at::ones({3, 2, 3, 3})),
             Contains("tensor '" + mid + "': expected [2, 2, k, k], for the rank 2 of '" + down + "'"));
  auto locon = pair();
  locon[mid] = at::ones({2, 2, 3, 3});
  CHECK(lora(locon).layers()[0].mid.has_value());
  locon[down] = at::ones({2, 6, 3, 3});
  CHECK_THAT(refusal(locon), Contains("tensor '" + down + "': expected [2, in, 1, 1] beside '" + mid + "'"));
}

TEST_CASE("A LoRA file is opened by path; numbers that are not finite are refused", "[io][lora]") {
  const ScratchDir scratch;
  const auto path = scratch / "style.safetensors";
  write_safetensors(path, pair());
  const auto file = LoraFile::open(path);
  CHECK(file.where() == path.string());
  CHECK(file.layers()[0].down.read().sizes() == at::IntArrayRef({2, 6}));
  auto damaged = pair();
  damaged[up][3][1] = std::numeric_limits<float>::infinity();
  write_safetensors(path, damaged);
  CHECK_THAT(error_of([&] { static_cast<void>(LoraFile::open(path).layers()[0].up.read()); }),
             Contains("tensor '" + up + "' holds 0 NaN and 1 infinite values among its 16"));
}
