#pragma once

/// \file
/// Fetches models from the Hugging Face Hub into the cache that diffusers, transformers and huggingface_hub share.

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/blob_sum.hpp"
#include "ip2p/io/byte_text.hpp"
#include "ip2p/io/download_options.hpp"
#include "ip2p/io/file_lock.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/hub_client.hpp"
#include "ip2p/io/hub_files.hpp"
#include "ip2p/io/hub_snapshot.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/partial_file.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p {

namespace detail {

#if IP2P_HAS_CURL

/// One run of `download_model`.
class HubDownload {
 public:
  HubDownload(HubName name, DownloadOptions options)
      : name_(std::move(name)),
        options_(std::move(options)),
        token_(token_to_send()),
        client_({.endpoint = options_.endpoint,
                 .token = token_,
                 .connect_seconds = options_.connect_seconds,
                 .stall_seconds = options_.stall_seconds,
                 .cancel = options_.cancel}),
        folder_(options_.cache / name_.folder()) {}

  /// Fetches what is absent. \return the snapshot
  std::filesystem::path run() {
    const auto listing = ask_for_files();
    const auto found = needed_hub_files(listing.names, name_.part, options_.files);
    require(found.lacking.empty(), "{}: it lacks {}", prefix(), found.lacking);
    snapshot_ = folder_ / "snapshots" / listing.commit;
    commit_ = listing.commit;
    std::vector<Wanted> wanted;
    for (const auto& file : found.files) {
      std::error_code ignored;
      if (std::filesystem::exists(snapshot_ / file, ignored)) continue;
      const auto size = listing.sizes.find(file);
      wanted.push_back(ask_for_file(file, size == listing.sizes.end() ? std::nullopt : std::optional(size->second)));
    }
    for (const auto* part : {"blobs", "refs", "snapshots"}) make_folder(folder_ / part);
    make_folder(options_.cache / ".locks" / name_.folder());
    require_space(wanted);
    for (const auto& file : wanted) progress_.total += file.size;
    progress_.count = wanted.size();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      progress_.file = wanted[i].path;
      progress_.index = i;
      fetch(wanted[i]);
    }
    write_ref();
    return name_.part.empty() ? snapshot_ : snapshot_ / name_.part;
  }

 private:
  struct Listing {
    std::string commit;
    std::set<std::string> names;
    std::map<std::string, std::uint64_t> sizes;
  };
  struct Wanted {
    std::string path, etag;
    std::uint64_t size = 0;
  };

  [[nodiscard]] std::string prefix() const { return fmt::format("cannot fetch the model '{}'", name_.text()); }

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

  /// A request with all its tries. A server that was never reached is given up at once: that is no network.
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
        throw_error("{}: {}", prefix(), client_.without_token(error.what()));
      }
    }
  }

  /// Waits before another try. \throws Error if there is to be none
  void wait_after(const HubFailure& failure, std::int64_t attempt, const std::string& file) {
    reached_ = reached_ || failure.answered();
    const auto words = client_.without_token(failure.what());
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
                said.empty() ? "" : ": " + printable(client_.without_token(said)), sent);
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

  Listing ask_for_files() {
    const auto revision = name_.revision.empty() ? "main" : name_.revision;
    const auto url =
        fmt::format("{}/api/models/{}/revision/{}?blobs=true", options_.endpoint, name_.id, escaped(revision, false));
    const auto answer = with_tries([&] { return client_.get(url); });
    require_success(answer, "");
    const auto json = json_or_discarded(answer.body);
    Listing listing;
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
      if (!is_plain_relative_path(text)) continue;  // no file of a model, whatever it is
      listing.names.insert(text);
      const auto size = file.find("size");
      if (size != file.end() && size->is_number_unsigned()) listing.sizes[text] = size->get<std::uint64_t>();
    }
    return listing;
  }

  [[nodiscard]] std::string address_of(const std::string& file) const {
    return fmt::format("{}/{}/resolve/{}/{}", options_.endpoint, name_.id, commit_, escaped(file, true));
  }

  Wanted ask_for_file(const std::string& path, std::optional<std::uint64_t> size) {
    const auto answer = with_tries([&] { return client_.head(address_of(path)); });
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

  void make_folder(const std::filesystem::path& folder) const {
    std::error_code code;
    std::filesystem::create_directories(folder, code);
    require(!code, "cannot create the folder '{}': {}", folder.string(), code.message());
  }

  [[nodiscard]] std::filesystem::path blob_of(const Wanted& file) const { return folder_ / "blobs" / file.etag; }

  /// Whether the contents are there already, of another revision perhaps.
  [[nodiscard]] bool has_blob(const Wanted& file) const {
    std::error_code code;
    const auto size = std::filesystem::file_size(blob_of(file), code);
    return !code && size == file.size;
  }

  void require_space(const std::vector<Wanted>& wanted) const {
    std::uint64_t needed = 0;
    for (const auto& file : wanted) {
      std::error_code code;
      const auto there = std::filesystem::file_size(blob_of(file).string() + ".incomplete", code);
      if (!has_blob(file)) needed += file.size - std::min<std::uint64_t>(code ? 0 : there, file.size);
    }
    std::error_code code;
    const auto space = std::filesystem::space(folder_, code);
    require(code || space.available >= needed, "{}: {} are to come, and '{}' has room for {}", prefix(),
            byte_text(needed), options_.cache.string(), byte_text(space.available));
  }

  void fetch(const Wanted& file) {
    FileLock lock(options_.cache / ".locks" / name_.folder() / (file.etag + ".lock"));
    for (bool told = false; !lock.try_lock(); told = true) {
      if (!told && options_.tell) options_.tell("waiting for another process that fetches '" + file.path + "'");
      client_.pause(0.2);
    }
    if (has_blob(file)) {  // perhaps by the process that held the lock
      progress_.kept += file.size;
      progress_.done += file.size;
    } else {
      fetch_blob(file);
    }
    link(file);
    report();
  }

  /// Fetches a file's contents, in as many pieces as it takes, until its sum is right.
  void fetch_blob(const Wanted& file) {
    PartialFile partial(blob_of(file).string() + ".incomplete");
    if (partial.size() > file.size) partial.restart();
    const auto before_all = progress_.done;
    const auto kept_before = progress_.kept;
    BlobSum sum(file.etag, file.size);
    partial.read([&](std::span<const std::byte> bytes) {
      client_.check_cancelled();
      sum.add(bytes);
    });
    progress_.kept += partial.size();
    const auto restart = [&] {
      partial.restart();
      sum = BlobSum(file.etag, file.size);
      progress_.kept = kept_before;
    };
    const auto show = [&] {
      progress_.done = before_all + partial.size();
      report();
    };
    show();
    int faults = 0;
    for (std::int64_t attempt = 1;;) {
      const auto before = partial.size();
      std::string fault;
      try {
        if (before < file.size) fault = transfer(file, partial, sum, restart, show);
      } catch (const HubFailure& failure) {
        if (partial.size() > before) attempt = 1;  // it goes on
        wait_after(failure, attempt++, file.path);
        continue;
      }
      if (fault.empty() && partial.size() != file.size) {
        fault = fmt::format("expected {} bytes, found {}", file.size, partial.size());
      }
      if (fault.empty()) fault = sum.difference().value_or("");
      if (fault.empty()) break;
      // What an earlier run had left may be to blame; once more from the beginning.
      restart();
      require(++faults < 2, "{}: '{}' came damaged twice: {}", prefix(), file.path, fault);
      if (options_.tell) options_.tell(fmt::format("'{}' came damaged ({}); fetching it again", file.path, fault));
    }
    partial.commit(blob_of(file));
    show();
  }

  /// One transfer, of all bytes that are still to come. \return what is wrong with them, or empty
  template <class Restart, class Show>
  std::string transfer(const Wanted& file, PartialFile& partial, BlobSum& sum, const Restart& restart,
                       const Show& show) {
    std::string fault;
    int problem = 0;
    bool first = true;
    const auto from = partial.size();
    const HubSink sink = [&](const HubAnswer& answer, std::span<const std::byte> bytes) {
      if (std::exchange(first, false)) {
        const auto range = answer.header("content-range");
        if (answer.status == 200 && from > 0) restart();  // a server that sends everything, whatever was asked for
        if (answer.status == 206 && !range.starts_with(fmt::format("bytes {}-", from))) {
          fault = fmt::format("expected the bytes from {} on, found '{}'", from, printable(range));
          return false;
        }
      }
      if (bytes.size() > file.size - partial.size()) {
        fault = fmt::format("expected {} bytes, found more", file.size);
        return false;
      }
      problem = partial.append(bytes);
      if (problem != 0) return false;
      sum.add(bytes);
      show();
      return true;
    };
    const auto answer = client_.get(address_of(file.path), sink, from);
    require(problem == 0, "cannot write '{}': {}; {} of '{}' are still to come, and what has come is kept",
            blob_of(file).string(), errno_text(problem), byte_text(file.size - partial.size()), file.path);
    if (!fault.empty() || answer.status == 416) return fault.empty() ? "there is no such part of it" : fault;
    require_success(answer, file.path);
    if (partial.size() < file.size) throw HubFailure("the transfer ended early", true);
    return {};
  }

  /// Makes the snapshot's file a link to the contents, or these themselves where there are no links.
  void link(const Wanted& file) const {
    const auto place = snapshot_ / file.path;
    make_folder(place.parent_path());
    std::filesystem::path target = "../..";
    for (auto slash = std::count(file.path.begin(), file.path.end(), '/'); slash > 0; --slash) target /= "..";
    target = target / "blobs" / file.etag;
    const auto temporary = place.string() + fmt::format(".{}.tmp", ::getpid());
    std::error_code code;
    std::filesystem::remove(temporary, code);
    std::filesystem::create_symlink(target, temporary, code);
    if (code) {
      std::filesystem::rename(blob_of(file), place, code);
    } else {
      std::filesystem::rename(temporary, place, code);
    }
    require(!code, "cannot write '{}': {}", place.string(), code.message());
  }

  /// Notes which commit the revision is, once all its files are there.
  void write_ref() const {
    const auto revision = name_.revision.empty() ? "main" : name_.revision;
    if (revision == commit_) return;
    const auto path = folder_ / "refs" / revision;
    if (file_text(path) == commit_) return;
    make_folder(path.parent_path());
    write_file_atomically(path, std::as_bytes(std::span(commit_)));
  }

  void report() const {
    if (options_.on_progress) options_.on_progress(progress_);
  }

  HubName name_;
  DownloadOptions options_;
  std::string token_source_;
  bool withheld_ = false, reached_ = false;
  std::string token_;
  HubClient client_;
  std::filesystem::path folder_, snapshot_;
  std::string commit_;
  DownloadProgress progress_;
};

#endif

}  // namespace detail

/// The place of a model, which is fetched from the Hugging Face Hub first if it has to be.
///
/// \code
/// auto edit = ip2p::open_editor(ip2p::download_model("timbrooks/instruct-pix2pix"));
/// \endcode
/// What exists on disk, and what the cache holds whole, is found as by `resolve_model`, and nothing is sent. Otherwise
/// the files that the model needs, and only these (`needed_hub_files`), are put into the cache in huggingface_hub's
/// layout. A broken transfer goes on where it stopped, in the next run too; sizes and sums are checked; a second
/// process waits for the first; a file appears when it is complete, and the revision's name when all are.
/// `HF_HUB_OFFLINE` forbids the network. Proxies are those of libcurl: `https_proxy`, `all_proxy`, `no_proxy`. \param
/// model a path, or a name that `HubName` reads \throws Error saying what is wrong and what to do, `Cancelled` on a
/// requested stop
inline std::filesystem::path download_model(const std::filesystem::path& model, DownloadOptions options = {}) {
  require(
      options.tries >= 1 && options.first_wait >= 0 && options.connect_seconds > 0 && options.stall_seconds >= 1,
      "download: expected at least 1 try, a wait of at least 0 s, more than 0 s to connect and at least 1 s without "
      "a byte, found {}, {}, {} and {}",
      options.tries, options.first_wait, options.connect_seconds, options.stall_seconds);
  if (options.cache.empty()) options.cache = hub_cache();
  std::error_code ignored;
  const auto name = HubName::parse(model.string());
  if (!name || std::filesystem::exists(model, ignored)) return resolve_model(model, options.cache);
  std::string lacking = "the model";
  const auto folder = options.cache / name->folder();
  if (detail::is_cached_model(folder)) {
    if (const auto commit = detail::cached_commit(folder, name->revision)) {
      lacking = detail::lacking_in_snapshot(folder / "snapshots" / *commit, name->part, options.files);
      if (lacking.empty()) return resolve_model(model, options.cache);
    }
  }
  for (const char* variable : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    require(!detail::environment_is_on(variable),
            "cannot fetch the model '{}': {} forbids the network; the cache '{}' lacks {}", name->text(), variable,
            options.cache.string(), lacking);
  }
#if IP2P_HAS_CURL
  return detail::HubDownload(*name, std::move(options)).run();
#else
  throw_error("cannot fetch the model '{}': expected a build with libcurl, found one without", name->text());
#endif
}

}  // namespace ip2p
