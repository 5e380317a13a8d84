#pragma once

/// \file
/// OpenAI's interface for edits of images: what its clients send, and what they expect.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "edit_request.hpp"
#include "events.hpp"
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

/// Follows a job in the words of OpenAI's interface.
class OpenAiEvents final : public Follower {
 public:
  /// \param tokens of the prompt
  OpenAiEvents(std::shared_ptr<const Job> job, OpenAiRequest request, std::int64_t tokens);

 private:
  std::string preview_text(std::size_t cell, const Preview& preview) override;
  std::string result_text(std::size_t cell, const Result& result) override;
  [[nodiscard]] std::string end_text(const Standing& standing) const override;

  OpenAiRequest request_;
  std::int64_t tokens_;
  std::vector<std::int64_t> partial_;  // so many were sent, of each result
};

}  // namespace studio
