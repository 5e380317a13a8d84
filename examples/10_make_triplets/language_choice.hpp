#pragma once

/// \file
/// The language model chosen on the command line: a folder or a service.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "ip2p/language/completions_client.hpp"
#include "ip2p/language/gpt2_language_model.hpp"
#include "support/command_line.hpp"

namespace make_triplets {

/// Either kind; satisfies `ip2p::LanguageModel`.
class AnyLanguageModel {
 public:
  explicit AnyLanguageModel(ip2p::Gpt2LanguageModel model) : model_(std::move(model)) {}
  explicit AnyLanguageModel(ip2p::CompletionsClient<> client) : model_(std::move(client)) {}

  [[nodiscard]] std::vector<ip2p::Completion> complete(std::span<const ip2p::CompletionRequest> requests,
                                                       const ip2p::CompletionOptions& options) const {
    return std::visit([&](const auto& model) { return model.complete(requests, options); }, model_);
  }

  /// Counts the requests to a service; empty for a model in memory.
  [[nodiscard]] std::string report() const {
    const auto* client = std::get_if<ip2p::CompletionsClient<>>(&model_);
    if (client == nullptr) return {};
    const auto counts = client->counts();
    return fmt::format("{} requests, {} of them retries\n", counts.requests, counts.retries);
  }

 private:
  std::variant<ip2p::Gpt2LanguageModel, ip2p::CompletionsClient<>> model_;
};
static_assert(ip2p::LanguageModel<AnyLanguageModel>);

struct LanguageOptions {
  std::filesystem::path model;
  ip2p::CompletionsClientOptions service;
  std::string extra;
  ip2p::CompletionOptions sampling{.max_tokens = 256, .temperature = 0.7, .frequency_penalty = 0.1};

  /// Names the choice in a journal, without what may change between runs (waits, keys).
  [[nodiscard]] std::string name() const {
    return model.empty() ? fmt::format("{} {} {} {}", service.url, service.model, service.chat ? "chat" : "text", extra)
                         : std::filesystem::weakly_canonical(model).string();
  }

  [[nodiscard]] AnyLanguageModel open() {
    if (!model.empty()) return AnyLanguageModel(ip2p::Gpt2LanguageModel::open(model));
    if (!extra.empty()) {
      service.extra = nlohmann::json::parse(extra, nullptr, false);
      ip2p::require(service.extra.is_object(), "--extra: expected a JSON object, found '{}'", extra);
    }
    return AnyLanguageModel(ip2p::CompletionsClient<>(service));
  }
};

inline void add_language(CLI::App& app, LanguageOptions& o) {
  auto* folder = app.add_option("--model", o.model, "folder of a GPT-2 model with its tokenizer");
  auto* url = app.add_option("--url", o.service.url, "base URL of a service with OpenAI's API, up to /v1");
  folder->excludes(url);
  const auto of_service = [&](CLI::Option* option) { option->needs(url); };
  of_service(app.add_option("--service-model", o.service.model, "name of the service's model"));
  of_service(app.add_flag("--chat", o.service.chat, "ask /chat/completions instead of /completions"));
  of_service(app.add_option("--system", o.service.system, "with --chat: system message"));
  of_service(app.add_option("--key-variable", o.service.key_variable,
                            "environment variable that holds the service's API key (default: send no key)"));
  of_service(app.add_option("--connections", o.service.connections, "maximum concurrent requests")
                 ->check(CLI::Range(std::int64_t{1}, std::int64_t{256})));
  of_service(app.add_option("--requests-per-minute", o.service.requests_per_minute, "maximum requests per minute")
                 ->check(CLI::NonNegativeNumber));
  of_service(app.add_option("--extra", o.extra, "JSON object to merge into each request"));
  app.add_option("--temperature", o.sampling.temperature, "sampling temperature")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--top-p", o.sampling.top_p, "nucleus sampling: probability mass to keep")
      ->capture_default_str()
      ->check(CLI::Range(1e-9, 1.0));
  app.add_option("--frequency-penalty", o.sampling.frequency_penalty, "penalty on tokens already used")
      ->capture_default_str()
      ->check(example::finite_number);
  app.add_option("--max-tokens", o.sampling.max_tokens, "maximum tokens per sample")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  app.add_option("--seed", o.sampling.seed, "random seed")->capture_default_str()->check(example::whole_number);
  app.callback([folder, url] {
    if (folder->count() + url->count() == 0) throw CLI::RequiredError("--model or --url");
  });
}

}  // namespace make_triplets
