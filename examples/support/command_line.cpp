#include "command_line.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "hub.hpp"
#include "ip2p/core/any_noise.hpp"
#include "ip2p/io/ascii.hpp"
#include "ip2p/io/image_format.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "number.hpp"
#include "one_of.hpp"
#include "range.hpp"
#include "reporting.hpp"

namespace example {

std::string finite_number(const std::string& text) {
  double value = 0;
  if (!parse_number(text, value) || !std::isfinite(value)) {
    return fmt::format("expected a finite number, found '{}'{}", text, number_hint(text));
  }
  return {};
}

std::string guidance_scale(const std::string& text) {
  constexpr double most = 10000;
  if (auto problem = finite_number(text); !problem.empty()) return problem;
  double value = 0;
  parse_number(text, value);
  if (value >= -most && value <= most) return {};
  return fmt::format("expected a number from {} to {}, found '{}'", -most, most, text);
}

std::string whole_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) {
    return fmt::format("expected a whole number from 0 to 2^64 - 1, found '{}'{}", text, number_hint(text));
  }
  return {};
}

static std::string device_name(const std::string& text) {
  const bool numbered = text.starts_with("cuda:") && text.size() > 5 && text.size() < 8 &&
                        text.find_first_not_of("0123456789", 5) == std::string::npos;
  return text == "auto" || text == "cpu" || text == "cuda" || numbered
             ? std::string()
             : fmt::format("expected auto, cpu, cuda or cuda:N, found '{}'", text);
}

std::string picture_name(const std::string& text) {
  const auto extension = ip2p::detail::lower_ascii(std::filesystem::path(text).extension().string());
  for (const char* known : {".png", ".jpg", ".jpeg", ".webp"}) {
    if (extension == known) return {};
  }
  return fmt::format("expected a file name ending in .png, .jpg, .jpeg or .webp, found '{}'{}", text,
                     ip2p::detail::conversion_to(extension));
}

bool same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code ignored;
  return !a.empty() && !b.empty() &&
         (std::filesystem::weakly_canonical(a, ignored) == std::filesystem::weakly_canonical(b, ignored));
}

void add_device(CLI::App& app, std::string& device) {
  app.add_option("--device", device, "auto, cpu, cuda or cuda:N")->capture_default_str()->check(device_name);
}

void add_dtype(CLI::App& app, std::string& dtype) {
  app.add_option("--dtype", dtype,
                 "precision to compute in; auto: bf16 on GPUs from sm_80 on and on CPUs with AMX, fp16 on older GPUs, "
                 "otherwise fp32")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16"}));
}

void add_threads(CLI::App& app, int& threads) {
  app.add_option("--threads", threads, "number of CPU threads, at most one per processor, 0 for all")
      ->capture_default_str()
      ->check(example::range(0, 1024));
}

void add_additions(CLI::App& app, ModelOptions& o, const std::string& of) {
  app.add_option("--lora", o.loras, fmt::format("LoRAs to apply, each {0}FILE or {0}FILE:SCALE", of))
      ->type_name(of + "FILE[:SCALE]");
  app.add_flag("--lora-partial", o.partial_loras, "ignore LoRA weights for layers that the model does not have");
  app.add_option("--embedding", o.embeddings, "textual inversion files whose tokens prompts may use")
      ->type_name(of + "FILE");
}

void add_computing(CLI::App& app, ModelOptions& o) {
  add_device(app, o.device);
  add_dtype(app, o.dtype);
  app.add_flag("--low-memory", o.low_memory,
               "load the text encoder and codec only while in use, tile the codec, keep weights in 16 bits, and "
               "evaluate guidance branches one by one");
  add_threads(app, o.threads);
  app.add_flag("--graph", o.graph,
               "GPU: record the work of a step once and replay the recording (CUDA graphs); the same picture, faster");
  app.add_option("--deep-cache", o.deep_cache,
                 "evaluate the deep layers of the network only at every N-th step: a larger N is faster, but less like "
                 "the exact picture; 1 is exact")
      ->capture_default_str()
      ->check(example::range(1, 1000));
  app.add_flag("--tf32", o.tf32,
               "GPU: round the factors of fp32 products to 10 bits (TF32); faster, a slightly different picture");
  app.add_flag("--fp8", o.fp8,
               "GPU from sm_89 on: compute the network's transformers in 8 bits; faster, a slightly different picture");
  app.add_flag("--int8", o.int8,
               "CPU: hold the network's weights in 8 bits, which takes a third of the memory; faster with VNNI, a "
               "slightly different picture");
  app.add_flag("--direct-convolution", o.direct_convolution,
               "CPU: compute all convolutions directly, without Winograd's filtering; slower, with less rounding");
}

std::string vae_help() { return "autoencoder to use instead of the model's: a folder, a single file or a name"; }

void add_weights(CLI::App& app, ModelOptions& o) {
  app.add_option("--base", o.base,
                 "model that supplies what --model lacks, such as the one that a training checkpoint started from")
      ->type_name("MODEL");
  app.add_flag("--no-ema", o.no_ema, "use the raw weights even if the model also holds averaged (EMA) ones");
  app.add_option("--variant", o.variant, "folder: load *.VARIANT.safetensors, e.g. fp16");
  app.add_option("--tokenizer", o.tokenizer, "folder with vocab.json and merges.txt, for single files")
      ->type_name("MODEL");
  app.add_option("--prediction-type", o.prediction_type, "single file: what the model predicts")
      ->check(CLI::IsMember({"epsilon", "v_prediction"}));
}

void add_model(CLI::App& app, ModelOptions& o) {
  app.add_option("--model", o.model,
                 "model to use: a diffusers folder, a checkpoint file, or a name on the Hugging Face Hub (owner/name, "
                 "owner/name@revision)")
      ->type_name("MODEL")
      ->required();
  add_download(app);
  add_additions(app, o);
  add_computing(app, o);
  app.add_option("--vae", o.vae, vae_help())->type_name("MODEL");
  add_weights(app, o);
}

void add_prompt_marks(CLI::App& app, ModelOptions& o) {
  o.prompt_marks = true;
  app.add_flag("!--plain-prompts", o.prompt_marks,
               "take prompts literally: (word:1.5), [word] and <lora:name:0.8> have no special meaning");
  app.add_option("--lora-folder", o.lora_folder, "folder where <lora:name> in a prompt finds name.safetensors")
      ->type_name("FOLDER")
      ->capture_default_str();
}

void add_quality(CLI::App& app, int& quality) {
  app.add_option("--quality", quality, "quality of JPEG and WebP output")
      ->capture_default_str()
      ->check(example::range(1, 100));
}

void add_schedule(CLI::App& app, std::string& schedule, const std::string& otherwise) {
  app.add_option("--schedule", schedule, "noise schedule (default: " + otherwise + ")")
      ->check(one_of(ip2p::AnySchedule::names()));
}

void add_noise(CLI::App& app, std::string& noise) {
  app.add_option("--noise", noise,
                 "random generator: that of torch on a CPU (torch) or on a GPU (cuda), or a counter-based one, with "
                 "which a picture does not depend on its batch (counter)")
      ->capture_default_str()
      ->check(one_of(ip2p::AnyNoise::names()));
}

void add_resolution(CLI::App& app, std::optional<std::int64_t>& resolution) {
  app.add_option("--resolution", resolution,
                 "length of the longer side in pixels (default: the model's, or 512; the photograph's own with "
                 "--numerics diffusers)")
      ->check(example::range(64, 16384));
}

void add_full_size(CLI::App& app, bool& full_size) {
  app.add_flag("--full-size", full_size,
               "give the result at the photograph's own size and sharpness by applying the model's changes of colour "
               "to it; what the model drew from scratch is enlarged");
}

void add_size(CLI::App& app, std::optional<std::int64_t>& width, std::optional<std::int64_t>& height,
              const std::string& otherwise) {
  for (const auto& [name, side] : {std::pair{"--width", &width}, std::pair{"--height", &height}}) {
    app.add_option(name, *side, "size in pixels, a multiple of 8 (default: " + otherwise + ")")
        ->check(example::range(64, 4096));
  }
}

void add_image_scale(CLI::App& app, std::optional<double>& scale, const std::string& help) {
  app.add_option("--image-scale", scale, help + " (default: the model's, or 1.5)")->check(guidance_scale);
}

void add_run(CLI::App& app, RunOptions& o, const std::string& steps, const std::string& text_scale,
             const std::string& sampler, const std::string& schedule) {
  if (app.get_option_no_throw("--out") == nullptr) {
    app.add_option("--out", o.out, "picture to write (.png, .jpg, .webp)")
        ->type_name("FILE")
        ->required()
        ->check(picture_name);
  }
  app.add_option("--steps", o.steps, "number of sampling steps (default: " + steps + ")")
      ->check(example::range(1, 10000));
  app.add_option("--text-scale", o.text_scale,
                 "how closely to follow the text; 5 to 10 works well (default: " + text_scale + ")")
      ->check(guidance_scale);
  app.add_option("--negative-prompt", o.negative_prompt, "text to steer away from");
  app.add_option("--seed", o.seed, "random seed for the noise")->capture_default_str()->check(whole_number);
  add_noise(app, o.noise);
  app.add_option("--sampler", o.sampler, "method that removes the noise (default: " + sampler + ")")
      ->check(one_of(ip2p::AnySampler::names()));
  add_schedule(app, o.schedule, schedule);
  app.add_option("--numerics", o.numerics, "published implementation to match")
      ->capture_default_str()
      ->check(CLI::IsMember({"released", "diffusers"}));
  add_quality(app, o.quality);
  add_json(app);
}

}  // namespace example
