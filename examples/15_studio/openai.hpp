#pragma once

/// \file
/// OpenAI's interface for edits of images: what its clients send, and what they expect.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "edit_request.hpp"
#include "form.hpp"
#include "ip2p/io/image_format.hpp"
#include "ip2p/io/resample.hpp"
#include "job.hpp"
#include "limits.hpp"
#include "model_info.hpp"

namespace studio {

/// An edit, and how its results are wanted.
struct OpenAiRequest {
  EditRequest edit = {};
  bool urls = false;  ///< Addresses instead of base64.
  ip2p::ImageFormat format = ip2p::ImageFormat::png;
  int quality = 95;                     ///< Of JPEG and WebP.
  std::optional<ip2p::Size> size = {};  ///< To which results are brought.
  bool stream = false;
  std::int64_t partial_images = 0;
};

/// The fields that the form may have.
std::vector<FieldRule> openai_fields(const Limits& limits);

/// \throws Fault that names OpenAI's field
OpenAiRequest parse_openai(const Form& form, const ModelInfo& model, const Limits& limits);

/// {object: "model", ...}.
nlohmann::ordered_json openai_model(const ModelInfo& model);

/// The answer for a job that is done. \param origin "http://host", before paths  \param tokens of the prompt
nlohmann::ordered_json openai_answer(const Job& job, const OpenAiRequest& request, const std::string& origin,
                                     std::int64_t tokens);

/// The events of a job, as OpenAI's clients read them.
class OpenAiEvents {
 public:
  OpenAiEvents(std::shared_ptr<const Job> job, OpenAiRequest request, std::int64_t tokens);

  /// As `Follower::next`.
  [[nodiscard]] std::optional<std::string> next(std::chrono::milliseconds patience);

 private:
  std::shared_ptr<const Job> job_;
  OpenAiRequest request_;
  std::int64_t tokens_;
  bool ended_ = false;
  std::uint64_t version_ = 0, preview_ = 0;
  std::vector<std::int64_t> partial_;  // so many were sent, of each result
  std::vector<bool> told_;
  Clock::time_point spoke_ = Clock::now();
};

}  // namespace studio
