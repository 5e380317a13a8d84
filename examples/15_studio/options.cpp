#include "options.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "access.hpp"
#include "support/fit.hpp"
#include "support/range.hpp"

namespace studio {

Limits Options::all_limits() const {
  auto all = limits;
  all.pixels = static_cast<std::int64_t>(std::llround(picture.max_megapixels * 1e6));
  all.bytes = static_cast<std::size_t>(megabytes * 1e6);
  all.memory = static_cast<std::size_t>(memory * 1e6);
  return all;
}

/// Throws `CLI::ValidationError` for a service that anybody could reach and use.
static void check_reach(const Options& o) {
  if (is_loopback(o.host) || o.token.size() >= 8) return;
  throw CLI::ValidationError("--host",
                             fmt::format("'{}' can be reached from other machines, which needs --token with at "
                                         "least 8 characters",
                                         o.host));
}

void add_options(CLI::App& app, Options& o) {
  o.model.prompt_marks = true;
  o.picture.max_megapixels = 16;
  o.picture.max_file_megapixels = 64;
  app.add_option("--host", o.host, "address to listen on; any other than this machine's own requires --token")
      ->capture_default_str();
  app.add_option("--port", o.port, "port to listen on; 0: any free one")
      ->capture_default_str()
      ->check(example::range(0, 65535));
  app.add_option("--token", o.token, "what clients send as 'Authorization: Bearer TOKEN'")
      ->envname("IP2P_STUDIO_TOKEN");
  app.add_option("--name", o.names,
                 "host names under which browsers reach the service, such as that of a proxy in front of it")
      ->type_name("HOST");
  app.add_option("--batch", o.batch, "results to compute together, for any clients, if their settings allow it")
      ->capture_default_str()
      ->check(example::range(1, 1024));
  app.add_option("--queue", o.limits.queue, "maximum number of waiting jobs; more are refused")
      ->capture_default_str()
      ->check(example::range(1, 100000));
  app.add_option("--queue-each", o.limits.jobs, "maximum number of waiting jobs per client")
      ->capture_default_str()
      ->check(example::range(1, 100000));
  app.add_option("--max-results", o.limits.count, "maximum results of one job")
      ->capture_default_str()
      ->check(example::range(1, 10000));
  app.add_option("--max-steps", o.limits.steps, "maximum sampling steps of a result")
      ->capture_default_str()
      ->check(example::range(1, 10000));
  app.add_option("--max-megabytes", o.megabytes, "largest request, in millions of bytes")
      ->capture_default_str()
      ->check(example::range(0.01, 4000.0));
  app.add_option("--memory", o.memory, "memory for photographs and results, in millions of bytes")
      ->capture_default_str()
      ->check(example::range(1.0, 1e6));
  app.add_option("--expire", o.limits.seconds_kept, "seconds to keep results after a job ends")
      ->capture_default_str()
      ->check(example::range(1.0, 1e7));
  app.add_option("--connections", o.limits.connections, "maximum number of simultaneous connections")
      ->capture_default_str()
      ->check(example::range(4, 900));
  app.add_option("--patience", o.limits.patience, "seconds that a slow client may keep the service waiting")
      ->capture_default_str()
      ->check(example::range(0.1, 3600.0));
  app.add_option("--keep", o.keep, "folder that gets a copy of each result; without it, nothing is written")
      ->type_name("FOLDER")
      ->check(CLI::ExistingDirectory);
  app.add_flag("--log-prompts", o.log_prompts, "also log the text of instructions");
  example::add_resolution(app, o.resolution);
  example::add_fit(app, o.fit);
  example::add_picture(app, o.picture);
  example::add_model(app, o.model);
  app.callback([&o] { check_reach(o); });
}

}  // namespace studio
