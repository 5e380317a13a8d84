// Edits photographs in a browser and for other programs: a page, an interface of its own and OpenAI's.
//
//   studio --model models/small-editor
//
// Results stay in memory. docs/reference/studio-api.yaml describes the interface.

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "event_log.hpp"
#include "http_server.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "model_editor.hpp"
#include "options.hpp"
#include "service.hpp"
#include "support/program.hpp"

namespace studio {
namespace {

using namespace std::chrono_literals;

/// Waits for `done`, and does what there is to do meanwhile.
template <class Done>
void wait_for(Service& service, Done&& done) {
  for (int tenths = 0; !done(); ++tenths) {
    if (tenths % 10 == 0) service.sweep();
    std::this_thread::sleep_for(100ms);
  }
}

int run(const Options& o, const example::Interrupt& interrupt) {
  const auto first = interrupt.token(), second = interrupt.second();
  ModelEditor editor(o);
  auto hosts = o.names;
  hosts.push_back(o.host);
  Service service(editor,
                  {.limits = o.all_limits(),
                   .batch = o.batch,
                   .token = o.token,
                   .hosts = hosts,
                   .keep = o.keep,
                   .log_prompts = o.log_prompts},
                  log_to_stderr);
  if (!o.keep.empty()) ip2p::remove_temporaries_in(o.keep);
  HttpServer server(service, o.all_limits(), o.host, o.port);
  fmt::print("http://{}:{}/\n", o.host.find(':') == std::string::npos ? o.host : "[" + o.host + "]", server.port());
  std::fflush(stdout);
  std::jthread serving([&] { server.run(); });
  wait_for(service, [&] { return first.stop_requested(); });
  service.stop();
  wait_for(service, [&] { return service.finished() || second.stop_requested(); });
  const bool cancelled = second.stop_requested();
  if (cancelled) service.abort();
  wait_for(service, [&] { return service.finished(); });
  // Those who follow a job are told of its end.
  const auto until = std::chrono::steady_clock::now() + 2s;
  wait_for(service, [&] { return !service.followed() || std::chrono::steady_clock::now() > until; });
  server.stop();
  serving.join();
  return cancelled ? 130 : 0;
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  studio::Options options;
  return example::run_program(
      argc, argv, "studio", "Edits photographs in the browser and for other programs (InstructPix2Pix).",
      [&](CLI::App& app) { studio::add_options(app, options); },
      [&](const example::Interrupt& interrupt) { return studio::run(options, interrupt); });
}
