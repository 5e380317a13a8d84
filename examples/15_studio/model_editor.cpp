#include "model_editor.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "fault.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/sha.hpp"
#include "ip2p/pipeline/fitted_photo.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "support/advice.hpp"
#include "support/edit_settings.hpp"
#include "support/fit.hpp"
#include "support/model.hpp"
#include "support/watched_edit.hpp"

namespace studio {
namespace {

constexpr std::string_view noise_name = "torch";
constexpr std::size_t most_encoded = 64;

/// A photograph as the model sees it, and what its own size needs.
class FittedPhotograph final : public Photograph {
 public:
  [[nodiscard]] std::int64_t width() const override { return fitted.image.width; }
  [[nodiscard]] std::int64_t height() const override { return fitted.image.height; }
  [[nodiscard]] std::size_t bytes() const override {
    return fitted.image.pixels.size() + fitted.mask.pixels.size() + file.size() + mask.pixels.size();
  }

  ip2p::FittedPhoto fitted;
  std::string sum;   // SHA-256 of the file
  std::string file;  // for the photograph's own size: pixels would take many times the memory
  ip2p::Image mask;  // the same
};

const FittedPhotograph& fitted_of(const Edit& edit) { return static_cast<const FittedPhotograph&>(*edit.photograph); }

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// How requests' pictures are read: warnings are for those who call programs.
ip2p::ReadOptions reading(const Options& o) {
  auto options = example::reading(o.picture);
  options.warn = nullptr;
  return options;
}

/// White where the picture is clear. \throws Fault for one that is clear nowhere
ip2p::Image mask_of_alpha(std::string_view file, const ip2p::ReadOptions& options) {
  auto picture = ip2p::decode_picture(bytes_of(file), "mask", options);
  const bool clear = std::any_of(picture.alpha.begin(), picture.alpha.end(), [](auto alpha) { return alpha == 0; });
  if (!clear)
    throw Fault(400, "wrong_value", "mask: expected a picture that is clear where to edit, found none", "mask");
  for (std::size_t i = 0; i < picture.alpha.size(); ++i) {
    std::fill_n(picture.image.pixels.data() + i * 3, 3, picture.alpha[i] == 0 ? 255 : 0);
  }
  return std::move(picture.image);
}

/// Lets the rows with masks be edited inside of them only. \param clean, start [B,C,h,w]
ip2p::RunHooks::Revise hold_outside_masks(std::span<const Edit> edits, const at::Tensor& clean,
                                          const at::Tensor& start) {
  std::vector<std::int64_t> rows;
  std::vector<at::Tensor> masks;
  for (std::size_t i = 0; i < edits.size(); ++i) {
    const auto& fitted = fitted_of(edits[i]).fitted;
    if (fitted.mask.pixels.empty()) continue;
    rows.push_back(static_cast<std::int64_t>(i));
    const auto mask = ip2p::mask_tensor(fitted.mask, fitted.resolution, ip2p::Numerics::released);
    masks.push_back(ip2p::latent_mask(mask, clean.size(2), clean.size(3)));
  }
  if (rows.empty()) return {};
  const auto index = at::tensor(rows).to(clean.device());
  return [index, hold = ip2p::hold_outside(at::cat(masks), clean.index_select(0, index),
                                           start.to(clean.device()).index_select(0, index))](
             const ip2p::Step& step, const at::Tensor& latents) {
    return latents.index_copy(0, index, hold(step, latents.index_select(0, index)));
  };
}

}  // namespace

ModelEditor::ModelEditor(const Options& options)
    : options_(options), opened_(example::open_model(options.model)), editor_(opened_.editor()) {
  const auto& defaults = editor_.defaults;
  example::RunOptions run;
  run.resolution = options.resolution;
  resolution_ = example::resolution_of(editor_, run);
  const auto settings = example::model_settings(options.model, opened_);
  const auto samplers = ip2p::AnySampler::names();
  const auto schedules = ip2p::AnySchedule::names();
  info_ = {.name = settings.at("model").get<std::string>(),
           .device = opened_.options().device->str(),
           .dtype = settings.at("dtype").get<std::string>(),
           .downscale = editor_.codec().downscale(),
           .channels = editor_.codec().latent_channels(),
           .text_scale = editor_.guidance.text_scale,
           .image_scale = editor_.guidance.image_scale,
           .steps = defaults.steps,
           .sampler = std::string(editor_.sampler.name()),
           .schedule = std::string(editor_.diffusion.schedule.name()),
           .resolution = resolution_,
           .advice = example::advice_of(opened_),
           .samplers = {samplers.begin(), samplers.end()},
           .schedules = {schedules.begin(), schedules.end()}};
}

std::int64_t ModelEditor::tokens(const std::string& text) const {
  const auto length = opened_.length(text);
  return std::min(length.tokens, length.limit);
}

std::shared_ptr<const Photograph> ModelEditor::read(std::string_view image, std::optional<std::string_view> mask,
                                                    MaskForm form, bool full_size) const {
  const auto reads = reading(options_);
  auto photograph = std::make_shared<FittedPhotograph>();
  const auto picture = ip2p::decode_picture(bytes_of(image), "image", reads);
  const auto rule = example::fit_rule(options_.fit, resolution_, ip2p::Numerics::released);
  photograph->fitted = ip2p::fit_photo(picture.image, rule);
  ip2p::detail::Sha256 sum;
  sum.add(bytes_of(image));
  photograph->sum = sum.finish();
  if (full_size) photograph->file = image;
  if (!mask) return photograph;
  if (form == MaskForm::brightness && ip2p::sniff_image_format(bytes_of(*mask), "mask") != ip2p::ImageFormat::png) {
    throw Fault(400, "wrong_value", "mask: expected a PNG file", "mask");
  }
  auto own = example::mask_for(
      form == MaskForm::brightness ? ip2p::decode_mask(bytes_of(*mask), "mask", reads) : mask_of_alpha(*mask, reads),
      picture);
  if (own.width != picture.image.width || own.height != picture.image.height) {
    throw Fault(400, "wrong_value",
                fmt::format("mask: expected the photograph's size {}x{}, found {}x{}", picture.image.width,
                            picture.image.height, own.width, own.height),
                "mask");
  }
  photograph->fitted.mask = ip2p::fit_photo(own, rule).image;
  if (full_size) photograph->mask = std::move(own);
  return photograph;
}

ip2p::Editor ModelEditor::configured(const Edit& edit) const {
  auto pipeline = editor_;
  const auto& request = *edit.request;
  pipeline.sampler = ip2p::AnySampler::named(request.sampler);
  if (!request.schedule.empty()) {
    pipeline.diffusion.schedule = ip2p::AnySchedule::named(request.schedule, opened_.scheduler());
  }
  pipeline.guidance.text_scale = edit.cell.text_scale;
  pipeline.guidance.image_scale = edit.cell.image_scale;
  return pipeline;
}

ip2p::Conditioning ModelEditor::encode(const std::string& instruction, const std::string& negative) {
  const std::pair key{instruction, negative};
  const auto found =
      std::find_if(encoded_.begin(), encoded_.end(), [&](const auto& entry) { return entry.first == key; });
  if (found != encoded_.end()) {
    encoded_.splice(encoded_.begin(), encoded_, found);
  } else {
    encoded_.emplace_front(key, editor_.encode_text({&instruction, 1}, negative));
    if (encoded_.size() > most_encoded) encoded_.pop_back();
  }
  return encoded_.front().second;
}

std::vector<std::optional<Edited>> ModelEditor::edit(std::span<const Edit> edits, const Watch& watch) {
  const at::NoGradGuard no_grad;
  auto pipeline = configured(edits.front());
  ip2p::RunSettings settings{.steps = edits.front().request->steps, .negative_prompt = edits.front().request->negative};
  settings = example::take_fitted(pipeline, settings, fitted_of(edits.front()).fitted);
  std::vector<at::Tensor> texts, null_texts, pictures, latents;
  std::vector<std::uint64_t> seeds;
  for (const auto& edit : edits) {
    const auto context = encode(edit.request->instruction, settings.negative_prompt);
    texts.push_back(context.text);
    null_texts.push_back(context.null_text);
    seeds.push_back(edit.cell.seed);
    // Each by itself, so that it is the one that it would be alone; results of one job share it.
    const auto before = std::find_if(edits.begin(), edits.end(),
                                     [&](const Edit& other) { return other.photograph == edit.photograph; });
    const auto known = static_cast<std::size_t>(before - edits.begin());
    if (known < latents.size()) {
      pictures.push_back(pictures[known]);
      latents.push_back(latents[known]);
    } else {
      pictures.push_back(pipeline.prepare({&fitted_of(edit).fitted.image, 1}, settings));
      latents.push_back(pipeline.encode_images(pictures.back()));
    }
  }
  const auto image_latents = at::cat(latents);
  auto noise = ip2p::AnyNoise::named(noise_name, seeds);
  const auto start = pipeline.start_noise(settings, image_latents.sizes(), noise);
  const auto clean = image_latents.to(pipeline.unet().device(), at::kFloat).mul(pipeline.codec().scaling_factor());
  settings.hooks.revise = hold_outside_masks(edits, clean, start);
  settings.hooks.on_step = [&](const ip2p::Step& step, const at::Tensor&) {
    for (std::size_t i = 0; i < edits.size(); ++i) {
      if (watch.wanted(i)) watch.step(i, step.index + 1);
    }
  };
  std::int64_t every = 0;
  for (const auto& edit : edits) {
    const auto wanted = edit.request->preview_every;
    every = every == 0 || (wanted > 0 && wanted < every) ? wanted : every;
  }
  const auto show = [&](std::size_t i, const ip2p::Image& picture) {
    if (edits[i].request->preview_every > 0) watch.preview(i, ip2p::own_part(fitted_of(edits[i]).fitted, picture));
  };
  const auto result = example::run_watched(pipeline, at::cat(pictures), image_latents,
                                           {.text = at::cat(texts), .null_text = at::cat(null_texts)}, start, settings,
                                           noise, {.preview_every = every, .show = show, .wanted = watch.wanted});
  std::vector<std::optional<Edited>> edited(edits.size());
  for (std::size_t i = 0; i < edits.size(); ++i) {
    if (!watch.wanted(i)) continue;
    edited[i] = finished(pipeline, edits[i], settings, result.narrow(0, static_cast<std::int64_t>(i), 1));
  }
  return edited;
}

Edited ModelEditor::finished(const ip2p::Editor& edit, const Edit& job, const ip2p::RunSettings& settings,
                             const at::Tensor& latents) const {
  const auto& photograph = fitted_of(job);
  const auto& fitted = photograph.fitted;
  auto drawn = std::move(edit.decode(latents, ip2p::rounding_of(*settings.numerics)).front());
  const bool masked = !fitted.mask.pixels.empty();
  if (masked) {
    const auto where = ip2p::mask_tensor(fitted.mask, fitted.resolution, *settings.numerics);
    drawn = ip2p::paste_inside(where, edit.prepare({&fitted.image, 1}, settings), drawn);
  }
  Edited edited;
  if (job.request->full_size) {
    const auto photo = ip2p::decode_picture(bytes_of(photograph.file), "image", reading(options_)).image;
    edited.picture = masked ? ip2p::at_full_size(edit, photo, photograph.mask, fitted, drawn, settings)
                            : std::move(ip2p::at_full_size(edit, photo, fitted, {&drawn, 1}, settings).front());
  } else {
    edited.picture = ip2p::own_part(fitted, drawn);
  }
  example::RunOptions run;
  run.steps = settings.steps;
  run.negative_prompt = settings.negative_prompt;
  run.schedule = job.request->schedule;
  const auto made = example::edit_settings({.model_options = options_.model,
                                            .model = opened_,
                                            .edit = edit,
                                            .run = run,
                                            .picture = options_.picture,
                                            .resolution = resolution_,
                                            .fit = fitted.fit,
                                            .full_size = job.request->full_size},
                                           job.request->instruction, job.cell.seed);
  edited.settings =
      example::picture_settings("edit_image", made, photograph.sum, fitted.image.width, fitted.image.height);
  return edited;
}

}  // namespace studio
