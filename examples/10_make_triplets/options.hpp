#pragma once

/// \file
/// The command line of make_triplets.

#include <cstdint>
#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "ip2p/language/completions_client.hpp"
#include "ip2p/language/gpt2_config.hpp"
#include "ip2p/language/triplet_generator.hpp"
#include "support/contents.hpp"
#include "support/run_record.hpp"

namespace CLI {
class App;
}

namespace make_triplets {

/// The language model: a folder or a service.
struct LanguageOptions {
  std::filesystem::path model;
  ip2p::CompletionsClientOptions service;
  std::string extra;
  ip2p::CompletionOptions sampling{.max_tokens = 256, .temperature = 0.7, .frequency_penalty = 0.1};

  /// Names the choice in a journal: a folder by what it holds, a service without what may change between runs (waits,
  /// keys).
  [[nodiscard]] std::string name() const {
    return model.empty() ? fmt::format("{} {} {} {}", service.url, service.model, service.chat ? "chat" : "text", extra)
                         : example::folder_digest(model);
  }
};

struct TrainOptions {
  std::filesystem::path data, out, model, tokenizer;
  ip2p::Gpt2Config fresh{.vocab_size = 0, .n_positions = 512, .n_embd = 192, .n_layer = 4, .n_head = 6};
  std::int64_t lora = 0, batch = 8, longest = 0;
  double epochs = 1, rate = 1e-4, rename = 0;
  std::uint64_t seed = 0;
  int threads = 0;
  bool change = false;
  example::OptionValues values;  ///< All of these by the names of their options.
};

struct GenerateOptions {
  LanguageOptions language;
  std::filesystem::path captions, out, blocked;
  bool change = false;
  example::OptionValues values;  ///< All of these by the names of their options.
  ip2p::TripletGeneratorOptions generator;
};

struct MeasureOptions {
  LanguageOptions language;
  std::filesystem::path data;
  std::int64_t samples = 1, longest = 0;
};

/// The subcommands; all but the chosen one are false.
struct Commands {
  TrainOptions train;
  GenerateOptions generate;
  MeasureOptions measure;
  CLI::App *training = nullptr, *generating = nullptr, *measuring = nullptr;
};

/// Adds the options to `app`; parsing then fills `commands`.
void add_options(CLI::App& app, Commands& commands);

}  // namespace make_triplets
