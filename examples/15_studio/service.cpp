#include "service.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "events.hpp"
#include "fault.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/picture_settings.hpp"
#include "ip2p/io/printable.hpp"
#include "multipart.hpp"
#include "page.hpp"
#include "support/picture_settings.hpp"

namespace studio {
namespace {

using Json = nlohmann::ordered_json;
using namespace std::chrono_literals;

Response json_response(const Json& json, int status = 200) {
  return {.status = status, .body = json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

/// "/api/jobs/x" as {"api", "jobs", "x"}.
std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> parts;
  while (path.starts_with('/')) {
    path.remove_prefix(1);
    parts.push_back(path.substr(0, path.find('/')));
    path.remove_prefix(parts.back().size());
  }
  return parts;
}

Fault no_job() { return not_found("there is no such job, or it has expired"); }

bool is_id(std::string_view text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::optional<std::size_t> index_of(std::string_view text) {
  std::size_t index = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (problem != std::errc() || end != text.data() + text.size() || text.size() > 6) return {};
  return index;
}

/// Throws `Fault` for a method that a path does not have.
void require_method(const Request& request, std::string_view wanted) {
  const auto& method = request.method == "HEAD" ? "GET" : request.method;
  if (wanted.find(method) != wanted.npos) return;
  throw Fault(405, "wrong_method",
              fmt::format("{}: expected {}, found {}", ip2p::detail::printable(request.path), wanted,
                          ip2p::detail::printable(request.method)));
}

}  // namespace

Service::Service(Editor& editor, ServiceOptions options, LogLine log)
    : editor_(editor),
      options_(std::move(options)),
      log_(std::move(log)),
      access_(options_.token, options_.hosts),
      store_(options_.limits.memory, options_.limits.seconds_kept),
      policy_(policy_of(page_document)),
      runner_(editor, options_.limits, options_.batch,
              {.result = [this](const Job& job, std::size_t cell, const Result& result) { keep(job, cell, result); },
               .over =
                   [this](const Job& job) {
                     jobs_.add(name_of(job.standing().state));
                     log_(log_line("job", log_values(job, options_.log_prompts)));
                   }}) {}

Service::Route Service::route_of(const Request& request) {
  const auto parts = parts_of(request.path);
  const auto is = [&](std::initializer_list<std::string_view> wanted) {
    return std::equal(parts.begin(), parts.end(), wanted.begin(), wanted.end(),
                      [](auto part, auto name) { return name == "*" || part == name; });
  };
  const auto found = [&](Route::Name name, std::string_view method) {
    require_method(request, method);
    return Route{.name = name};
  };
  if (is({""})) return found(Route::page, "GET");
  if (is({"healthz"})) return found(Route::health, "GET");
  if (is({"metrics"})) return found(Route::metrics, "GET");
  if (is({"api", "model"})) return found(Route::model, "GET");
  if (is({"api", "openapi.yaml"})) return found(Route::interface, "GET");
  if (is({"api", "settings"})) return found(Route::settings, "POST");
  if (is({"api", "jobs"})) return found(Route::jobs, "POST");
  if (is({"v1", "models"})) return found(Route::models, "GET");
  if (is({"v1", "images", "edits"})) return found(Route::edits, "POST");
  if (is({"v1", "models", "*"})) {
    auto route = found(Route::one_model, "GET");
    route.id = parts[2];
    return route;
  }
  Route route;
  if (is({"api", "jobs", "*"})) {
    require_method(request, "GET or DELETE");
    route.name = request.method == "DELETE" ? Route::cancel : Route::job;
  } else if (is({"api", "jobs", "*", "events"})) {
    route = found(Route::events, "GET");
  } else if (is({"api", "jobs", "*", "results", "*"})) {
    route = found(Route::result, "GET");
    const auto index = index_of(parts[4]);
    if (!index) throw not_found("there is no such result");
    route.index = *index;
  } else {
    throw not_found(fmt::format("there is nothing at '{}'", ip2p::detail::printable(request.path)));
  }
  if (!is_id(parts[2])) throw no_job();
  route.id = parts[2];
  return route;
}

BodyRule Service::begin(const Request& request) const {
  const auto& limits = options_.limits;
  access_.check_origin(request);
  // What tells nothing is told to everybody: a page that asks for the token, and whether the service works.
  const bool open = request.path == "/" || request.path == "/healthz" || request.path == "/metrics";
  if (!open) access_.check_token(request);
  const auto route = route_of(request);
  if (route.name != Route::jobs && route.name != Route::edits && route.name != Route::settings) return {};
  std::size_t length = 0;
  const auto given = request.header("Content-Length");
  const auto [end, problem] = std::from_chars(given.data(), given.data() + given.size(), length);
  if (!given.empty() && (problem == std::errc::result_out_of_range || length > limits.bytes)) {
    throw Fault(413, "too_large", fmt::format("expected a request of at most {} bytes, found {}", limits.bytes, given));
  }
  if (route.name == Route::settings) return {.bytes = limits.bytes};
  static_cast<void>(boundary_of(request.header("Content-Type")));
  runner_.check_room(Access::client(request));
  if (route.name == Route::edits) return {.fields = openai_fields(limits)};
  return {.fields = {{"image", limits.bytes, true}, {"mask", limits.bytes, false}, {"settings", limits.field, true}}};
}

Response Service::refusal(const Fault& fault) {
  auto response = json_response({{"error", fault.json()}}, fault.status());
  if (fault.status() == 429 || fault.status() == 503) response.headers.emplace_back("Retry-After", "5");
  if (fault.status() == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

Response Service::answer_or_fault(const Request& request) {
  try {
    return answer(request);
  } catch (...) {
    return refusal(fault_of(std::current_exception()));
  }
}

Response Service::answer(const Request& request) {
  const auto route = route_of(request);
  switch (route.name) {
    case Route::page:
      return {.type = "text/html; charset=utf-8",
              .body = std::string(page_document),
              .headers = {{"Content-Security-Policy", policy_}}};
    case Route::interface:
      return {.type = "application/yaml", .body = std::string(interface_document)};
    case Route::model:
      return json_response(json_of(editor_.model(), options_.limits, options_.batch));
    case Route::jobs:
      return post_job(request);
    case Route::job:
      return job_json(*job_of(route));
    case Route::cancel: {
      const auto job = job_of(route);
      runner_.cancel(*job);
      return job_json(*job);
    }
    case Route::events:
      return follow(job_of(route));
    case Route::result:
      return result(*job_of(route), route.index);
    case Route::settings:
      return settings_of(request.body);
    case Route::edits:
      return post_edit(request);
    case Route::models:
      return json_response({{"object", "list"}, {"data", Json::array({openai_model(editor_.model())})}});
    case Route::one_model:
      if (route.id != editor_.model().name) throw not_found("there is no such model");
      return json_response(openai_model(editor_.model()));
    case Route::health:
      if (runner_.stopping()) throw Fault(503, "stopping", "the service is stopping");
      return json_response({{"status", "ok"}});
    case Route::metrics:
      return metrics();
  }
  throw not_found("there is nothing here");
}

std::shared_ptr<Job> Service::job_of(const Route& route) const {
  auto job = store_.find(route.id);
  if (!job) throw no_job();
  return job;
}

Response Service::job_json(const Job& job, int status) const {
  const auto standing = job.standing();
  const auto position = standing.state == State::queued ? runner_.position(job.id) : 0;
  return json_response(json_of(job, standing, position), status);
}

std::shared_ptr<Job> Service::submit(const Request& request, EditRequest edit, MaskForm form) {
  const auto client = Access::client(request);
  runner_.check_room(client);
  std::shared_ptr<const Photograph> photograph;
  {
    decoding_.acquire();
    struct Release {
      std::counting_semaphore<>& semaphore;
      ~Release() { semaphore.release(); }
    } const release{decoding_};
    try {
      photograph = editor_.read(*request.form.find("image"), request.form.find("mask"), form, edit.full_size);
    } catch (const ip2p::OutOfMemory&) {
      throw;
    } catch (const ip2p::Error& error) {
      throw Fault(400, "not_a_picture", error.what(), "image");
    }
  }
  if (!store_.make_room(photograph->bytes())) {
    throw Fault(429, "queue_full", "too much memory is taken by what waits; try again later");
  }
  auto job = std::make_shared<Job>(JobStore::new_id(), client, std::move(edit), std::move(photograph));
  store_.add(job);
  try {
    runner_.submit(job);
  } catch (...) {
    store_.remove(job->id);
    throw;
  }
  jobs_.add("accepted");
  return job;
}

Response Service::post_job(const Request& request) {
  auto edit = parse_request(*request.form.find("settings"), editor_.model(), options_.limits);
  const auto job = submit(request, std::move(edit), MaskForm::brightness);
  auto response = json_response(
      {{"id", job->id}, {"state", name_of(job->standing().state)}, {"position", runner_.position(job->id)}}, 202);
  response.headers.emplace_back("Location", "/api/jobs/" + job->id);
  return response;
}

Response Service::follow(const std::shared_ptr<Job>& job) {
  ++*streams_;
  auto events = std::make_shared<PageEvents>(job, [this](const std::string& id) { return runner_.position(id); });
  return {.type = "text/event-stream",
          .next = [events] { return events->next(1s); },
          .closed = [streams = streams_](bool) { --*streams; }};
}

Response Service::result(const Job& job, std::size_t index) const {
  const auto results = job.standing().results;
  if (index >= results.size() || !results[index]) throw not_found("there is no such result, or not yet");
  return {.type = "image/png", .shared_body = {results[index], &results[index]->png}};
}

Response Service::settings_of(const std::string& picture) const {
  std::optional<ip2p::PictureSettings> found;
  try {
    found = ip2p::decode_settings(std::as_bytes(std::span(picture)), "picture");
  } catch (const ip2p::Error& error) {
    throw Fault(422, "not_a_picture", error.what());
  }
  Json json;
  try {
    json = example::parsed_settings(found.value_or(ip2p::PictureSettings{}), "edit_image", "picture");
  } catch (const ip2p::Error& error) {
    throw Fault(404, "no_settings", error.what());
  }
  const auto text_of = [](const Json& object, const char* name) {
    const auto value = object.find(name);
    return value != object.end() && value->is_string() ? value->get<std::string>() : std::string();
  };
  return json_response({{"settings", request_of_options(json["options"])},
                        {"photo", text_of(json, "photo")},
                        {"model", text_of(json["options"], "model")},
                        {"text", found->text}});
}

Response Service::post_edit(const Request& request) {
  auto wanted = parse_openai(request.form, editor_.model(), options_.limits);
  const auto tokens = editor_.tokens(wanted.edit.instruction);
  const auto job = submit(request, wanted.edit, MaskForm::transparency);
  if (wanted.stream) {
    ++*streams_;
    auto events = std::make_shared<OpenAiEvents>(job, std::move(wanted), tokens);
    return {.type = "text/event-stream",
            .next = [events] { return events->next(1s); },
            .closed =
                [this, job, streams = streams_](bool whole) {
                  if (!whole) runner_.cancel(*job);
                  --*streams;
                }};
  }
  for (auto standing = job->standing(); !standing.over(); standing = job->standing(standing.version, 500ms)) {
    if (request.gone()) runner_.cancel(*job);
  }
  const auto standing = job->standing();
  if (standing.fault) throw Fault(*standing.fault);
  if (standing.state != State::done) throw Fault(503, "stopping", "the job was cancelled");
  return json_response(openai_answer(*job, wanted, "http://" + request.header("Host"), tokens));
}

void Service::keep(const Job& job, std::size_t cell, const Result& result) const {
  if (options_.keep.empty()) return;
  const auto path = options_.keep / fmt::format("{}-{}.png", job.id, cell);
  try {
    ip2p::write_file_atomically(path, std::as_bytes(std::span(result.png)));
  } catch (const std::exception& error) {
    log_(log_line("not_kept", {{"job", job.id.substr(0, 8)}, {"error", error.what()}}));
  }
}

void Service::record(const Request& request, int status, std::size_t bytes, double seconds) {
  requests_.add(std::to_string(status));
  log_(log_line("request", {{"client", request.address},
                            {"method", ip2p::detail::printable(request.method)},
                            {"path", path_for_log(request.path)},
                            {"status", status},
                            {"bytes", bytes},
                            {"seconds", seconds}}));
}

void Service::stop() { runner_.stop(); }

Response Service::metrics() const {
  MetricsText text;
  const auto& counts = runner_.counts();
  const auto number = [](const auto& value) { return static_cast<double>(value); };
  text.counters("studio_requests_total", "Requests by the status of their response", "status", requests_);
  text.counters("studio_jobs_total", "Jobs by what became of them", "state", jobs_);
  text.counter("studio_results_total", "Pictures made", number(counts.results.load()));
  text.counter("studio_batches_total", "Batches computed", number(counts.batches.load()));
  text.counter("studio_steps_total", "Sampling steps of pictures", number(counts.steps.load()));
  text.gauge("studio_jobs_waiting", "Jobs in the queue", number(runner_.waiting()));
  text.gauge("studio_results_running", "Pictures in the batch that runs", number(counts.running.load()));
  text.gauge("studio_jobs_kept", "Jobs that can be asked for", number(store_.all().size()));
  text.gauge("studio_kept_bytes", "Bytes of photographs and results that are kept", number(store_.bytes()));
  text.gauge("process_resident_memory_bytes", "Memory of the process", number(resident_bytes()));
  return {.type = "text/plain; version=0.0.4", .body = text.text()};
}

}  // namespace studio
