#include "methods.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ip2p/core/any_noise.hpp"
#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/evaluate/sweep.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/vision/clip.hpp"
#include "support/clip.hpp"
#include "support/contents.hpp"
#include "support/model.hpp"
#include "text2live_method.hpp"

namespace evaluate {

Model::Model(ip2p::OpenedModel model) : opened(std::move(model)) {
  if (opened.kind() == ip2p::ModelKind::editor) {
    editor.emplace(opened.editor());
  } else {
    painter.emplace(opened.text_to_image());
  }
}

ip2p::Numerics Workshop::numerics() const {
  return options.numerics == "released" ? ip2p::Numerics::released : ip2p::Numerics::diffusers;
}

ip2p::RunSettings Workshop::settings(std::int64_t steps) const { return {.steps = steps, .hooks = {.stop = stop}}; }

std::string Workshop::digest_of(const std::string& curve, const std::string& kind, const std::string& name) {
  std::vector<Named> known;
  if (kind == "clip") known = clips;
  for (const auto& [model, how] : models) {
    if (kind == "model") known.push_back({model, how.model});
  }
  std::vector<std::string> names;
  for (const auto& one : known) {
    if (one.name == name || (name.empty() && known.size() == 1)) {
      const auto digest = kind == "clip" ? example::model_digest(example::clip_files(one.path, options.clip_tokenizer))
                                         : example::whole_digest(models.at(one.name));
      found.emplace(digest, one);
      return digest;
    }
    names.push_back(one.name);
  }
  ip2p::throw_error(
      "curve '{}': {}: expected {}, found '{}'", curve, kind,
      names.empty() ? fmt::format("one that --{} names", kind) : fmt::format("one of {}", fmt::join(names, ", ")),
      name);
}

std::map<std::string, std::string> Workshop::recommended(const std::string& digest) const {
  std::map<std::string, std::string> settings;
  const auto stored = example::model_files(models.at(found.at(digest).name)).settings();
  for (const auto& [name, value] : stored.items()) {
    if (!value.is_string() && !value.is_number()) continue;  // limits, which no setting of a method is
    auto setting = name;
    std::replace(setting.begin(), setting.end(), '_', '-');
    settings[setting] = value.is_string() ? value.get<std::string>() : fmt::format("{:g}", value.get<double>());
  }
  return settings;
}

std::shared_ptr<Model> Workshop::model(const std::string& digest) {
  auto& one = loaded[digest];
  if (!one) {
    one = std::make_shared<Model>(example::open_model(models.at(found.at(digest).name), numerics()));
  }
  return one;
}

const ip2p::Clip& Workshop::guide(const std::string& digest) {
  auto guide = guides.find(digest);
  if (guide == guides.end()) {
    guide = guides
                .emplace(digest, example::open_clip(found.at(digest).path, options.clip_tokenizer,
                                                    ip2p::parse_device(options.every.device)))
                .first;
  }
  return guide->second;
}

ip2p::Editor& Workshop::editor(const std::string& digest) {
  const auto one = model(digest);
  ip2p::require(one->editor.has_value(), "{}: expected an InstructPix2Pix model, found a text-to-image model",
                found.at(digest).path.string());
  return *one->editor;
}

ip2p::TextToImage& Workshop::painter(const std::string& digest) {
  const auto one = model(digest);
  ip2p::require(one->painter.has_value(), "{}: expected a text-to-image model, found an InstructPix2Pix model",
                found.at(digest).path.string());
  return *one->painter;
}

void Workshop::require_kind(const ip2p::SweepPoint& point) {
  const auto& digest = point.settings.text("model");
  if (point.method == "instruct") {
    static_cast<void>(editor(digest));
  } else {
    static_cast<void>(painter(digest));
  }
}

namespace {

/// Sampler, noise levels and noise of a point. Pipelines are shared by curves, so each point sets all of them.
template <class Pipeline>
ip2p::AnyNoise configure(Pipeline& pipeline, const Model& model, const ip2p::EditSettings& s, std::uint64_t seed) {
  pipeline.sampler = ip2p::AnySampler::named(s.text("sampler"));
  const auto schedule = s.text("schedule");
  pipeline.diffusion.schedule = schedule == "default" ? model.opened.diffusion().schedule
                                                      : ip2p::AnySchedule::named(schedule, model.opened.scheduler());
  return ip2p::AnyNoise::named(s.text("noise"), {seed});
}

/// InstructPix2Pix.
ip2p::EditMethod instruct(Workshop& shop) {
  return [&shop](const ip2p::PreparedEdit& edit, const ip2p::EditSettings& s) {
    auto& editor = shop.editor(s.text("model"));
    editor.guidance = {.image_scale = s.number("image-scale"), .text_scale = s.number("text-scale")};
    auto noise = configure(editor, *shop.model(s.text("model")), s, edit.seed);
    return decoded(
        editor, editor.sample(edit.photograph, {&edit.words.instruction, 1}, shop.settings(s.count("steps")), noise));
  };
}

/// SDEdit towards the edited caption.
ip2p::EditMethod sdedit(Workshop& shop) {
  return [&shop](const ip2p::PreparedEdit& edit, const ip2p::EditSettings& s) {
    auto& painter = shop.painter(s.text("model"));
    painter.guidance = {.text_scale = s.number("text-scale")};
    const auto settings = shop.settings(s.count("steps"));
    auto noise = configure(painter, *shop.model(s.text("model")), s, edit.seed);
    const auto shape = painter.latent_shape(1, {.width = edit.photograph.size(3), .height = edit.photograph.size(2)});
    const auto clean = painter.clean_latents(edit.photograph, noise.normal(shape, *settings.steps + 1));
    return decoded(
        painter, ip2p::sdedit_latents(painter, clean, {&edit.words.output, 1}, s.number("strength"), settings, noise));
  };
}

/// Text2LIVE.
ip2p::EditMethod text2live(Workshop& shop) {
  return [&shop](const ip2p::PreparedEdit& edit, const ip2p::EditSettings& s) {
    return layer_over(edit, s, shop.guide(s.text("clip")), shop.stop);
  };
}

const std::vector<MethodKind>& methods() {
  static const std::vector<MethodKind> all{
      {"instruct",
       {{"model", ""},
        {"image-scale", "1.5"},
        {"text-scale", "7.5"},
        {"steps", "100"},
        {"sampler", "euler-ancestral"},
        {"schedule", "default"},
        {"noise", "torch"}},
       instruct},
      {"sdedit",
       {{"model", ""},
        {"strength", "0.6"},
        {"text-scale", "7.5"},
        {"steps", "50"},
        {"sampler", "ddim"},
        {"schedule", "default"},
        {"noise", "torch"}},
       sdedit},
      {"prompt-to-prompt",
       {{"model", ""},
        {"fraction", "0.8"},
        {"self", "0.4"},
        {"text-scale", "7.5"},
        {"steps", "50"},
        {"null-text-steps", "0"}},
       prompt_to_prompt},
      {"text2live",
       {{"clip", ""}, {"steps", "1000"}, {"scales", "7"}, {"channels", "128"}, {"views", "16"}},
       text2live},
      {"input",
       {},
       [](Workshop&) -> ip2p::EditMethod {
         return [](const ip2p::PreparedEdit& edit, const ip2p::EditSettings&) { return edit.photograph; };
       }},
      {"noise", {}, [](Workshop&) -> ip2p::EditMethod {
         return [](const ip2p::PreparedEdit& edit, const ip2p::EditSettings&) {
           return ip2p::TorchNoise(edit.seed).normal(edit.photograph.sizes(), 0).mul(0.5);
         };
       }}};
  return all;
}

}  // namespace

const MethodKind& method_named(const std::string& name) {
  std::vector<std::string_view> names;
  for (const auto& method : methods()) {
    if (method.name == name) return method;
    names.push_back(method.name);
  }
  ip2p::throw_error("curve: expected a method among {}, found '{}'", fmt::join(names, ", "), name);
}

}  // namespace evaluate
