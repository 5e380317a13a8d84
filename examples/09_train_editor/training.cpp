#include "training.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ip2p/io/weights.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/new_lora.hpp"
#include "ip2p/parallel/device_for.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/train/editor_unet.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/unet/checkpoint_gradients.hpp"
#include "support/pictures.hpp"

namespace train_editor {

namespace fs = std::filesystem;

namespace {

ip2p::SchedulerConfig scheduler_of(const ip2p::ModelFiles& files, const Options& o) {
  auto config = files.has("scheduler") ? ip2p::scheduler_config_from_json(files.config("scheduler"), "scheduler")
                                       : ip2p::SchedulerConfig{};
  if (o.prediction == "epsilon") config.prediction = ip2p::PredictionType::epsilon;
  if (o.prediction == "v_prediction") config.prediction = ip2p::PredictionType::v_prediction;
  if (o.prediction == "sample") config.prediction = ip2p::PredictionType::sample;
  return config;
}

}  // namespace

Training::Training(Options o, const ip2p::ProcessPlace& place, const ip2p::ProcessGroup& processes)
    : o_(std::move(o)),
      place_(place),
      processes_(processes),
      device_(ip2p::device_for(o_.device, place)),
      dtype_(ip2p::parse_dtype(o_.dtype, device_)),
      files_(ip2p::ModelFiles::open(o_.model)),
      scheduler_(scheduler_of(files_, o_)),
      pictures_(open_pairs(ip2p::PairSplit::train)),
      codec_(ip2p::load<ip2p::KlAutoencoder>(files_, {.device = device_, .dtype = frozen_dtype()})),
      text_(ip2p::load<ip2p::ClipTextEncoder>(files_, {.device = device_, .dtype = frozen_dtype()}),
            {.folder = o_.cache.empty() ? fs::path() : o_.cache / "texts", .encoder = checksum("text_encoder")}),
      pairs_(pictures_, codec_, checksum("vae"), o_),
      unet_(ip2p::load_editor_unet(files_)) {
  ip2p::require(pictures_.size() > 0, "{}: expected pairs to train on, found none in the training split",
                o_.data.string());
  const auto pass = place_.size * o_.micro_batch;
  accumulate_ = std::max<std::int64_t>(1, (o_.batch + pass - 1) / pass);
  ip2p::require(o_.batch % (place_.size * accumulate_) == 0,
                "--batch: expected a multiple of {} processes x {} passes, found {}", place_.size, accumulate_,
                o_.batch);
  unet_.to(device_, at::kFloat);
  ip2p::checkpoint_gradients(unet_, o_.checkpoint_gradients);
  if (o_.lora_rank > 0) {
    lora_ = ip2p::new_lora(unet_, {.rank = o_.lora_rank, .alpha = o_.lora_alpha, .seed = o_.seed});
    parameters_.add(*lora_);
  } else {
    parameters_.add(unet_);
  }
}

ip2p::AnyPicturePairs Training::open_pairs(ip2p::PairSplit split) const {
  return ip2p::AnyPicturePairs::open(o_.data, {.split = split, .scan = o_.scan});
}

std::string Training::checksum(const char* component) const {
  return o_.cache.empty() ? std::string() : ip2p::weights_checksum(files_.weights(component));
}

/// Rows of before, after and our result, always for the same pairs and noise.
void Training::write_samples(std::int64_t step) {
  if (!speaks()) return;
  const at::NoGradGuard no_grad;
  const ip2p::EditPipeline pipeline{text_,
                                    codec_,
                                    unet_,
                                    ip2p::diffusion_of(scheduler_, ip2p::Numerics::diffusers),
                                    ip2p::EulerAncestral{},
                                    ip2p::DualGuidance{o_.image_scale, o_.text_scale}};
  std::vector<ip2p::Image> rows;
  const auto& held_out = validation();
  for (std::int64_t i = 0; i < std::min(o_.samples, held_out.size()); ++i) {
    ip2p::SampleRandom random(o_.seed, 0, static_cast<std::uint64_t>(i));
    const auto pair = held_out.get(i, random);
    const auto square = [&](const ip2p::Image& picture) {
      return ip2p::tensor_to_images(ip2p::centre_crop(picture, o_.augmentation.crop).unsqueeze(0),
                                    ip2p::Rounding::nearest)
          .front();
    };
    const ip2p::RunSettings settings{.steps = o_.sample_steps,
                                     .seed = o_.seed + static_cast<std::uint64_t>(i),
                                     .numerics = ip2p::Numerics::diffusers};
    const auto before = square(pair.before);
    const std::vector<ip2p::Image> row{before, square(pair.after), pipeline(before, pair.instruction, settings)};
    rows.push_back(example::side_by_side(row));
  }
  fs::create_directories(o_.out / "samples");
  ip2p::write_image(o_.out / "samples" / fmt::format("step_{:06}.png", step), example::stacked(rows));
}

/// The validation split, or the training pictures if it is empty.
const ip2p::AnyPicturePairs& Training::validation() {
  if (!validation_) {
    auto split = open_pairs(ip2p::PairSplit::validation);
    validation_.emplace(split.size() > 0 ? std::move(split) : pictures_);
  }
  return *validation_;
}

/// What other programs open: a model folder, or the LoRA.
void Training::write_model() {
  if (!speaks()) return;
  if (lora_) {
    fs::create_directories(o_.out);
    return ip2p::write_safetensors(o_.out / "lora.safetensors", lora_->state());
  }
  const auto vocabulary = files_.tokenizer().vocab;
  ip2p::save_model(o_.out / "model", unet_, ip2p::load<ip2p::KlAutoencoder>(files_, {.inference = false}),
                   ip2p::load<ip2p::ClipTextModel>(files_, {.inference = false}),
                   {.scheduler = scheduler_, .tokenizer = vocabulary.parent_path(), .settings = files_.settings()});
}

}  // namespace train_editor
