#include "hub.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/hub_download.hpp"
#include "progress_bar.hpp"
#include "reporting.hpp"

namespace example {

namespace {

/// Of the process: whether downloads are allowed, and what stops them.
struct Downloads {
  bool allowed = false;
  std::stop_token stop;
};

Downloads& downloads() {
  static Downloads one;
  return one;
}

/// Bytes, rate and time left: a bar on a terminal, a line for each tenth anywhere else.
class DownloadBar {
 public:
  explicit DownloadBar(std::string model) : model_(std::move(model)) {}

  void operator()(const ip2p::DownloadProgress& progress) {
    if (progress.total == 0) return;
    const auto now = std::chrono::steady_clock::now();
    const bool complete = progress.done == progress.total;
    const auto tenth =
        static_cast<int>(10.0 * static_cast<double>(progress.done) / static_cast<double>(progress.total));
    const bool due = bar_.on_terminal() ? now - shown_ > std::chrono::milliseconds(100) : tenth != tenth_;
    if (complete ? done_ : !due) return;
    done_ = complete;
    tenth_ = tenth;
    shown_ = now;
    const auto seconds = std::max(std::chrono::duration<double>(now - begin_).count(), 1e-3);
    const auto rate = static_cast<double>(progress.done - std::min(progress.done, progress.kept)) / seconds;
    auto text =
        fmt::format("{} of {}", ip2p::detail::byte_text(progress.done), ip2p::detail::byte_text(progress.total));
    // Neither rate nor time means anything before some bytes have come.
    if (complete || (seconds >= 0.5 && rate >= 1000)) {
      const auto left = complete ? 0.0 : static_cast<double>(progress.total - progress.done) / rate;
      text +=
          fmt::format(", {}/s, {} left", ip2p::detail::byte_text(static_cast<std::uint64_t>(rate)), clock_text(left));
    }
    if (bar_.on_terminal()) {
      bar_.draw(static_cast<std::int64_t>(progress.done), static_cast<std::int64_t>(progress.total),
                fmt::format(" {}  file {} of {}", text, progress.index + 1, progress.count));
    } else if (!quiet()) {
      fmt::print(stderr, "fetching {}: {}\n", model_, text);
      std::fflush(stderr);
    }
  }

 private:
  std::string model_;
  ProgressBar bar_{stderr};
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now(), shown_{};
  int tenth_ = -1;
  bool done_ = false;
};

}  // namespace

void add_download(CLI::App& app) {
  app.add_flag("--download", downloads().allowed,
               "fetch models that are given by name and not in the cache yet (uses HF_TOKEN and HF_ENDPOINT)");
}

void stop_downloads_on(std::stop_token token) { downloads().stop = std::move(token); }

std::filesystem::path located(const std::filesystem::path& model, const ip2p::HubFilesOptions& wanted) {
  if (model.empty()) return model;
  const auto name = ip2p::HubName::parse(model.string());
  std::error_code ignored;
  if (!downloads().allowed || !name || std::filesystem::exists(model, ignored)) {
    try {
      return ip2p::resolve_model(model);
    } catch (const ip2p::Error& error) {
      ip2p::throw_error("{}{}", error.what(), name ? "; --download fetches a model of the Hugging Face Hub" : "");
    }
  }
  DownloadBar bar(model.string());
  return ip2p::download_model(model, {.files = wanted,
                                      .cancel = downloads().stop,
                                      .on_progress = [&](const ip2p::DownloadProgress& progress) { bar(progress); },
                                      .tell = [](const std::string& text) { note(text); }});
}

std::filesystem::path located_tokenizer(const std::filesystem::path& tokenizer) {
  return located(tokenizer, {.components = {"tokenizer"}});
}

ModelOptions located(ModelOptions o) {
  ip2p::HubFilesOptions wanted{.variant = o.variant};
  if (!o.vae.empty() || !o.tokenizer.empty()) {
    wanted.components = {"unet", "text_encoder", "scheduler"};
    if (o.vae.empty()) wanted.components.insert("vae");
    if (o.tokenizer.empty()) wanted.components.insert("tokenizer");
  }
  o.model = located(o.model, wanted);
  o.vae = located(o.vae, {.components = {"vae"}});
  o.tokenizer = located_tokenizer(o.tokenizer);
  return o;
}

}  // namespace example
