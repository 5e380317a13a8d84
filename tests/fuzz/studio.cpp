// A request of the service is refused with a Fault that has a status of 4xx, a code and a sentence of UTF-8, or what it
// asks for lies within the limits: a job's settings, and OpenAI's form, whose settings are those of a job.
//
// The input is a line "METHOD PATH", headers, an empty line, and a body, which is the settings as JSON or a form:
// "NAME=VALUE", each after an empty line. With lines that end in CR LF it is a request as it is sent: its head is read
// strictly, and its body gives the same in whatever pieces it comes.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "fuzz/harness.hpp"

// The service's own units, without what opens a model and what knows of the network.
#include "access.cpp"        // NOLINT(bugprone-suspicious-include)
#include "edit_request.cpp"  // NOLINT(bugprone-suspicious-include)
#include "events.cpp"        // NOLINT(bugprone-suspicious-include)
#include "fault.cpp"         // NOLINT(bugprone-suspicious-include)
#include "form.cpp"          // NOLINT(bugprone-suspicious-include)
#include "http_body.cpp"     // NOLINT(bugprone-suspicious-include)
#include "http_head.cpp"     // NOLINT(bugprone-suspicious-include)
#include "job.cpp"           // NOLINT(bugprone-suspicious-include)
#include "multipart.cpp"     // NOLINT(bugprone-suspicious-include)
#include "openai.cpp"        // NOLINT(bugprone-suspicious-include)

namespace fuzz = ip2p::testing::fuzz;

namespace {

/// What reading a body that comes in pieces of so many bytes gives: the fields of its form, or what is wrong with it.
std::string outcome(const studio::Head& head, std::string_view sent, std::size_t piece, const studio::Limits& limits) {
  try {
    std::optional<std::size_t> length = head.chunked ? std::nullopt : std::optional(head.length.value_or(0));
    studio::Body body(
        [&](char* data, std::size_t size) {
          const auto count = sent.copy(data, std::min(size, piece));
          sent.remove_prefix(count);
          return count;
        },
        length, limits.bytes);
    studio::Form form(studio::openai_fields(limits));
    studio::Multipart fields(studio::boundary_of(head.request.header("Content-Type")), form);
    for (auto next = body.next(); !next.empty(); next = body.next()) fields.add(next);
    fields.finish();
    form.finish();
    return std::string(*form.find("image")) + '\0' + std::string(*form.find("prompt")) + '\0' + std::string(sent);
  } catch (const studio::Fault& fault) {
    fuzz::expect(fault.status() >= 400 && fault.status() < 500, "a fault of the request that is no 4xx");
    fuzz::expect_shown(fault.what());
    return "fault";  // which one depends on what was seen of the body before
  }
}

/// Calls `answer`; a Fault has to be one that a client can be told.
template <class Answer>
void answered(Answer&& answer) {
  try {
    answer();
  } catch (const studio::Fault& fault) {
    fuzz::expect(fault.status() >= 400 && fault.status() < 500, "a fault of the request that is no 4xx");
    fuzz::expect(!fault.code().empty(), "a fault without a code");
    fuzz::expect_shown(fault.what());
    fuzz::expect(
        !ip2p::detail::first_invalid_utf8(fault.json().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)),
        "a fault that is not UTF-8");
  }
}

void expect_within(const studio::EditRequest& request, const studio::Limits& limits) {
  fuzz::expect(!request.instruction.empty() && request.instruction.size() <= limits.text, "an instruction too long");
  fuzz::expect(request.negative.size() <= limits.text, "a negative text too long");
  fuzz::expect(request.steps >= 1 && request.steps <= limits.steps, "steps out of range");
  fuzz::expect(request.preview_every >= 0 && request.preview_every <= limits.steps, "previews out of range");
  const auto cells = request.cells();
  fuzz::expect(!cells.empty() && static_cast<std::int64_t>(cells.size()) <= limits.count, "too many results");
  for (const auto& cell : cells) {
    fuzz::expect(cell.seed <= limits.seed, "a seed out of range");
    fuzz::expect(std::abs(cell.text_scale) <= limits.scale && std::abs(cell.image_scale) <= limits.scale,
                 "a scale out of range");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const studio::Limits limits;
  static const studio::ModelInfo model{.name = "m",
                                       .sampler = "euler",
                                       .schedule = "karras",
                                       .samplers = {"euler", "ddim"},
                                       .schedules = {"karras", "linear"}};
  static const studio::Access access("token", {"Photos.example"});
  std::string_view rest = fuzz::text_of(data, size);
  if (const auto end = rest.find("\r\n\r\n"); end != rest.npos) {
    answered([&] {
      const auto head = studio::parse_head(rest.substr(0, end + 4));
      fuzz::expect(!(head.chunked && head.length), "a body that ends in two ways");
      const auto sent = rest.substr(end + 4);
      const auto whole = outcome(head, sent, sent.size(), limits);
      for (const std::size_t piece : {1, 2, 7}) {
        fuzz::expect(outcome(head, sent, piece, limits) == whole, "a body that depends on its pieces");
      }
    });
    return 0;
  }
  const auto upto = [&](std::string_view end) {
    const auto place = rest.find(end);
    const auto part = rest.substr(0, place);
    rest = place == std::string_view::npos ? std::string_view() : rest.substr(place + end.size());
    return part;
  };
  studio::Request request{.address = "127.0.0.1"};
  request.method = upto(" ");
  request.path = upto("\n");
  for (auto line = upto("\n"); !line.empty(); line = upto("\n")) {
    const auto colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    request.headers.emplace(line.substr(0, colon), line.substr(colon + 2));
  }
  answered([&] { access.check_origin(request); });
  answered([&] { access.check_token(request); });
  answered([&] {
    const auto client = studio::Access::client(request);
    fuzz::expect(client.starts_with(request.address) && client.size() < 100, "a client without its address");
  });
  if (rest.starts_with("{") || rest.starts_with("[")) {
    answered([&] { expect_within(studio::parse_request(rest, model, limits), limits); });
    return 0;
  }
  studio::Form form(studio::openai_fields(limits));
  answered([&] {
    while (!rest.empty()) {
      const auto field = upto("\n\n");
      const auto equals = field.find('=');
      form.begin(field.substr(0, equals));
      if (equals != std::string_view::npos) form.add(field.substr(equals + 1));
    }
    form.finish();
    const auto parsed = studio::parse_openai(form, model, limits);
    expect_within(parsed.edit, limits);
    fuzz::expect(parsed.quality >= 1 && parsed.quality <= 100, "a quality out of range");
    if (parsed.size) fuzz::expect(parsed.size->width * parsed.size->height <= limits.pixels, "a size beyond the limit");
  });
  return 0;
}
