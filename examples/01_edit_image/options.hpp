#pragma once

/// \file
/// The command line of edit_image.

#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "ip2p/pipeline/edit.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/version.hpp"

namespace edit_image {

/// The arguments, checked as far as that needs no file.
struct Options {
  std::filesystem::path model, image, out, latents, save_latents, compare, tokenizer;
  std::string prompt, negative_prompt, schedule, numerics = "released", dtype = "auto", device = "auto", variant,
                                                 prediction_type;
  std::uint64_t seed = 42;
  // Where not given: what the model recommends, or else what the released program does.
  std::optional<std::string> sampler;
  std::optional<std::int64_t> steps, resolution;
  std::optional<double> image_scale, text_scale;
  int threads = 0, quality = 95;
  bool low_memory = false, no_ema = false, ignore_exif = false;

  [[nodiscard]] ip2p::Numerics numerics_policy() const {
    return numerics == "released" ? ip2p::Numerics::released : ip2p::Numerics::diffusers;
  }
};

/// Takes what was not given on the command line from the model's `settings()`, or else from the released program.
inline void complete(Options& o, const nlohmann::json& settings) {
  const auto take = [&settings]<class Value>(std::optional<Value>& option, const char* key) {
    try {
      if (!option && settings.contains(key)) option = settings.at(key).get<Value>();
    } catch (const nlohmann::json::exception& error) {
      ip2p::fail("model_index.json: _ip2p_settings: {}: {}", key, error.what());
    }
  };
  take(o.sampler, "sampler");
  take(o.steps, "steps");
  take(o.resolution, "resolution");
  take(o.image_scale, "image_scale");
  take(o.text_scale, "text_scale");
  o.sampler = o.sampler.value_or("euler-ancestral");
  o.steps = o.steps.value_or(100);
  o.image_scale = o.image_scale.value_or(1.5);
  o.text_scale = o.text_scale.value_or(7.5);
}

namespace detail {

inline std::string finite_number(const std::string& text) {
  double value = 0;
  if (!CLI::detail::lexical_cast(text, value) || !std::isfinite(value)) {
    return fmt::format("expected a finite number, found '{}'", text);
  }
  return {};
}

/// CLI11 would read -1 as the largest number.
inline std::string whole_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) {
    return fmt::format("expected a whole number from 0 to 2^64 - 1, found '{}'", text);
  }
  return {};
}

inline std::string device_name(const std::string& text) {
  const bool numbered = text.starts_with("cuda:") && text.size() > 5 && text.size() < 8 &&
                        text.find_first_not_of("0123456789", 5) == std::string::npos;
  return text == "auto" || text == "cpu" || text == "cuda" || numbered
             ? std::string()
             : fmt::format("expected auto, cpu, cuda or cuda:N, found '{}'", text);
}

inline std::string picture_name(const std::string& text) {
  auto extension = std::filesystem::path(text).extension().string();
  for (auto& c : extension) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  for (const char* known : {".png", ".jpg", ".jpeg", ".webp"}) {
    if (extension == known) return {};
  }
  return fmt::format("expected a name that ends in .png, .jpg, .jpeg or .webp, found '{}'", text);
}

template <class Names>
CLI::IsMember one_of(const Names& names) {
  return CLI::IsMember(std::vector<std::string>(names.begin(), names.end()));
}

inline bool same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code ignored;
  return !a.empty() && !b.empty() &&
         (std::filesystem::weakly_canonical(a, ignored) == std::filesystem::weakly_canonical(b, ignored));
}

/// Throws `CLI::ValidationError` for arguments that are right one by one and wrong together.
inline void check_together(const Options& o, bool compare_given) {
  const auto wrong = [](const std::string& option, const std::string& why) { throw CLI::ValidationError(option, why); };
  struct Named {
    const char* option;
    const std::filesystem::path* path;
  };
  const Named outputs[] = {{"--out", &o.out}, {"--compare", &o.compare}, {"--save-latents", &o.save_latents}};
  const Named inputs[] = {{"--image", &o.image}, {"--latents", &o.latents}};
  for (const auto& output : outputs) {
    for (const auto& input : inputs) {
      if (same_file(*output.path, *input.path)) {
        wrong(output.option, fmt::format("would overwrite the input of {}, '{}'", input.option, input.path->string()));
      }
    }
    for (const auto& other : outputs) {
      if (output.path < other.path && same_file(*output.path, *other.path)) {
        wrong(output.option, fmt::format("and {} name the same file, '{}'", other.option, output.path->string()));
      }
    }
  }
  if (compare_given) {
    if (const auto problem = picture_name(o.compare.string()); !problem.empty()) wrong("--compare", problem);
  }
  // Every branch without the instruction has weight 0 exactly when both scales are 1.
  if (!o.negative_prompt.empty() && o.text_scale == 1 && o.image_scale == 1) {
    wrong("--negative-prompt", "has no effect with --text-scale 1 and --image-scale 1, which switch guidance off");
  }
}

}  // namespace detail

/// Adds the options to `app`; `app.parse` then fills `o`.
inline void add_options(CLI::App& app, Options& o) {
  app.set_version_flag("--version", std::string(ip2p::version));
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // as a script's "$@" expects
  app.add_option("--model", o.model, "model: a diffusers folder, or a .safetensors checkpoint")->required();
  app.add_option("--image", o.image, "photograph to edit (PNG, JPEG, WebP)")->required();
  app.add_option("--prompt", o.prompt, "the edit in words; \"\" gives the photograph back")->required();
  app.add_option("--out", o.out, "picture to write (.png, .jpg, .webp)")->required()->check(detail::picture_name);
  auto* compare = app.add_option("--compare", o.compare,
                                 "also write before and after side by side (default name: OUT with -compare)");
  compare->expected(0, 1);

  app.add_option("--steps", o.steps, "steps of the sampler (default: the model's, or 100)")->check(CLI::Range(1, 10000));
  app.add_option("--image-scale", o.image_scale, "how much the photograph binds; advised 1 to 1.5 (default: the model's, or 1.5)")
      ->check(detail::finite_number);
  app.add_option("--text-scale", o.text_scale, "how much the instruction counts; advised 5 to 10 (default: the model's, or 7.5)")
      ->check(detail::finite_number);
  app.add_option("--negative-prompt", o.negative_prompt, "what to steer away from");
  app.add_option("--seed", o.seed, "seed of the noise, as torch's CPU generator uses it")
      ->capture_default_str()
      ->check(detail::whole_number);
  app.add_option("--resolution", o.resolution,
                 "long side in pixels (default: the model's, or 512; the photograph's own with "
                 "--numerics diffusers)")
      ->check(CLI::Range(64, 16384));
  app.add_option("--sampler", o.sampler, "solver (default: the model's, or euler-ancestral)")
      ->check(detail::one_of(ip2p::AnySampler::names()));
  app.add_option("--schedule", o.schedule, "noise levels (default: log-linear; linear with --numerics diffusers)")
      ->check(detail::one_of(ip2p::AnySchedule::names()));
  app.add_option("--numerics", o.numerics, "the published program to agree with")
      ->capture_default_str()
      ->check(CLI::IsMember({"released", "diffusers"}));
  app.add_option("--latents", o.latents,
                 "start noise of unit variance: safetensors with a tensor `latents` [1,4,h,w], or a file of "
                 "--save-latents, whose `start_noise` is taken");
  app.add_option("--save-latents", o.save_latents, "safetensors to write: `latents`, the result, and `start_noise`");

  app.add_option("--device", o.device, "auto, cpu, cuda or cuda:N")->capture_default_str()->check(detail::device_name);
  app.add_option("--dtype", o.dtype, "auto: bf16 where the hardware has it, else fp32")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16"}));
  app.add_flag("--low-memory", o.low_memory,
               "load text encoder and codec only while they work, tile the codec, keep weights in 16 bits");
  app.add_option("--threads", o.threads, "CPU threads (default: all)")->check(CLI::Range(1, 1024));
  app.add_flag("--no-ema", o.no_ema, "single file: take the raw weights although it holds averaged ones");
  app.add_option("--variant", o.variant, "folder: take *.VARIANT.safetensors, e.g. fp16");
  app.add_option("--tokenizer", o.tokenizer, "folder with vocab.json and merges.txt, for single files");
  app.add_option("--prediction-type", o.prediction_type, "single file: what the model predicts")
      ->check(CLI::IsMember({"epsilon", "v_prediction"}));
  app.add_option("--quality", o.quality, "of JPEG and WebP pictures")->capture_default_str()->check(CLI::Range(1, 100));
  app.add_flag("--ignore-exif", o.ignore_exif, "do not turn the photograph upright, as the released program");
  app.footer(
      "Status: 0 done, 1 an error to act on, 2 wrong usage, 130 stopped by Ctrl-C. Nothing is written unless "
      "the edit succeeds.");
  app.callback([&o, compare] {
    if (compare->count() > 0 && o.compare.empty()) {
      o.compare = o.out.parent_path() / (o.out.stem().string() + "-compare" + o.out.extension().string());
    }
    detail::check_together(o, compare->count() > 0);
  });
}

}  // namespace edit_image
