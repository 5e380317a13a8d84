#include "ip2p/pipeline/open_model.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/execution/graphed.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/kernels/cpu/winograd.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/load_codec.hpp"
#include "ip2p/testing/rerun_recorder.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/unet/unet.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

const OpenOptions on_cpu{.device = at::kCPU, .dtype = at::kFloat};
const RunSettings three_steps{.steps = 3, .seed = 5, .resolution = 64};

/// A copy of the tiny model whose JSON files may be changed.
class ChangedModel {
 public:
  ChangedModel() : folder_(std::filesystem::temp_directory_path() / "ip2p-open-model-test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(fixture("pipeline/fixtures/tiny-ip2p"), folder_, std::filesystem::copy_options::recursive);
  }
  ~ChangedModel() { std::filesystem::remove_all(folder_); }
  ChangedModel(const ChangedModel&) = delete;
  ChangedModel& operator=(const ChangedModel&) = delete;

  template <class Change>
  void change(const std::string& file, Change&& change) {
    nlohmann::json json;
    std::ifstream(folder_ / file) >> json;
    change(json);
    std::ofstream(folder_ / file) << json.dump(1);
  }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

}  // namespace

TEST_CASE("open_editor gives the same bits as a pipeline composed by hand", "[pipeline]") {
  const auto files = tiny_files();
  const EditPipeline composed{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), load<UNet>(files),
                              diffusion_of(files)};
  const std::vector<Image> photos{tiny_photo()};
  const std::vector<std::string> prompts{"make it snowy"};
  const auto expected = composed.run(photos, prompts, three_steps);
  const auto editor = open_editor(fixture("pipeline/fixtures/tiny-ip2p"), on_cpu);
  const auto found = editor.run(photos, prompts, three_steps);
  CHECK(at::equal(found.latents, expected.latents));
  CHECK((found.images == expected.images));
  CHECK(editor.sampler.name() == EulerAncestral::name);
  CHECK(editor.diffusion.schedule.name() == LogLinearSigmas::name);
  CHECK(*editor.completed().steps == 100);
  CHECK_FALSE(editor.completed().resolution.has_value());

  // Low memory: parts are loaded and dropped again; the tokenizer and the picture stay the same.
  auto frugal_options = on_cpu;
  frugal_options.low_memory = true;
  const auto frugal = open_editor(fixture("pipeline/fixtures/tiny-ip2p"), frugal_options);
  const auto near = frugal.run(photos, prompts, three_steps);
  CHECK((near.latents - expected.latents).abs().max().item<double>() <
        0.02 * expected.latents.abs().max().item<double>());
}

TEST_CASE("An opened model has the codec that its files name", "[pipeline]") {
  const at::NoGradGuard no_grad;
  ChangedModel changed;
  std::filesystem::remove_all(changed.folder() / "vae");
  std::filesystem::copy(fixture("codec/fixtures/dc-autoencoder/vae"), changed.folder() / "vae");
  const auto files = ModelFiles::open(changed.folder());
  const auto expected = load<DcAutoencoder>(files);
  const auto opened = OpenedModel::open(changed.folder(), on_cpu);
  CHECK(opened.kind() == ModelKind::editor);
  const auto latents = at::randn({1, 4, 3, 2});
  CHECK(at::equal(opened.codec().decode(latents), expected.decode(latents)));
  CHECK(at::equal(load_codec(files).decode(latents), expected.decode(latents)));
  CHECK(load_codec(files).device().is_cpu());

  const std::vector<Image> photos{tiny_photo()};
  const std::vector<std::string> prompts{"make it snowy"};
  const auto result = opened.editor().run(photos, prompts, three_steps);
  CHECK(result.images.front().width == 64);
  auto frugal = on_cpu;
  frugal.low_memory = true;
  const auto near = open_editor(changed.folder(), frugal).run(photos, prompts, three_steps);
  CHECK((near.latents - result.latents).abs().max().item<double>() < 0.02 * result.latents.abs().max().item<double>());

  changed.change("vae/config.json", [](auto& json) { json["_class_name"] = "AutoencoderOther"; });
  CHECK_THROWS_WITH(load_codec(ModelFiles::open(changed.folder())),
                    Contains("_class_name") && Contains("AutoencoderOther"));
}

TEST_CASE("How an opened model computes is chosen when it is opened", "[pipeline]") {
  const auto folder = tests_root().parent_path() / "models" / "small-editor";
  const std::vector<Image> photos{tiny_photo()};
  const std::vector<std::string> prompts{"make it snowy"};
  const RunSettings settings{.steps = 6, .seed = 5, .resolution = 64};
  const auto latents_of = [&](const OpenOptions& options) {
    return open_editor(folder, options).run(photos, prompts, settings).latents;
  };
  const auto exact = latents_of(on_cpu);
  const auto error_of = [&](const at::Tensor& found) {
    return (found - exact).abs().max().item<double>() / exact.abs().max().item<double>();
  };

  auto direct = on_cpu;
  direct.direct_convolutions = true;
  const auto other_rounding = error_of(latents_of(direct));
  INFO(other_rounding);
  CHECK(other_rounding < 2e-3);
  CHECK((other_rounding > 0.0) == detail::vector_code_is_optimised);

  auto cached = on_cpu;
  cached.deep_cache = 2;
  const auto approximate = error_of(latents_of(cached));
  INFO(approximate);
  CHECK(approximate > 1e-3);
  CHECK(approximate < 0.5);
  cached.deep_cache = 0;
  CHECK_THROWS_WITH(open_editor(folder, cached), Contains("DeepCache: interval: expected at least 1, found 0"));

  auto in_8_bits = on_cpu;
  in_8_bits.fp8 = true;
  const auto coarse = error_of(latents_of(in_8_bits));
  INFO(coarse);
  CHECK(coarse > 1e-3);
  CHECK(coarse < 0.3);

  OpenOptions in_int8{.device = at::kCPU};
  in_int8.int8 = true;
  const auto rounded = error_of(latents_of(in_int8));
  INFO(rounded);
  CHECK(rounded > 1e-3);
  CHECK(rounded < 0.1);
  in_int8.dtype = at::kBFloat16;
  CHECK_THROWS_WITH(open_editor(folder, in_int8), Contains("int8: expected a model that computes in fp32"));

  const Graphed<RerunRecorder> graphed;
  auto recorded = on_cpu;
  recorded.execution = graphed;
  CHECK(at::equal(latents_of(recorded), exact));
  // Three of six at once: the first with weights that were not yet in their final form, two to begin with.
  CHECK(graphed.counts().replayed == 3);
}

TEST_CASE("An opened model comes with its noise schedule, prediction and recommendations", "[pipeline]") {
  ChangedModel model;
  model.change("scheduler/scheduler_config.json", [](auto& json) {
    json["prediction_type"] = "v_prediction";
    json["beta_end"] = 0.02;
  });
  model.change("model_index.json", [](auto& json) {
    json["_ip2p_settings"] = {
        {"steps", 4}, {"resolution", 64}, {"image_scale", 1.25}, {"text_scale", 3}, {"sampler", "euler"}};
  });
  const auto opened = OpenedModel::open(model.folder(), on_cpu);
  const auto editor = opened.editor();
  CHECK(editor.diffusion.prediction.type == PredictionType::v_prediction);
  CHECK(editor.guidance.image_scale == 1.25);
  CHECK(editor.guidance.text_scale == 3.0);
  CHECK(editor.sampler.name() == Euler::name);
  const auto settings = editor.completed({.seed = 7});
  CHECK(*settings.steps == 4);
  CHECK(*settings.resolution == 64);
  CHECK(settings.seed == 7);
  CHECK(*editor.completed({.steps = 9}).steps == 9);
  CHECK(editor.diffusion.schedule.sigmas(4).front() ==
        DiscreteSchedule(TrainingNoise{.beta_end = 0.02}).training_sigmas().back());

  // Unset settings are those that the model recommends, and a wrong prediction would give another picture.
  const auto silent = editor(tiny_photo(), "make it snowy", {.seed = 7});
  CHECK(silent == editor(tiny_photo(), "make it snowy", {.steps = 4, .seed = 7, .resolution = 64}));
  auto wrong = editor;
  wrong.diffusion.prediction.type = PredictionType::epsilon;
  CHECK_FALSE(wrong(tiny_photo(), "make it snowy", {.seed = 7}) == silent);

  auto as_diffusers = on_cpu;
  as_diffusers.numerics = Numerics::diffusers;
  const auto other = open_editor(model.folder(), as_diffusers);
  CHECK(other.diffusion.schedule.name() == LinearSigmas::name);
  CHECK(*other.completed().numerics == Numerics::diffusers);
}

TEST_CASE("With released numerics, an empty instruction returns the fitted photograph", "[pipeline]") {
  const auto editor = open_editor(fixture("pipeline/fixtures/tiny-ip2p"), on_cpu);
  const auto photo = tiny_photo(100, 80);
  const auto fitted = tensor_to_images(editor.prepare({&photo, 1}, three_steps), Rounding::nearest).front();
  CHECK(editor(photo, "", three_steps) == fitted);
  const std::vector<std::string> mixed{"make it snowy", ""};
  const auto both = editor.run({&photo, 1}, mixed, three_steps);
  CHECK(both.images[1] == fitted);
  CHECK_FALSE(both.images[0] == fitted);
  CHECK(at::equal(both.latents[1], editor.run({&photo, 1}, {&mixed[1], 1}, three_steps).latents[0]));
  auto sampled = three_steps;
  sampled.numerics = Numerics::diffusers;
  CHECK_FALSE(editor(tiny_photo(), "", sampled) == tiny_photo());
}

TEST_CASE("An error about what does not fit names the model", "[pipeline]") {
  CHECK_THROWS_WITH(open_text_to_image(fixture("pipeline/fixtures/tiny-ip2p"), on_cpu),
                    Contains("tiny-ip2p: TextToImagePipeline: expected a UNet with 4 input channels, found 8"));
  CHECK_THROWS_WITH(open_editor("no such model"), Contains("'no such model'"));
  ChangedModel model;
  model.change("model_index.json", [](auto& json) { json["_ip2p_settings"] = {{"steps", "many"}}; });
  CHECK_THROWS_WITH(OpenedModel::open(model.folder(), on_cpu),
                    Contains("_ip2p_settings: steps: expected a whole number, found \"many\""));
}

TEST_CASE("Parts of any type can be used where a pipeline takes parts that are chosen at run time", "[pipeline]") {
  const auto opened = OpenedModel::open(fixture("pipeline/fixtures/tiny-ip2p"), on_cpu);
  CHECK(opened.length("make it snowy").limit == 75);
  CHECK(opened.length("make it snowy").tokens > 0);
  CHECK(opened.tokens("make it snowy").words().size() == 3);
  // A codec without weights, variance or device of its own.
  AnyCodec codec{IdentityCodec{}};
  codec.to(at::kCPU, at::kFloat);
  codec.compute_in(at::kFloat);
  const auto picture = at::rand({1, 3, 4, 4});
  CHECK(at::equal(codec.encode(picture), picture));
  CHECK(at::equal(codec.encode_moments(picture).sample(at::randn({1, 3, 4, 4})), picture));
  CHECK(codec.first_non_finite([] {}).empty());
  const AnyCodec copy = codec;
  CHECK(copy.latent_channels() == codec.latent_channels());
}

TEST_CASE("A training checkpoint opens with the model that it was trained from", "[pipeline]") {
  const ScratchDir scratch;
  const auto whole = fixture("pipeline/fixtures/tiny-ip2p");
  std::filesystem::create_directories(scratch / "checkpoint-500");
  std::filesystem::copy(whole / "unet", scratch / "checkpoint-500" / "unet", std::filesystem::copy_options::recursive);
  CHECK_THROWS_WITH(OpenedModel::open(scratch / "checkpoint-500", on_cpu),
                    Contains("holds only a UNet") && Contains("set 'base' to add the complete model"));
  auto options = on_cpu;
  options.base = whole;
  const auto edited = [](const OpenedModel& model) {
    return model.editor()(tiny_photo(), "make it snowy", three_steps);
  };
  CHECK(edited(OpenedModel::open(scratch / "checkpoint-500", options)) == edited(OpenedModel::open(whole, on_cpu)));
}

TEST_CASE("Prompts of an opened model may weight words, unless that is switched off", "[pipeline]") {
  const auto path = fixture("pipeline/fixtures/tiny-ip2p");
  const auto model = OpenedModel::open(path, on_cpu);
  auto options = on_cpu;
  options.prompt_marks = false;
  const auto literal = OpenedModel::open(path, options);
  const auto encode = [](const OpenedModel& opened, const std::string& prompt) {
    return opened.text_encoder().encode(std::vector{prompt});
  };
  CHECK(encode(model, "make it snowy").equal(encode(literal, "make it snowy")));
  CHECK_FALSE(encode(model, "make it (snowy:1.5)").equal(encode(literal, "make it (snowy:1.5)")));
  CHECK(encode(model, "make it \\(snowy\\)").equal(encode(literal, "make it (snowy)")));
  CHECK(model.length("make it (snowy:1.5)").tokens == model.length("make it snowy").tokens);
  CHECK(literal.length("make it (snowy:1.5)").tokens > model.length("make it snowy").tokens);
}

TEST_CASE("A LoRA that changes nothing is an error, even where some of its tensors may be left out", "[pipeline]") {
  const ScratchDir scratch;
  write_safetensors(scratch / "other.safetensors",
                    {{"lora_unet_up_blocks_7_attentions_0_proj_in.lora_down.weight", at::rand({2, 8})},
                     {"lora_unet_up_blocks_7_attentions_0_proj_in.lora_up.weight", at::rand({8, 2})}});
  auto options = on_cpu;
  options.loras = {{scratch / "other.safetensors"}};
  options.partial_loras = true;
  CHECK_THROWS_WITH(OpenedModel::open(fixture("pipeline/fixtures/tiny-ip2p"), options).network(),
                    Contains("none of its 1 adapters for the unet belongs to a layer of this model"));
}
