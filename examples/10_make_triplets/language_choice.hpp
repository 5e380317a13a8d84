#pragma once

/// \file
/// The language model chosen on the command line: a folder or a service.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/io/json_field.hpp"
#include "ip2p/language/completions_client.hpp"
#include "ip2p/language/gpt2_language_model.hpp"
#include "ip2p/language/triplets.hpp"
#include "options.hpp"

namespace make_triplets {

/// Tokens of a triplet as a model is taught it.
inline std::int64_t token_count(const ip2p::Gpt2Tokenizer& tokenizer, const ip2p::Triplet& triplet,
                                const ip2p::TripletFormat& format) {
  return static_cast<std::int64_t>(tokenizer.encode(format.prompt(triplet.caption)).size() +
                                   tokenizer.encode(format.completion(triplet)).size());
}

/// Either kind; satisfies `ip2p::LanguageModel`.
class AnyLanguageModel {
 public:
  explicit AnyLanguageModel(ip2p::Gpt2LanguageModel model) : model_(std::move(model)) {}
  explicit AnyLanguageModel(ip2p::CompletionsClient<> client) : model_(std::move(client)) {}

  [[nodiscard]] std::vector<ip2p::Completion> complete(std::span<const ip2p::CompletionRequest> requests,
                                                       const ip2p::CompletionOptions& options) const {
    return std::visit([&](const auto& model) { return model.complete(requests, options); }, model_);
  }

  /// Whether a triplet's texts fit into the model's context, as `train` requires. \param longest a lower limit in
  /// tokens; 0 for none. A service's context is not known.
  [[nodiscard]] bool fits(const ip2p::Triplet& triplet, const ip2p::TripletFormat& format, std::int64_t longest) const {
    const auto* model = std::get_if<ip2p::Gpt2LanguageModel>(&model_);
    if (model == nullptr) return true;
    const auto context = model->model().config().n_positions;
    return token_count(model->tokenizer(), triplet, format) <= (longest > 0 ? std::min(longest, context) : context);
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
    service.extra = ip2p::detail::json_or_discarded(o.extra);
    ip2p::require(service.extra.is_object(), "--extra: expected a JSON object, found '{}'", o.extra);
  }
  return AnyLanguageModel(ip2p::CompletionsClient<>(service));
}

}  // namespace make_triplets
