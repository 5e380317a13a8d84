#include "openai.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base64.hpp"
#include "fault.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/picture_settings.hpp"
#include "ip2p/io/printable.hpp"

namespace studio {
namespace {

using Json = nlohmann::ordered_json;

/// Fields of a form, which are all texts.
class Texts {
 public:
  explicit Texts(const Form& form) : form_(form) {}

  [[nodiscard]] std::optional<std::string> text(const char* name) const {
    const auto found = form_.find(name);
    return found ? std::optional<std::string>(*found) : std::nullopt;
  }

  template <std::size_t Count>
  [[nodiscard]] std::string one_of(const char* name, const std::array<std::string_view, Count>& known) const {
    const auto value = text(name).value_or(std::string(known.front()));
    if (std::find(known.begin(), known.end(), value) != known.end()) return value;
    throw wrong_value(
        name, fmt::format("expected one of {}, found '{}'", fmt::join(known, ", "), ip2p::detail::printable(value)));
  }

  /// A whole number, or `otherwise`.
  [[nodiscard]] std::int64_t whole(const char* name, std::int64_t least, std::int64_t most,
                                   std::int64_t otherwise) const {
    const auto given = text(name);
    if (!given) return otherwise;
    std::int64_t value = 0;
    const auto [end, problem] = std::from_chars(given->data(), given->data() + given->size(), value);
    if (problem != std::errc() || end != given->data() + given->size() || value < least || value > most) {
      throw wrong_value(name, fmt::format("expected a whole number from {} to {}, found '{}'", least, most,
                                          ip2p::detail::printable(*given)));
    }
    return value;
  }

 private:
  const Form& form_;
};

/// "512x384"; nothing for "auto".
std::optional<ip2p::Size> parse_size(const std::string& text, const Limits& limits) {
  if (text == "auto") return {};
  ip2p::Size size{};
  const auto x = text.find('x');
  const auto number = [](std::string_view part, std::int64_t& value) {
    const auto [end, problem] = std::from_chars(part.data(), part.data() + part.size(), value);
    constexpr std::int64_t longest = 16383;  // of WebP
    return problem == std::errc() && end == part.data() + part.size() && value >= 16 && value <= longest;
  };
  const bool fits = x != text.npos && number(std::string_view(text).substr(0, x), size.width) &&
                    number(std::string_view(text).substr(x + 1), size.height) &&
                    size.width * size.height <= limits.pixels;
  if (!fits) {
    throw wrong_value("size", fmt::format("expected auto or WIDTHxHEIGHT, of sides from 16 to 16383 and at most {} "
                                          "pixels, found '{}'",
                                          limits.pixels, ip2p::detail::printable(text)));
  }
  return size;
}

std::uint32_t random_seed() {
  std::uint32_t seed = 0;
  ip2p::require(getrandom(&seed, sizeof seed, 0) == sizeof seed, "the system gives no random numbers");
  return seed;
}

/// The settings of the form as JSON, by the names that the service has for them.
nlohmann::json settings_json(const Form& form, const Limits& limits) {
  nlohmann::json settings = nlohmann::json::object();
  const Texts texts(form);
  const auto take = [&](const char* field, const char* name) {
    if (const auto text = texts.text(field)) settings[name] = *text;
  };
  const auto take_number = [&](const char* field, const char* name) {
    const auto text = texts.text(field);
    if (!text) return;
    const auto number = ip2p::detail::json_or_discarded(*text);
    settings[name] = number.is_number() ? number : nlohmann::json(*text);
  };
  take("prompt", "instruction");
  for (const char* name : {"negative", "sampler", "schedule"}) take(name, name);
  for (const char* name : {"text_scale", "image_scale", "steps", "seed"}) take_number(name, name);
  const auto count = texts.whole("n", 1, limits.count, 1);
  settings["count"] = count;
  if (!settings.contains("seed")) {
    settings["seed"] = std::min<std::uint64_t>(random_seed(), limits.seed - static_cast<std::uint64_t>(count));
  }
  return settings;
}

/// A fault of the service's settings with the name of the form's field.
Fault renamed(const Fault& fault) {
  const auto param = fault.param().value_or("");
  const auto name = param == "settings.instruction"  ? "prompt"
                    : param == "settings.count"      ? "n"
                    : param.starts_with("settings.") ? param.substr(9)
                                                     : param;
  std::string message = fault.what();
  if (const auto place = message.find(param); !param.empty() && place != message.npos)
    message.replace(place, param.size(), name);
  return {fault.status(), fault.code(), message, name};
}

/// A result in the form in which it is wanted.
std::string converted(const std::string& png, const OpenAiRequest& request) {
  if (request.format == ip2p::ImageFormat::png && !request.size) return png;
  const auto bytes = std::as_bytes(std::span(png));
  auto image = ip2p::decode_image(bytes, "result");
  if (request.size) image = ip2p::fit(image, request.size->width, request.size->height, ip2p::Filter::lanczos);
  const auto file = ip2p::with_settings(ip2p::encode_image(image, request.format, request.quality),
                                        ip2p::decode_settings(bytes, "result").value_or(ip2p::PictureSettings{}));
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

const char* name_of(ip2p::ImageFormat format) {
  return format == ip2p::ImageFormat::png ? "png" : format == ip2p::ImageFormat::jpeg ? "jpeg" : "webp";
}

std::string size_text(const Result& result, const OpenAiRequest& request) {
  return request.size ? fmt::format("{}x{}", request.size->width, request.size->height)
                      : fmt::format("{}x{}", result.width, result.height);
}

/// Only words of the prompt are counted.
Json usage(std::int64_t tokens) {
  return {{"input_tokens", tokens},
          {"output_tokens", 0},
          {"total_tokens", tokens},
          {"input_tokens_details", {{"text_tokens", tokens}, {"image_tokens", 0}}}};
}

/// What an event with a picture says. \param image in base64
Json picture_event(const std::string& name, std::string image, const char* format, const std::string& size) {
  return {{"type", name},
          {"b64_json", std::move(image)},
          {"background", "opaque"},
          {"created_at", std::time(nullptr)},
          {"output_format", format},
          {"quality", "auto"},
          {"size", size}};
}

}  // namespace

std::vector<FieldRule> openai_fields(const Limits& limits) {
  std::vector<FieldRule> rules{
      {"image", limits.bytes, true, "image[]"}, {"mask", limits.bytes, false}, {"prompt", limits.field, true}};
  for (const char* name : {"model",
                           "n",
                           "size",
                           "response_format",
                           "output_format",
                           "output_compression",
                           "quality",
                           "background",
                           "input_fidelity",
                           "user",
                           "safety_identifier",
                           "stream",
                           "partial_images",
                           "seed",
                           "negative",
                           "text_scale",
                           "image_scale",
                           "steps",
                           "sampler",
                           "schedule"}) {
    rules.push_back({name, limits.field, false});
  }
  return rules;
}

OpenAiRequest parse_openai(const Form& form, const ModelInfo& model, const Limits& limits) {
  using Names = std::string_view;
  const Texts texts(form);
  OpenAiRequest request;
  if (const auto name = texts.text("model"); name && *name != model.name) {
    throw wrong_value("model", fmt::format("expected '{}', the model that is served, found '{}'", model.name,
                                           ip2p::detail::printable(*name)));
  }
  request.urls = texts.one_of("response_format", std::array<Names, 2>{"b64_json", "url"}) == "url";
  const auto format = texts.one_of("output_format", std::array<Names, 3>{"png", "jpeg", "webp"});
  request.format = format == "png"    ? ip2p::ImageFormat::png
                   : format == "jpeg" ? ip2p::ImageFormat::jpeg
                                      : ip2p::ImageFormat::webp;
  request.quality = static_cast<int>(std::max<std::int64_t>(1, texts.whole("output_compression", 0, 100, 95)));
  request.size = parse_size(texts.text("size").value_or("auto"), limits);
  static_cast<void>(
      texts.one_of("quality", std::array<Names, 7>{"auto", "standard", "low", "medium", "high", "xhigh", "max"}));
  static_cast<void>(texts.one_of("background", std::array<Names, 2>{"auto", "opaque"}));
  static_cast<void>(texts.one_of("input_fidelity", std::array<Names, 2>{"low", "high"}));
  request.stream = texts.one_of("stream", std::array<Names, 2>{"false", "true"}) == "true";
  request.partial_images = texts.whole("partial_images", 0, 3, 0);
  if (request.urls && (request.size || request.format != ip2p::ImageFormat::png || request.stream)) {
    throw wrong_value("response_format", "url cannot be combined with size, output_format or stream");
  }
  try {
    request.edit = request_of(settings_json(form, limits), model, limits);
  } catch (const Fault& fault) {
    throw renamed(fault);
  }
  if (request.stream && request.partial_images > 0) {
    request.edit.preview_every = std::max<std::int64_t>(1, request.edit.steps / (request.partial_images + 1));
  }
  return request;
}

Json openai_model(const ModelInfo& model) {
  return {{"id", model.name}, {"object", "model"}, {"created", 0}, {"owned_by", "ip2p"}};
}

Json openai_answer(const Job& job, const OpenAiRequest& request, const std::string& origin, std::int64_t tokens) {
  Json data = Json::array();
  const auto standing = job.standing();
  for (std::size_t i = 0; i < standing.results.size(); ++i) {
    const auto& result = *standing.results[i];
    if (request.urls) {
      data.push_back({{"url", origin + json_of(job, i, result)["url"].get<std::string>()}});
    } else {
      data.push_back({{"b64_json", base64(converted(result.png, request))}});
    }
  }
  return {{"created", std::time(nullptr)},
          {"background", "opaque"},
          {"output_format", name_of(request.format)},
          {"size", size_text(*standing.results.front(), request)},
          {"data", std::move(data)},
          {"usage", usage(tokens)}};
}

OpenAiEvents::OpenAiEvents(std::shared_ptr<const Job> job, OpenAiRequest request, std::int64_t tokens)
    : Follower(std::move(job)), request_(std::move(request)), tokens_(tokens), partial_(this->job().cells.size()) {}

std::string OpenAiEvents::preview_text(std::size_t cell, const Preview& preview) {
  auto& sent = partial_.at(cell);
  if (sent == request_.partial_images) return {};
  const std::string_view url = *preview.url;
  const std::string name = "image_edit.partial_image";
  auto data = picture_event(name, std::string(url.substr(url.find(',') + 1)), "jpeg", "auto");
  data["partial_image_index"] = sent++;
  return event_text(name, data);
}

std::string OpenAiEvents::result_text(std::size_t, const Result& result) try {
  const std::string name = "image_edit.completed";
  auto data = picture_event(name, base64(converted(result.png, request_)), name_of(request_.format),
                            size_text(result, request_));
  data["usage"] = usage(tokens_);
  return event_text(name, data);
} catch (...) {  // such as a lack of memory for a large size
  return event_text("error", {{"error", fault_of(std::current_exception()).json()}});
}

std::string OpenAiEvents::end_text(const Standing& standing) const {
  if (standing.fault) return event_text("error", {{"error", standing.fault->json()}});
  if (standing.state == State::cancelled) {
    return event_text("error", {{"error", Fault(503, "stopping", "the job was cancelled").json()}});
  }
  return {};
}

}  // namespace studio
