#pragma once

/// \file
/// Lists and fetches the files of a model on the Hugging Face Hub. Empty in builds without libcurl.

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/download_options.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/hub_client.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p::detail {

#if IP2P_HAS_CURL

/// A file of a model on a hub.
struct HubFile {
  std::string path;  ///< In the model's folder.
  std::string etag;  ///< Names the contents.
  std::uint64_t size = 0;
};

/// What a hub holds of a revision of a model.
struct HubContents {
  std::string commit;
  std::set<std::string> names;                 ///< Paths of files in the model's folder.
  std::map<std::string, std::uint64_t> sizes;  ///< Of those whose size the hub tells.
};

/// A model on a hub. Asks again where another try may help, and turns the hub's refusals into sentences that say what
/// to do. Every member throws `Error` that names the model, and `Cancelled` on a requested stop.
class HubModel {
 public:
  /// \param options of which those of the connection count
  HubModel(HubName name, DownloadOptions options)
      : name_(std::move(name)),
        options_(std::move(options)),
        token_(token_to_send()),
        client_({.endpoint = options_.endpoint,
                 .token = token_,
                 .connect_seconds = options_.connect_seconds,
                 .stall_seconds = options_.stall_seconds,
                 .cancel = options_.cancel}) {}

  /// How messages about the model begin.
  [[nodiscard]] std::string prefix() const { return fmt::format("cannot fetch the model '{}'", name_.text()); }

  /// The files of the revision.
  HubContents files() {
    const auto revision = name_.revision.empty() ? "main" : name_.revision;
    const auto url =
        fmt::format("{}/api/models/{}/revision/{}?blobs=true", options_.endpoint, name_.id, escaped(revision, false));
    const auto answer = with_tries([&] { return client_.get(url); });
    require_success(answer, "");
    const auto json = json_or_discarded(answer.body);
    HubContents listing;
    const auto commit = json.is_object() ? json.find("sha") : json.end();
    const auto files = json.is_object() ? json.find("siblings") : json.end();
    if (commit != json.end() && commit->is_string()) listing.commit = commit->get<std::string>();
    require(is_commit(listing.commit) && files != json.end() && files->is_array(),
            "{}: {} does not answer as the Hugging Face Hub does; check HF_ENDPOINT and the proxy", prefix(),
            HubClient::host_of(options_.endpoint));
    for (const auto& file : *files) {
      const auto path = file.is_object() ? file.find("rfilename") : file.end();
      if (path == file.end() || !path->is_string()) continue;
      const auto text = path->get<std::string>();
      if (!is_plain_relative_path(text) || without_token(text) != text) continue;  // no file of a model
      listing.names.insert(text);
      const auto size = file.find("size");
      if (size != file.end() && size->is_number_unsigned()) listing.sizes[text] = size->get<std::uint64_t>();
    }
    return listing;
  }

  /// One of them. \param commit of the listing  \param size that the listing tells
  HubFile file(const std::string& path, const std::string& commit, std::optional<std::uint64_t> size) {
    const auto answer = with_tries([&] { return client_.head(address_of(path, commit)); });
    require_success(answer, path);
    const auto number = [&](const char* header) -> std::optional<std::uint64_t> {
      const auto text = answer.header(header);
      std::uint64_t value = 0;
      const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
      return value;
    };
    if (const auto linked = number("x-linked-size")) size = linked;
    if (!size) size = number("content-length");
    require(size.has_value(), "{}: the server does not tell the size of '{}'", prefix(), path);
    auto etag = answer.header("x-linked-etag");
    if (etag.empty()) etag = answer.header("etag");
    if (etag.starts_with("W/")) etag.erase(0, 2);
    std::erase(etag, '"');
    const bool plain =
        !etag.empty() && etag.size() <= 128 && etag.front() != '.' && std::all_of(etag.begin(), etag.end(), [](char c) {
          return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
        });
    require(plain, "{}: expected a name for the contents of '{}' (ETag), found '{}'", prefix(), path, printable(etag));
    return {path, etag, *size};
  }

  /// The bytes of a file, in one transfer. \param sink takes them  \param from asks for the bytes from this one on
  /// \throws HubFailure where another try may help, which `wait_after` decides
  HubAnswer read(const std::string& path, const std::string& commit, const HubSink& sink, std::uint64_t from) {
    return client_.get(address_of(path, commit), sink, from);
  }

  /// Waits before another try. \throws Error if there is to be none
  void wait_after(const HubFailure& failure, std::int64_t attempt, const std::string& file) {
    reached_ = reached_ || failure.answered();
    const std::string_view words = failure.what();
    require(reached_, "{}: no answer from {}; check the network, and the proxy in https_proxy if there is one",
            prefix(), words);
    require(attempt < options_.tries, "{}{}: gave up after {} tries ({}); what has come is kept for the next run",
            prefix(), file.empty() ? "" : " at '" + file + "'", attempt, words);
    const auto doubled =
        options_.first_wait * static_cast<double>(std::int64_t{1} << std::min<std::int64_t>(attempt - 1, 10));
    client_.pause(std::clamp(std::max(doubled, failure.wait()), 0.0, std::max(30.0, options_.first_wait)));
  }

  /// Throws `Error` for any status but success. \param what is asked for: a file, or empty for the model
  void require_success(const HubAnswer& answer, const std::string& what) const {
    if (answer.status == 200 || answer.status == 206 || (answer.status >= 300 && answer.status < 400)) return;
    const auto code = answer.header("x-error-code");
    const auto page = options_.endpoint + "/" + name_.id;
    const auto sent = token_.empty() ? withheld_ ? "a token was not sent, because the endpoint has no encryption"
                                                 : "no token was sent: set HF_TOKEN"
                                     : "the token in " + token_source_ + " was sent";
    if (code == "GatedRepo") {
      throw_error("{}: it is gated: accept its conditions at {} and give the token of that account ({})", prefix(),
                  page, sent);
    }
    if (answer.status == 401 && !token_.empty() && code != "RepoNotFound") {
      throw_error("{}: the token in {} was not accepted (HTTP 401)", prefix(), token_source_);
    }
    if (code == "RevisionNotFound") {
      throw_error("{}: it has no revision '{}'", prefix(), name_.revision.empty() ? "main" : name_.revision);
    }
    if (code == "EntryNotFound" || (answer.status == 404 && !what.empty())) {
      throw_error("{}: it has no file '{}'", prefix(), what);
    }
    if (answer.status == 401 || answer.status == 404 || code == "RepoNotFound") {
      throw_error("{}: {} has no model of this name, or a private one (HTTP {}; {})", prefix(),
                  HubClient::host_of(options_.endpoint), answer.status, sent);
    }
    const auto said = answer.header("x-error-message");
    throw_error("{}: {} answered HTTP {}{} ({})", prefix(), HubClient::host_of(options_.endpoint), answer.status,
                said.empty() ? "" : ": " + printable(said), sent);
  }

  /// A text without the token.
  [[nodiscard]] std::string without_token(std::string text) const { return client_.without_token(std::move(text)); }

  /// Waits. \throws Cancelled on a requested stop
  void pause(double seconds) const { client_.pause(seconds); }

  /// \throws Cancelled on a requested stop
  void check_cancelled() const { client_.check_cancelled(); }

 private:
  /// The token, checked, unless it would travel unencrypted.
  std::string token_to_send() {
    auto& endpoint = options_.endpoint;
    if (endpoint.empty()) endpoint = environment("HF_ENDPOINT").value_or("https://huggingface.co");
    while (endpoint.ends_with('/')) endpoint.pop_back();
    std::string token;
    if (options_.token) {
      token = *options_.token;
      token_source_ = "the options";
    } else if (!environment_is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
      for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
        if (!token.empty()) break;
        token = environment(name).value_or("");
        token_source_ = name;
      }
      const auto named = environment("HF_TOKEN_PATH");
      const auto file = named ? expanded_path(*named) : hub_home() / "token";
      if (token.empty()) {
        token = file_text(file).value_or("");
        token_source_ = "'" + file.string() + "'";
      }
    }
    const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
    while (!token.empty() && space(token.back())) token.pop_back();
    while (!token.empty() && space(token.front())) token.erase(0, 1);
    require(std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7F; }),
            "{}: expected a token of printable characters in {}, found others", prefix(), token_source_);
    withheld_ = !token.empty() && !endpoint.starts_with("https://") && !HubClient::is_local(endpoint);
    return withheld_ ? "" : token;
  }

  /// A request with all its tries. If no server was ever reached, it gives up at once: there is no network.
  template <class Ask>
  HubAnswer with_tries(const Ask& ask) {
    for (std::int64_t attempt = 1;; ++attempt) {
      try {
        auto answer = ask();
        reached_ = true;
        return answer;
      } catch (const HubFailure& failure) {
        wait_after(failure, attempt, "");
      } catch (const Cancelled&) {
        throw;
      } catch (const Error& error) {
        throw_error("{}: {}", prefix(), error.what());
      }
    }
  }

  static std::string escaped(std::string_view text, bool keep_slash) {
    std::string result;
    for (const char c : text) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                         c == '_' || c == '.' || c == '~' || (keep_slash && c == '/');
      result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return result;
  }

  [[nodiscard]] std::string address_of(const std::string& file, const std::string& commit) const {
    return fmt::format("{}/{}/resolve/{}/{}", options_.endpoint, name_.id, commit, escaped(file, true));
  }

  HubName name_;
  DownloadOptions options_;
  std::string token_source_;
  bool withheld_ = false, reached_ = false;
  std::string token_;
  HubClient client_;
};

#endif

}  // namespace ip2p::detail
