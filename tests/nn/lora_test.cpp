#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/crafted_safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/apply_lora.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/reference.hpp"

// Expected values: diffusers with PEFT, by tests/parity/make_lora_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

const ModelFiles& model() {
  static const auto files = ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p"));
  return files;
}

LoraFile lora(const std::string& name) { return LoraFile::open(fixture("nn/fixtures/lora-" + name + ".safetensors")); }

/// The tensors of a fixture, to be changed before use.
Weights tensors_of(const std::string& name) {
  return weights_of(SafetensorsFile::open(fixture("nn/fixtures/lora-" + name + ".safetensors")));
}

/// Inputs of the UNet's parity test, or the ids of two prompts.
struct Inputs {
  explicit Inputs(const std::string& name) {
    const auto file = SafetensorsFile::open(fixture("unet/fixtures/sd1-expected.safetensors"));
    x = file.tensor(name + ".x");
    t = file.tensor(name + ".t");
    context = file.tensor(name + ".context");
  }
  at::Tensor x, t, context;
};

at::Tensor evaluate(const UNet& unet, const std::string& inputs) {
  const at::NoGradGuard no_grad;
  const Inputs in(inputs);
  return unet(in.x, in.t, in.context);
}

at::Tensor evaluate(const ClipTextModel& text) {
  const at::NoGradGuard no_grad;
  const auto file = SafetensorsFile::open(fixture("text/fixtures/sd1-text-expected.safetensors"));
  return text(file.tensor("input_ids").narrow(0, 0, 2));
}

double error_of_lora(const at::Tensor& found, const std::string& key) {
  const auto expected = SafetensorsFile::open(fixture("nn/fixtures/lora-expected.safetensors")).tensor(key);
  return max_difference(found, expected) / deviation(expected);
}

void rename(Weights& weights, const std::string& from, const std::string& to) {
  auto entry = weights.extract(from);
  REQUIRE(entry);
  entry.key() = to;
  weights.insert(std::move(entry));
}

Weights adapter(const std::string& base, const at::Tensor& down, const at::Tensor& up) {
  Weights weights;
  for (const auto& [part, tensor] : {std::pair{".lora_down.weight", down}, std::pair{".lora_up.weight", up}}) {
    weights.emplace(base + part,
                    WeightEntry{tensor.sizes().vec(), tensor.scalar_type(), [tensor = tensor] { return tensor; }});
  }
  return weights;
}

}  // namespace

TEST_CASE("LoRAs of every format give what diffusers gives with them", "[nn][lora][parity]") {
  const auto layers = std::map<std::string, std::size_t>{{"kohya", 32}, {"ldm", 19}, {"peft", 21}, {"processor", 17}};
  for (const auto& [format, count] : layers) {
    for (const bool frozen : {false, true}) {
      INFO(format << (frozen ? ", frozen" : ""));
      const auto unet = load<UNet>(model(), {.inference = frozen});
      const auto text = load<ClipTextModel>(model(), {.inference = frozen});
      const auto applied = apply_lora(unet, text, lora(format));
      CHECK(applied.layers() == count);
      CHECK(applied.unmatched().empty());
      CHECK(error_of_lora(evaluate(unet, "square"), format + ".unet.square") < 1e-4);
      CHECK(error_of_lora(evaluate(unet, "odd"), format + ".unet.odd") < 1e-4);
      if (format != "ldm") CHECK(error_of_lora(evaluate(text), format + ".text") < 1e-4);
    }
  }
}

TEST_CASE("A LoRA over weights stored in 16 bits gives the fp32 result of those weights", "[nn][lora][parity]") {
  for (const bool frozen : {false, true}) {
    const auto unet = load<UNet>(model(), {.storage = at::kHalf, .inference = frozen});
    apply_lora(unet, lora("kohya").part("unet"));
    // A frozen enlargement rounds its collapsed taps to the storage's 16 bits, with and without a LoRA.
    CHECK(error_of_lora(evaluate(unet, "square"), "kohya.unet.square") < (frozen ? 1e-2 : 1e-4));
    CHECK(unet.module().parameters()[0].scalar_type() == at::kHalf);
  }
}

TEST_CASE("LoRAs add up, each with its scale, as in diffusers", "[nn][lora][parity]") {
  const auto unet = load<UNet>(model());
  const auto text = load<ClipTextModel>(model());
  auto first = apply_lora(unet, text, lora("kohya"), {.scale = 3});
  auto second = apply_lora(unet, text, lora("peft"), {.scale = -0.5});
  first.set_scale(0.75);
  CHECK(first.scale() == 0.75);
  CHECK(error_of_lora(evaluate(unet, "square"), "both.unet.square") < 1e-4);
  CHECK(error_of_lora(evaluate(unet, "odd"), "both.unet.odd") < 1e-4);
  CHECK(error_of_lora(evaluate(text), "both.text") < 1e-4);
  first.remove();
  second.set_scale(1);
  CHECK(error_of_lora(evaluate(unet, "square"), "peft.unet.square") < 1e-4);
  CHECK_THROWS_WITH(second.set_scale(std::numeric_limits<double>::infinity()),
                    Contains("LoRA: scale: expected a finite number, found inf"));
  CHECK_THROWS_WITH(apply_lora(unet, text, lora("peft"), {.scale = std::nan("")}),
                    Contains("LoRA: scale: expected a finite number, found nan"));
}

TEST_CASE("A LoRA that was removed, or whose scale is 0, changes no bit", "[nn][lora]") {
  struct Form {
    at::ScalarType dtype;
    std::optional<at::ScalarType> storage;
    bool frozen;
  };
  for (const auto& form : {Form{at::kFloat, {}, false}, Form{at::kFloat, {}, true}, Form{at::kFloat, at::kHalf, true},
                           Form{at::kBFloat16, {}, true}}) {
    INFO(at::toString(form.dtype) << (form.frozen ? " frozen" : "") << (form.storage ? " in 16 bits" : ""));
    const LoadOptions options{.dtype = form.dtype, .storage = form.storage, .inference = form.frozen};
    const auto unet = load<UNet>(model(), options);
    const auto text = load<ClipTextModel>(model(), options);
    const auto outputs = [&] { return std::vector{evaluate(unet, "odd"), evaluate(unet, "square"), evaluate(text)}; };
    const auto before = outputs();
    const auto compare = [&](bool same) {
      const auto now = outputs();
      for (std::size_t i = 0; i < now.size(); ++i) {
        if (same) {
          CHECK(at::equal(now[i], before[i]));
        } else {  // by more than rounding, in bf16 too
          CHECK(max_difference(now[i], before[i]) > 0.01 * deviation(before[i]));
        }
      }
    };
    auto applied = apply_lora(unet, text, lora("kohya"));
    compare(false);
    applied.set_scale(0);
    compare(true);
    applied.set_scale(1);
    compare(false);
    const auto copy = applied;
    applied.remove();
    compare(true);
    applied.remove();
    CHECK(copy.layers() == 32);
    compare(true);
  }
}

TEST_CASE("Tensors that belong to no layer are refused with the nearest names, or reported", "[nn][lora]") {
  const auto unet = load<UNet>(model());
  const auto text = load<ClipTextModel>(model());
  const auto before = evaluate(unet, "odd");
  const std::string base = "lora_unet_down_blocks_1_resnets_0_conv1";
  const std::string wrong = "lora_unet_down_blocks_1_resnets_7_conv1";
  auto weights = tensors_of("kohya");
  for (const std::string part : {".lora_down.weight", ".lora_up.weight", ".alpha"})
    rename(weights, base + part, wrong + part);
  weights["lora_te2_x.alpha"] = weights.at(wrong + ".alpha");
  const auto file = LoraFile::from(weights, "style.safetensors");
  CHECK_THROWS_WITH(apply_lora(unet, text, file),
                    Contains("style.safetensors: 1 of its 32 adapters and 1 other tensors belong to no layer") &&
                        Contains(wrong + " (3 tensors); nearest: 'unet.down_blocks.1.resnets.0.conv1'") &&
                        Contains("lora_te2_x.alpha: not the name of a LoRA tensor"));
  CHECK(at::equal(evaluate(unet, "odd"), before));

  auto applied = apply_lora(unet, text, file, {.unmatched = UnmatchedLora::report});
  CHECK(applied.layers() == 31);
  const std::vector<std::string> unmatched{"lora_te2_x.alpha", wrong + ".alpha", wrong + ".lora_down.weight",
                                           wrong + ".lora_up.weight"};
  CHECK(applied.unmatched() == unmatched);
  CHECK(max_difference(evaluate(unet, "odd"), before) > 0.01 * deviation(before));  // not by rounding
  applied.remove();

  CHECK_THROWS_WITH(apply_lora(unet, lora("kohya")),
                    Contains("6 of its 32 adapters and 0 other tensors") &&
                        Contains("lora_te_text_model_encoder_layers_0_mlp_fc1 (3 tensors): for the component "
                                 "'text_encoder', which was not given"));
  CHECK_THROWS_WITH(apply_lora(text, lora("kohya")), Contains("26 of its 32") && Contains("\n  and 14 more"));
  CHECK(apply_lora(unet, lora("kohya").part("unet")).layers() == 26);
}

TEST_CASE("A LoRA for another model, doubled or damaged is refused and nothing is applied", "[nn][lora]") {
  const auto unet = load<UNet>(model());
  const auto before = evaluate(unet, "odd");
  const std::string base = "lora_unet_up_blocks_3_attentions_0_transformer_blocks_0_attn2_to_k";
  const auto apply = [&](Weights weights) {
    return error_of([&] { apply_lora(unet, LoraFile::from(weights, "file").part("unet")); });
  };
  CHECK(apply(adapter(base, at::randn({2, 31}), at::randn({8, 2}))) ==
        "file: tensor '" + base +
            ".lora_down.weight': expected [2, 32] for unet.up_blocks.3.attentions.0.transformer_blocks.0.attn2.to_k, "
            "found [2, 31]; this LoRA was made for another model");
  CHECK(apply(adapter(base, at::randn({2, 32}), at::randn({16, 2}))) ==
        "file: tensor '" + base +
            ".lora_up.weight': expected [8, 2] for unet.up_blocks.3.attentions.0.transformer_blocks.0.attn2.to_k, "
            "found [16, 2]; this LoRA was made for another model");
  CHECK_THAT(apply(adapter("unet.conv_in", at::randn({2, 8, 1, 1}), at::randn({8, 2, 1, 1}))),
             Contains("tensor 'unet.conv_in.lora_down.weight': expected [2, 8, 3, 3] for unet.conv_in, found "
                      "[2, 8, 1, 1]"));
  const auto other = load<UNet>(ModelFiles::open(fixture("unet/fixtures/sd2-inpaint")));
  CHECK_THROWS_WITH(apply_lora(other, lora("kohya").part("unet")), Contains("this LoRA was made for another model"));

  auto twice = tensors_of("kohya");
  twice.merge(adapter("lora_unet_input_blocks_0_0", at::randn({2, 8, 3, 3}), at::randn({8, 2, 1, 1})));
  CHECK(apply(twice) ==
        "file: expected one adapter for unet.conv_in, found 'lora_unet_conv_in' and "
        "'lora_unet_input_blocks_0_0'");

  auto damaged = tensors_of("kohya");
  damaged.at("lora_unet_up_blocks_2_upsamplers_0_conv.lora_up.weight").read = []() -> at::Tensor {
    throw_error("the disk is gone");
  };
  CHECK(apply(damaged) == "the disk is gone");
  CHECK(at::equal(evaluate(unet, "odd"), before));
}

TEST_CASE("An adapter acts only on its own rows of a fused projection", "[nn][lora]") {
  const at::NoGradGuard no_grad;
  const auto unet = load<UNet>(model());
  const auto& fused = *unet.module().down[0]->attentions[0]->blocks[0]->attn1->to_qkv;
  const auto x = at::randn({2, 5, 8});
  const auto before = fused(x).chunk(3, -1);
  const auto down = at::randn({2, 8});
  const auto up = at::randn({8, 2});
  apply_lora(unet, LoraFile::from(adapter("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k", down, up),
                                  "file"));
  const auto after = fused(x).chunk(3, -1);
  CHECK(at::equal(after[0], before[0]));
  CHECK(max_difference(after[1], before[1] + at::linear(at::linear(x, down), up)) < 1e-4);
  CHECK(at::equal(after[2], before[2]));
}

TEST_CASE("An adapter of LoCon with a convolution in the middle is the chain of three", "[nn][lora]") {
  const at::NoGradGuard no_grad;
  const auto unet = load<UNet>(model());
  const auto& layer = *unet.module().down[0]->downsampler->conv;
  const auto x = at::randn({2, 8, 9, 6});
  const auto before = layer(x);
  const auto down = at::randn({3, 8, 1, 1});
  const auto mid = at::randn({3, 3, 3, 3});
  const auto up = at::randn({8, 3, 1, 1});
  auto weights = adapter("lora_unet_down_blocks_0_downsamplers_0_conv", down, up);
  weights["lora_unet_down_blocks_0_downsamplers_0_conv.lora_mid.weight"] = {
      {3, 3, 3, 3}, at::kFloat, [=] { return mid; }};
  auto applied = apply_lora(unet, LoraFile::from(weights, "file"), {.scale = 0.5});
  const auto change = at::conv2d(at::conv2d(at::conv2d(x, down), mid, {}, 2, 1), up);
  CHECK(max_difference(layer(x), before + 0.5 * change) < 1e-4 * deviation(change));
  applied.remove();

  weights.at("lora_unet_down_blocks_0_downsamplers_0_conv.lora_down.weight").shape = {3, 8};
  apply_lora(unet, LoraFile::from(weights, "file"), {.scale = 0.5});
  CHECK(max_difference(layer(x), before + 0.5 * change) < 1e-4 * deviation(change));
}

TEST_CASE("Adapters move and change their dtype with the model", "[nn][lora]") {
  auto unet = load<UNet>(model());
  const auto applied = apply_lora(unet, lora("kohya").part("unet"));
  unet.to(at::kCPU, at::kBFloat16);
  for (const auto& [name, tensor] : applied.tensors()) CHECK(tensor.scalar_type() == at::kBFloat16);
  const auto expected = SafetensorsFile::open(fixture("nn/fixtures/lora-expected.safetensors"));
  CHECK(relative_rms(evaluate(unet, "square"), expected.tensor("kohya.unet.square")) < 0.08);
  unet.compute_in(at::kFloat);
  CHECK(relative_rms(evaluate(unet, "square"), expected.tensor("kohya.unet.square")) < 0.05);
}

TEST_CASE("A LoRA outlives its model, and its tensors can be written to a file and read again", "[nn][lora]") {
  const ScratchDir scratch;
  const auto path = scratch / "again.safetensors";
  at::Tensor with_unet;
  at::Tensor with_text;
  std::optional<AppliedLora> applied;
  {
    const auto unet = load<UNet>(model());
    const auto text = load<ClipTextModel>(model());
    applied = apply_lora(unet, text, lora("kohya"));
    with_unet = evaluate(unet, "square");
    with_text = evaluate(text);
  }
  write_safetensors(path, applied->state());
  applied->remove();
  CHECK(SafetensorsFile::open(path).names() ==
        SafetensorsFile::open(fixture("nn/fixtures/lora-kohya.safetensors")).names());
  const auto unet = load<UNet>(model());
  const auto text = load<ClipTextModel>(model());
  apply_lora(unet, text, LoraFile::open(path));
  CHECK(at::equal(evaluate(unet, "square"), with_unet));
  CHECK(at::equal(evaluate(text), with_text));
}

TEST_CASE("An adapter can be trained: gradients reach its tensors, and only them", "[nn][lora]") {
  std::map<std::string, at::Tensor> gradients;
  for (const bool frozen : {false, true}) {
    INFO((frozen ? "frozen" : "plain"));
    const auto unet = load<UNet>(model(), {.inference = frozen});
    for (auto& parameter : unet.module().parameters()) parameter.set_requires_grad(false);
    auto tensors = apply_lora(unet, lora("kohya").part("unet")).tensors();
    REQUIRE(tensors.size() == 52);
    for (auto& [name, tensor] : tensors) {
      CHECK(tensor.is_leaf());
      tensor.set_requires_grad(true);
    }
    const Inputs in("square");
    const auto loss = [&] { return unet(in.x, in.t, in.context).to(at::kDouble).pow(2).mean(); };
    loss().backward();
    for (const auto& [name, tensor] : tensors) {
      INFO(name);
      REQUIRE(tensor.grad().defined());
      if (!frozen) gradients[name] = tensor.grad();
      CHECK(max_difference(tensor.grad(), gradients.at(name)) <= 1e-3 * gradients.at(name).abs().max().item<double>());
    }
    for (const auto& parameter : unet.module().parameters()) CHECK_FALSE(parameter.grad().defined());
    if (frozen) continue;

    // A small step along a tensor's gradient changes the loss by the step's length times the gradient's.
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : tensors) {
      if (name.starts_with("unet.conv_in")) continue;  // the loss is too curved there for a difference in fp32
      INFO(name);
      const auto kept = tensor.clone();
      const auto slope = tensor.grad().norm().item<double>();
      const auto at_step = [&](double step) {
        tensor.add_(tensor.grad(), step / slope);
        const auto value = loss().item<double>();
        tensor.copy_(kept);
        return value;
      };
      const double step = slope < 1e-4 ? 1e-2 : 1e-3;  // far enough for a small gradient to stand out from rounding
      CHECK((at_step(step) - at_step(-step)) / (2 * step) == Approx(slope).epsilon(0.05));
    }
  }
}
