#pragma once

/// \file
/// What the programs do alike around their work: open a model, report, write all files or none, end with a status.

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command_line.hpp"
#include "interrupt.hpp"
#include "ip2p/core/freed_memory.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/io/lora_file.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/nn/apply_lora.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/textual_inversion.hpp"
#include "loaded_model.hpp"
#include "progress_bar.hpp"

namespace example {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// What --lora and --embedding add to a model.
struct Additions {
  struct Lora {
    ip2p::LoraFile file;
    double scale;
  };
  std::vector<Lora> loras;
  std::vector<ip2p::TextualInversion> embeddings;
  bool partial;  ///< --lora-partial

  template <class Model>
  void apply_loras(const Model& model) const {
    for (const auto& [file, scale] : loras) {
      const auto unmatched = partial ? ip2p::UnmatchedLora::report : ip2p::UnmatchedLora::refuse;
      auto left =
          ip2p::apply_lora(model, file.part(Model::component), {.scale = scale, .unmatched = unmatched}).unmatched();
      std::erase_if(left, [&](const auto& name) { return std::ranges::count(file.unrecognised(), name) > 0; });
      if (left.empty()) continue;
      fmt::print(stderr, "warning: {}: {} tensors belong to no layer of the {}: {}\n", file.where(), left.size(),
                 Model::component, ip2p::detail::name_list(left, 6));
    }
  }
};

/// A model's files, read as the options say.
struct OpenedModel {
  ip2p::ModelFiles files;
  ip2p::SchedulerConfig scheduler;
  ip2p::BpeTokenizer tokenizer;
  ip2p::LoadOptions load;
  bool low_memory;
  Additions additions;

  [[nodiscard]] AnyTextEncoder text_encoder() const {
    return {files, load, low_memory, [additions = additions](ip2p::ClipTextEncoder& encoder) {
              additions.apply_loras(encoder.model());
              for (const auto& embedding : additions.embeddings) encoder.add_embedding(embedding);
            }};
  }
  /// How a pipeline over these models evaluates guidance.
  [[nodiscard]] std::size_t branches_at_once() const { return low_memory ? 1 : 0; }

  [[nodiscard]] AnyCodec codec() const { return {files, load, low_memory}; }
  template <class Model>
  [[nodiscard]] Model network() const {
    auto network = ip2p::load<Model>(files, load);
    additions.apply_loras(network);
    return network;
  }
};

/// Reads the files of --lora and --embedding and says what they hold; words become tokens of `tokenizer`.
inline Additions read_additions(const ModelOptions& o, ip2p::BpeTokenizer& tokenizer) {
  Additions additions{.loras = {}, .embeddings = {}, .partial = o.partial_loras};
  for (const auto& text : o.loras) {
    const auto choice = lora_choice(text);
    additions.loras.push_back({ip2p::LoraFile::open(choice.file), choice.scale});
    const auto& file = additions.loras.back().file;
    fmt::print("LoRA: {}, scale {:g}, changes {} layers of the UNet and {} of the text encoder\n", file.where(),
               choice.scale, file.part("unet").layers().size(), file.part("text_encoder").layers().size());
    if (const auto& unknown = file.unrecognised(); !unknown.empty()) {
      const auto problem = fmt::format("{}: {} tensors have names that no LoRA for this program has: {}", file.where(),
                                       unknown.size(), ip2p::detail::name_list(unknown, 6));
      ip2p::require(o.partial_loras, "{}; --lora-partial leaves them out", problem);
      fmt::print(stderr, "warning: {}\n", problem);
    }
  }
  for (const auto& path : o.embeddings) {
    auto embedding = ip2p::TextualInversion::open(path);
    const auto count = embedding.vectors.size(0);
    tokenizer.add_token(embedding.word, count);
    fmt::print("embedding: {}, stands in prompts as \"{}\", {} vector{}\n", path, embedding.word, count,
               count == 1 ? "" : "s");
    additions.embeddings.push_back(std::move(embedding));
  }
  return additions;
}

/// \param inference false keeps weights through which gradients can pass
inline OpenedModel open_model(const ModelOptions& o, bool inference = true) {
  if (o.threads > 0) at::set_num_threads(o.threads);
  ip2p::set_freed_memory(o.low_memory ? ip2p::FreedMemory::returned : ip2p::FreedMemory::kept);
  const auto device = ip2p::parse_device(o.device);
  const auto dtype = ip2p::parse_dtype(o.dtype, device);
  auto files = ip2p::ModelFiles::open(
      o.model, {.prefer_ema = !o.no_ema,
                .variant = o.variant,
                .tokenizer = o.tokenizer,
                .prediction_type = o.prediction_type,
                .weights = {.access = o.low_memory ? ip2p::WeightAccess::copied : ip2p::WeightAccess::mapped}});
  const auto scheduler = files.has("scheduler")
                             ? ip2p::scheduler_config_from_json(files.config("scheduler"), "scheduler")
                             : ip2p::SchedulerConfig{};
  const auto at = files.tokenizer();
  auto tokenizer = ip2p::BpeTokenizer::open(at.vocab, at.merges, at.config, at.special_tokens,
                                            {.invalid_utf8 = ip2p::InvalidUtf8::error});
  // Without fast 16-bit arithmetic, fp32 over weights of 16 bits: half the memory, nearly the same picture.
  const ip2p::LoadOptions load{.device = device,
                               .dtype = dtype,
                               .storage = o.low_memory && dtype == at::kFloat ? std::optional(at::kHalf) : std::nullopt,
                               .inference = inference};
  fmt::print("model: {}\ncomputes in {} on {}\n", files.describe(),
             dtype == at::kFloat  ? "fp32"
             : dtype == at::kHalf ? "fp16"
                                  : "bf16",
             device.str());
  auto additions = read_additions(o, tokenizer);
  return {std::move(files), scheduler, std::move(tokenizer), load, o.low_memory, std::move(additions)};
}

/// The schedule that was asked for, or the default one.
inline ip2p::AnySchedule schedule_of(const RunOptions& o, const ip2p::SchedulerConfig& scheduler) {
  return o.schedule.empty() ? ip2p::default_schedule(o.numerics_policy(), scheduler)
                            : ip2p::AnySchedule::named(o.schedule, scheduler);
}

/// Fails before the work rather than after it.
inline void check_folders(std::initializer_list<const std::filesystem::path*> outputs) {
  for (const auto* path : outputs) {
    if (path->empty()) continue;
    const auto folder = path->has_parent_path() ? path->parent_path() : std::filesystem::path(".");
    ip2p::require(std::filesystem::is_directory(folder), "{}: expected a folder to write into, found none",
                  folder.string());
    ip2p::require(access(folder.c_str(), W_OK) == 0, "{}: no permission to write into this folder", folder.string());
    ip2p::require(!std::filesystem::is_directory(*path), "{}: expected the name of a file, found a folder",
                  path->string());
  }
}

/// Says how a prompt reads as tokens, and what of it does not fit.
inline void report_prompt(const ip2p::BpeTokenizer& tokenizer, std::string_view name, const std::string& prompt) {
  const auto tokens = tokenizer.encode(prompt);
  fmt::print("{}: {} token{}\n", name, tokens.count, tokens.count == 1 ? "" : "s");
  if (tokens.truncated) {
    fmt::print(stderr, "warning: {}: only the first {} of {} tokens count; dropped: \"{}\"\n", name,
               tokenizer.max_length() - 2, tokens.count, tokens.dropped);
  }
}

inline std::string gibibytes(double bytes) { return fmt::format("{:.2f} GiB", bytes / (1 << 30)); }

inline void report_memory(at::Device device) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  fmt::print("peak memory: {}", gibibytes(static_cast<double>(usage.ru_maxrss) * 1024));
  if (device.is_cuda()) {
    const auto stats = at::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    const auto total = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    fmt::print(", {} on {}", gibibytes(static_cast<double>(stats.reserved_bytes[total].peak)), device.str());
  }
  fmt::print("\n");
}

/// Hooks of a run that draws the bar and stops on Ctrl-C.
inline ip2p::RunHooks watched(ProgressBar& bar, const Interrupt& interrupt) {
  ip2p::RunHooks hooks;
  hooks.stop = interrupt.token();
  hooks.on_step = [&bar](const ip2p::Step& step, const at::Tensor&) { bar(step); };
  return hooks;
}

/// Files of a run: all of them, or none.
class Outputs {
 public:
  template <class Write>
  void add(const std::filesystem::path& path, Write&& write) {
    write();
    written_.push_back(path);
  }
  void keep() { written_.clear(); }
  Outputs() = default;
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  ~Outputs() {
    std::error_code ignored;
    for (const auto& path : written_) std::filesystem::remove(path, ignored);
  }

 private:
  std::vector<std::filesystem::path> written_;
};

/// Parses the command line and runs the program; every failure becomes one line and a status.
/// \param run called with the `Interrupt`; returns the status
template <class Run>
int run_program(std::string_view name, CLI::App& app, int argc, char** argv, Run&& run) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }
  const auto report = [name](std::string_view message) {
    std::fflush(stdout);
    fmt::print(stderr, "{}: {}\n", name, message);
    return 1;
  };
  try {
    const Interrupt interrupt;
    return ip2p::with_memory_advice([&] { return run(interrupt); });
  } catch (const ip2p::Cancelled& cancelled) {
    report(fmt::format("{}; nothing was written", cancelled.what()));
    return 130;
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

}  // namespace example
