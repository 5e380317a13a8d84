#pragma once

/// \file
/// The language model chosen on the command line: a folder or a service.

#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/language/completions_client.hpp"
#include "ip2p/language/gpt2_language_model.hpp"
#include "options.hpp"

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

/// Opens what the options name.
inline AnyLanguageModel open_language(const LanguageOptions& o) {
  if (!o.model.empty()) return AnyLanguageModel(ip2p::Gpt2LanguageModel::open(o.model));
  auto service = o.service;
  if (!o.extra.empty()) {
    service.extra = nlohmann::json::parse(o.extra, nullptr, false);
    ip2p::require(service.extra.is_object(), "--extra: expected a JSON object, found '{}'", o.extra);
  }
  return AnyLanguageModel(ip2p::CompletionsClient<>(service));
}

}  // namespace make_triplets
