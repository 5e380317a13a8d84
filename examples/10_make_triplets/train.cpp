#include "train.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/io/copy_file.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/language/gpt2_files.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/new_lora.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/completion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "language_choice.hpp"
#include "renaming.hpp"
#include "support/contents.hpp"
#include "support/hub.hpp"
#include "support/output_folder.hpp"
#include "support/program.hpp"
#include "support/run_record.hpp"
#include "support/use_threads.hpp"

namespace make_triplets {

namespace fs = std::filesystem;

namespace {

constexpr std::array<const char*, 5> tokenizer_files{"vocab.json", "merges.txt", "tokenizer.json",
                                                     "tokenizer_config.json", "special_tokens_map.json"};

ip2p::Gpt2 model_to_train(TrainOptions& o, const ip2p::Gpt2Tokenizer& tokenizer) {
  if (!o.model.empty()) return ip2p::load_gpt2(o.model);
  ip2p::require(o.fresh.n_embd % o.fresh.n_head == 0, "--hidden-size: expected a multiple of --heads {}, found {}",
                o.fresh.n_head, o.fresh.n_embd);
  o.fresh.vocab_size = tokenizer.vocabulary_size();
  ip2p::Gpt2 model(o.fresh);
  ip2p::initialise(model.module(), o.seed);
  return model;
}

/// Folds the LoRA into the weights.
void fold_lora(const ip2p::Gpt2& model, const ip2p::AppliedLora& lora, double strength) {
  const at::NoGradGuard no_grad;
  const auto tensors = lora.tensors();
  for (const auto& [name, down] : tensors) {
    const auto end = name.find(".lora_down.weight");
    if (end == std::string::npos) continue;
    const auto layer = name.substr(0, end);
    const auto change = at::matmul(tensors.at(layer + ".lora_up.weight"), down);
    model.module()
        .parameter(layer.substr(std::string(ip2p::Gpt2::component).size() + 1) + ".weight")
        .add_(change, strength);
  }
}

/// What the model depends on. \param files of the model to start from, or of the tokenizer
nlohmann::json settings_of(const TrainOptions& o, const fs::path& files) {
  auto settings = example::settings_of(o.values, {});
  settings["--triplets"] = example::content_setting(o.data, example::file_digest(o.data));
  settings[o.model.empty() ? "--tokenizer" : "--model"] =
      example::content_setting(files, example::folder_digest(files));
  return settings;
}

}  // namespace

int train(TrainOptions o, const example::Interrupt& interrupt) {
  example::use_threads(o.threads);
  Split split(o.data);
  o.model = example::located(o.model);
  const auto files = o.model.empty() ? example::located_tokenizer(o.tokenizer) : o.model;
  const auto tokenizer = ip2p::Gpt2Tokenizer::open(files);
  const auto model = model_to_train(o, tokenizer);
  const ip2p::TripletFormat format;
  const auto pair = [&](const ip2p::Triplet& triplet) {
    return ip2p::CompletionPair{format.prompt(triplet.caption), format.completion(triplet)};
  };
  const auto limit = std::min(o.longest > 0 ? o.longest : model.config().n_positions, model.config().n_positions);
  const auto too_long = [&](const ip2p::Triplet& triplet) { return token_count(tokenizer, triplet, format) > limit; };
  const auto left_out = std::erase_if(split.training, too_long) + std::erase_if(split.held_out, too_long);
  ip2p::require(!split.training.empty() && !split.held_out.empty(),
                "{}: expected triplets of at most {} tokens ({}) to train on and to hold out, found none",
                o.data.string(), limit,
                limit == o.longest ? "--longest"
                : o.model.empty()  ? "--context"
                                   : "the model's context");
  std::vector<ip2p::CompletionPair> unseen;
  for (const auto& triplet : split.held_out) unseen.push_back(pair(triplet));

  ip2p::Parameters parameters;
  std::optional<ip2p::AppliedLora> lora;
  const double alpha = static_cast<double>(2 * o.lora);
  if (o.lora > 0) {
    lora =
        ip2p::new_lora(model, {.rank = o.lora, .alpha = alpha, .layers = {"c_attn", "c_proj", "c_fc"}, .seed = o.seed});
    parameters.add(*lora);
  } else {
    parameters.add(model);
  }
  const auto size = static_cast<std::int64_t>(split.training.size());
  const auto steps =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(o.epochs * static_cast<double>(size)) / o.batch);
  fmt::print("{} triplets, {} held out, {} longer than {} tokens left out; {} trained values; {} updates of {}\n", size,
             split.held_out.size(), left_out, limit, parameters.elements(), steps, o.batch);

  const Renaming rename(split.training, o.rename);
  const ip2p::CompletionLoss loss(model, tokenizer,
                                  [&](std::int64_t i, ip2p::SampleRandom& random) {
                                    const auto& triplet = split.training[static_cast<std::size_t>(i)];
                                    const auto renamed = rename(triplet, random);
                                    return pair(too_long(renamed) ? triplet : renamed);
                                  },
                                  size, {.batch = o.batch, .seed = o.seed});
  const ip2p::CompletionLoss unseen_loss(model, tokenizer, unseen, {.batch = static_cast<std::int64_t>(unseen.size())});
  const auto measure = [&] {
    const at::NoGradGuard no_grad;
    return unseen_loss(0).item<double>();
  };
  ip2p::TrainingOptions training;
  training.folder = o.out / "training";
  const example::OutputFolder folder(o.out);
  const ip2p::FolderLock lock(o.out, {"training"});
  const auto has_checkpoints = [&] { return !ip2p::CheckpointFolder(training.folder).steps().empty(); };
  example::RunRecord record(training.folder / "run.json", settings_of(o, files), has_checkpoints);
  record.agree(o.change);
  if (record.finished() >= steps && fs::exists(o.out / "model.safetensors")) {
    fmt::print("complete already, after {} updates: {}\n", record.finished(), o.out.string());
    return 0;
  }
  training.clip_norm = 1.0;
  ip2p::Trainer run(parameters, loss, ip2p::WarmupCosine{o.rate, std::min<std::int64_t>(100, steps / 10), steps, 0.1},
                    training);
  std::vector<std::string> skipped;
  if (run.resume(&skipped)) fmt::print("resumed at update {}\n", run.step());
  record.begin(run.step());
  for (const auto& line : skipped) fmt::print(stderr, "warning: {}\n", line);
  fmt::print("loss on the held-out triplets: {:.4f}\n", measure());
  std::fflush(stdout);
  example::ProgressBar bar(stderr);
  const auto begun = run.step();
  const auto begin = example::Clock::now();
  const bool complete = run.run(
      steps,
      [&](const ip2p::TrainingProgress& progress) {
        bar({.index = progress.step - 1 - begun, .count = steps - begun});
        if (progress.step % 200 != 0 && progress.step != steps) return;
        fmt::print("update {}: loss {:.4f}, held out {:.4f}\n", progress.step, progress.loss, measure());
        std::fflush(stdout);
      },
      interrupt.token());
  if (!complete) {
    fmt::print(stderr, "\nmake_triplets: stopped at update {}; run the same command again to continue\n", run.step());
    return 130;
  }
  if (lora) fold_lora(model, *lora, alpha / static_cast<double>(o.lora));
  if (lora) lora->remove();
  ip2p::save_gpt2(model, o.out);
  for (const char* name : tokenizer_files) {
    if (!fs::exists(files / name)) continue;
    ip2p::copy_file_atomically(files / name, o.out / name);
  }
  record.finish(run.step());
  fmt::print("{:.0f} s\n{}\n", example::seconds_since(begin), o.out.string());
  return 0;
}

}  // namespace make_triplets
