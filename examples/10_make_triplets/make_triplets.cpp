// The text half of the data engine: a language model learns from human-written triplets how an instruction changes a
// caption, and makes many more.
//
//   make_triplets train --data human-written-prompts.jsonl --model gpt2 --out triplet-gpt2
//   make_triplets measure --data human-written-prompts.jsonl --model triplet-gpt2
//   make_triplets generate --captions captions.txt --model triplet-gpt2 --out triplets.jsonl

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/language/gpt2_files.hpp"
#include "ip2p/language/moderation.hpp"
#include "ip2p/language/triplet_generator.hpp"
#include "ip2p/language/triplets.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/new_lora.hpp"
#include "ip2p/train/completion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "language_choice.hpp"
#include "renaming.hpp"
#include "support/program.hpp"

namespace {

namespace fs = std::filesystem;
using make_triplets::LanguageOptions;

/// Every tenth record is never trained on.
struct Split {
  std::vector<ip2p::Triplet> training, held_out;

  explicit Split(const fs::path& path) {
    auto all = ip2p::read_triplets(path);
    for (std::size_t i = 0; i < all.size(); ++i) (i % 10 == 9 ? held_out : training).push_back(std::move(all[i]));
    ip2p::require(!held_out.empty(), "{}: expected at least 10 triplets, found {}", path.string(), training.size());
  }
};

struct TrainOptions {
  fs::path data, out, model, tokenizer;
  ip2p::Gpt2Config fresh{.vocab_size = 0, .n_positions = 512, .n_embd = 192, .n_layer = 4, .n_head = 6};
  std::int64_t lora = 0, batch = 8, longest = 0;
  double epochs = 1, rate = 1e-4, rename = 0;
  std::uint64_t seed = 0;
  int threads = 0;
};

struct GenerateOptions {
  LanguageOptions language;
  fs::path captions, out, blocked;
  ip2p::TripletGeneratorOptions generator;
};

struct MeasureOptions {
  LanguageOptions language;
  fs::path data;
  std::int64_t samples = 1;
};

constexpr std::array<const char*, 5> tokenizer_files{"vocab.json", "merges.txt", "tokenizer.json",
                                                     "tokenizer_config.json", "special_tokens_map.json"};

ip2p::Gpt2 model_to_train(TrainOptions& o, const ip2p::Gpt2Tokenizer& tokenizer) {
  if (!o.model.empty()) return ip2p::load_gpt2(o.model);
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

int train(TrainOptions o, const example::Interrupt& interrupt) {
  if (o.threads > 0) at::set_num_threads(o.threads);
  Split split(o.data);
  const auto files = o.model.empty() ? o.tokenizer : o.model;
  const auto tokenizer = ip2p::Gpt2Tokenizer::open(files);
  const auto model = model_to_train(o, tokenizer);
  const ip2p::TripletFormat format;
  const auto pair = [&](const ip2p::Triplet& triplet) {
    return ip2p::CompletionPair{format.prompt(triplet.caption), format.completion(triplet)};
  };
  const auto limit = std::min(o.longest > 0 ? o.longest : model.config().n_positions, model.config().n_positions);
  const auto too_long = [&](const ip2p::Triplet& triplet) {
    const auto [prompt, completion] = pair(triplet);
    return static_cast<std::int64_t>(tokenizer.encode(prompt).size() + tokenizer.encode(completion).size()) > limit;
  };
  const auto left_out = std::erase_if(split.training, too_long) + std::erase_if(split.held_out, too_long);
  ip2p::require(!split.training.empty() && !split.held_out.empty(),
                "{}: expected triplets of at most {} tokens to train on and to hold out, found none", o.data.string(),
                limit);
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

  const make_triplets::Renaming rename(split.training, o.rename);
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
  training.clip_norm = 1.0;
  ip2p::Trainer run(parameters, loss, ip2p::WarmupCosine{o.rate, std::min<std::int64_t>(100, steps / 10), steps, 0.1},
                    training);
  std::vector<std::string> skipped;
  if (run.resume(&skipped)) fmt::print("resumed at update {}\n", run.step());
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
    fs::copy_file(files / name, o.out / name, fs::copy_options::overwrite_existing);
  }
  fmt::print("{:.0f} s\n{}\n", example::seconds_since(begin), o.out.string());
  return 0;
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream file(path);
  ip2p::require(file.good(), "cannot open '{}'", path.string());
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

int generate(GenerateOptions o, const example::Interrupt& interrupt) {
  example::check_folders({&o.out});
  const auto captions = ip2p::read_captions(o.captions);
  const ip2p::BlockedWords blocked(o.blocked.empty() ? std::vector<std::string>() : lines_of(o.blocked));
  auto model = o.language.open();
  o.generator.sampling = o.language.sampling;
  o.generator.sampling.cancel = interrupt.token();
  o.generator.model = o.language.name();
  fmt::print("{} captions\n", captions.size());
  example::ProgressBar bar(stderr);
  o.generator.on_batch = [&bar](std::int64_t done, std::int64_t all) { bar({.index = done - 1, .count = all}); };
  try {
    const auto counts = ip2p::generate_triplets(model, captions, o.out, o.generator, blocked);
    const auto named = counts.to_json();
    for (const auto& [name, count] : named.items()) {
      fmt::print("{:20} {}\n", name, count.get<std::int64_t>());
    }
    fmt::print("{}{}\n", model.report(), o.out.string());
    return 0;
  } catch (const ip2p::Cancelled& cancelled) {
    fmt::print(stderr, "\nmake_triplets: {}; complete batches are kept; run the same command again to continue\n",
               cancelled.what());
    return 130;
  }
}

/// Measures single samples: no retries, no selection.
int measure(MeasureOptions o, const example::Interrupt& interrupt) {
  const Split split(o.data);
  const auto model = o.language.open();
  const ip2p::TripletFormat format;
  auto sampling = o.language.sampling;
  sampling.stop = {format.end};
  sampling.cancel = interrupt.token();
  const auto captions = static_cast<std::int64_t>(split.held_out.size());
  std::vector<ip2p::CompletionRequest> requests;
  for (std::int64_t n = 0; n < o.samples * captions; ++n) {
    requests.push_back(
        {format.prompt(split.held_out[static_cast<std::size_t>(n % captions)].caption), static_cast<std::uint64_t>(n)});
  }
  std::vector<ip2p::Completion> answers;
  example::ProgressBar bar(stderr);
  for (std::size_t i = 0; i < requests.size(); i += 32) {
    const auto count = std::min<std::size_t>(32, requests.size() - i);
    for (auto& answer : model.complete(std::span(requests).subspan(i, count), sampling)) {
      answers.push_back(std::move(answer));
    }
    bar({.index = static_cast<std::int64_t>(answers.size()) - 1, .count = static_cast<std::int64_t>(requests.size())});
  }

  std::array<std::int64_t, 5> rejected{};
  std::int64_t parsed = 0, changed = 0, kept = 0;
  double words = 0;
  for (std::size_t n = 0; n < answers.size(); ++n) {
    const auto& caption = split.held_out[n % split.held_out.size()].caption;
    const auto [triplet, why] = ip2p::parse_triplet(caption, answers[n].text);
    parsed += triplet || why == ip2p::TripletRejection::unchanged || why == ip2p::TripletRejection::empty ? 1 : 0;
    if (!triplet) {
      ++rejected[static_cast<std::size_t>(why)];
      continue;
    }
    ++changed;
    const auto share = ip2p::kept_words(caption, triplet->edited);
    words += share;
    kept += share >= 0.5 ? 1 : 0;
  }
  const auto total = static_cast<double>(answers.size());
  fmt::print("{} samples of {} held-out captions\n", answers.size(), captions);
  fmt::print("with exactly one delimiter:                               {:5.1f} % ({})\n", 100 * parsed / total,
             parsed);
  fmt::print("caption changes (a usable triplet):                       {:5.1f} % ({})\n", 100 * changed / total,
             changed);
  fmt::print("caption changes and keeps at least half of its words:     {:5.1f} % ({})\n", 100 * kept / total, kept);
  if (changed > 0) {
    fmt::print("words kept by the captions that change, on average:       {:5.1f} %\n",
               100 * words / static_cast<double>(changed));
  }
  for (std::size_t i = 0; i < rejected.size(); ++i) {
    fmt::print("rejected, {:20} {}\n", ip2p::rejection_name(static_cast<ip2p::TripletRejection>(i)), rejected[i]);
  }
  fmt::print("{}\nThe first ten:\n", model.report());
  for (std::size_t n = 0; n < std::min<std::size_t>(10, answers.size()); ++n) {
    fmt::print("{}. {}\n{}\n\n", n + 1, split.held_out[n % split.held_out.size()].caption, answers[n].text);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Teaches a language model how instructions change captions, and makes triplets with it."};
  example::add_common(app);
  app.footer(
      "Exit status: 0 success, 1 error, 2 wrong usage, 130 interrupted by Ctrl-C. Run the same command again to "
      "continue.");
  app.require_subcommand(1);

  TrainOptions t;
  auto* training =
      app.add_subcommand("train", "fine-tune a GPT-2, or train one from scratch; every tenth triplet is held out");
  training->add_option("--data", t.data, "triplets to train on, as JSON lines")->required();
  training->add_option("--out", t.out, "folder for the model; created if missing")->required();
  auto* from = training->add_option("--model", t.model, "folder of the GPT-2 model to start from");
  auto* nothing =
      training->add_option("--tokenizer", t.tokenizer, "train from scratch, with the tokenizer in this folder");
  from->excludes(nothing);
  const auto count = CLI::Range(std::int64_t{1}, std::int64_t{1'000'000});
  for (const auto& [name, number, help] :
       {std::tuple{"--layers", &t.fresh.n_layer, "layers of a new model"},
        std::tuple{"--width", &t.fresh.n_embd, "width of a new model"},
        std::tuple{"--heads", &t.fresh.n_head, "attention heads of a new model"},
        std::tuple{"--context", &t.fresh.n_positions, "context of a new model in tokens"}}) {
    training->add_option(name, *number, help)->capture_default_str()->check(count)->needs(nothing);
  }
  training->add_option("--lora", t.lora, "train a LoRA of this rank instead of all weights; it is folded in at the end")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1024}))
      ->needs(from);
  training->add_option("--epochs", t.epochs, "passes over the data")
      ->capture_default_str()
      ->check(CLI::Range(1e-3, 1e6));
  training->add_option("--batch", t.batch, "triplets per update")->capture_default_str()->check(count);
  training
      ->add_option("--longest", t.longest, "skip triplets with more tokens than this (default: the model's context)")
      ->check(count);
  training->add_option("--rate", t.rate, "peak learning rate")->capture_default_str()->check(CLI::Range(1e-9, 1.0));
  training->add_option("--rename", t.rename, "share of a caption's words to rename, for models trained from scratch")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  training->add_option("--seed", t.seed, "random seed")->capture_default_str()->check(example::whole_number);
  example::add_threads(*training, t.threads);
  training->callback([from, nothing] {
    if (from->count() + nothing->count() == 0) throw CLI::RequiredError("--model or --tokenizer");
  });

  GenerateOptions g;
  auto* generating = app.add_subcommand("generate", "make triplets from captions");
  generating->add_option("--captions", g.captions, "captions, one per line, plain or as JSON with caption and url")
      ->required();
  generating->add_option("--out", g.out, "JSON lines to write; a journal is kept beside it")->required();
  make_triplets::add_language(*generating, g.language);
  generating->add_option("--tries", g.generator.tries, "samples to try before giving up on a caption")
      ->capture_default_str()
      ->check(count);
  generating->add_option("--batch", g.generator.batch, "captions to ask about at once")
      ->capture_default_str()
      ->check(count);
  generating->add_option("--blocked-words", g.blocked, "file of words, one per line, that no triplet may contain");

  MeasureOptions m;
  auto* measuring = app.add_subcommand("measure", "report the quality of samples for the held-out captions");
  measuring->add_option("--data", m.data, "the triplets that `train` was given")->required();
  make_triplets::add_language(*measuring, m.language);
  measuring->add_option("--samples", m.samples, "samples per caption")->capture_default_str()->check(count);

  return example::run_program("make_triplets", app, argc, argv, [&](const example::Interrupt& interrupt) {
    if (*training) return train(t, interrupt);
    if (*generating) return generate(g, interrupt);
    return measure(m, interrupt);
  });
}
