#pragma once

/// \file
/// Fetches models from the Hugging Face Hub into the cache that diffusers, transformers and huggingface_hub share.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
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
#include "ip2p/io/hub_model.hpp"
#include "ip2p/io/hub_snapshot.hpp"
#include "ip2p/io/make_folder.hpp"
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
        hub_(name_, options_),
        folder_(options_.cache / name_.folder()) {}

  /// Fetches what is absent. \return the snapshot
  std::filesystem::path run() {
    try {
      return fetch_all();
    } catch (const Error& error) {  // parts of which the server may have written, with the token that it was sent
      const auto text = hub_.without_token(error.what());
      if (text == error.what()) throw;
      throw Error(text);
    }
  }

 private:
  std::filesystem::path fetch_all() {
    const auto listing = hub_.files();
    const auto found = needed_hub_files(listing.names, name_.part, options_.files);
    require(found.lacking.empty(), "{}: it lacks {}", hub_.prefix(), found.lacking);
    snapshot_ = folder_ / "snapshots" / listing.commit;
    commit_ = listing.commit;
    std::vector<HubFile> wanted;
    for (const auto& file : found.files) {
      std::error_code ignored;
      if (std::filesystem::exists(snapshot_ / file, ignored)) continue;
      const auto size = listing.sizes.find(file);
      wanted.push_back(
          hub_.file(file, commit_, size == listing.sizes.end() ? std::nullopt : std::optional(size->second)));
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

  [[nodiscard]] std::filesystem::path blob_of(const HubFile& file) const { return folder_ / "blobs" / file.etag; }

  /// Whether the contents are there already, of another revision perhaps.
  [[nodiscard]] bool has_blob(const HubFile& file) const {
    std::error_code code;
    const auto size = std::filesystem::file_size(blob_of(file), code);
    return !code && size == file.size;
  }

  void require_space(const std::vector<HubFile>& wanted) const {
    std::uint64_t needed = 0;
    for (const auto& file : wanted) {
      std::error_code code;
      const auto there = std::filesystem::file_size(blob_of(file).string() + ".incomplete", code);
      if (!has_blob(file)) needed += file.size - std::min<std::uint64_t>(code ? 0 : there, file.size);
    }
    std::error_code code;
    const auto space = std::filesystem::space(folder_, code);
    require(code || space.available >= needed, "{}: {} are to come, and '{}' has room for {}", hub_.prefix(),
            byte_text(needed), options_.cache.string(), byte_text(space.available));
  }

  void fetch(const HubFile& file) {
    FileLock lock(options_.cache / ".locks" / name_.folder() / (file.etag + ".lock"));
    for (bool told = false; !lock.try_lock(); told = true) {
      if (!told && options_.tell) options_.tell("waiting for another process that fetches '" + file.path + "'");
      hub_.pause(0.2);
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
  void fetch_blob(const HubFile& file) {
    PartialFile partial(blob_of(file).string() + ".incomplete");
    if (partial.size() > file.size) partial.restart();
    const auto before_all = progress_.done;
    const auto kept_before = progress_.kept;
    BlobSum sum(file.etag, file.size);
    partial.read([&](std::span<const std::byte> bytes) {
      hub_.check_cancelled();
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
        hub_.wait_after(failure, attempt++, file.path);
        continue;
      }
      if (fault.empty() && partial.size() != file.size) {
        fault = fmt::format("expected {} bytes, found {}", file.size, partial.size());
      }
      if (fault.empty()) fault = sum.difference().value_or("");
      if (fault.empty()) break;
      // What an earlier run had left may be to blame; once more from the beginning.
      restart();
      require(++faults < 2, "{}: '{}' came damaged twice: {}", hub_.prefix(), file.path, fault);
      if (options_.tell) {
        options_.tell(hub_.without_token(fmt::format("'{}' came damaged ({}); fetching it again", file.path, fault)));
      }
    }
    partial.commit(blob_of(file));
    show();
  }

  /// One transfer, of all bytes that are still to come. \return what is wrong with them, or empty
  template <class Restart, class Show>
  std::string transfer(const HubFile& file, PartialFile& partial, BlobSum& sum, const Restart& restart,
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
    const auto answer = hub_.read(file.path, commit_, sink, from);
    require(problem == 0, "cannot write '{}': {}; {} of '{}' are still to come, and what has come is kept",
            blob_of(file).string(), errno_text(problem), byte_text(file.size - partial.size()), file.path);
    if (!fault.empty() || answer.status == 416) return fault.empty() ? "there is no such part of it" : fault;
    hub_.require_success(answer, file.path);
    if (partial.size() < file.size) throw HubFailure("the transfer ended early", true);
    return {};
  }

  /// Makes the snapshot's file a link to the contents, or these themselves where there are no links.
  void link(const HubFile& file) const {
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
  HubModel hub_;
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
/// A path that exists, or a name that is complete in the cache, is resolved as by `resolve_model`, and no request is
/// sent. Otherwise only the files that the model needs (`needed_hub_files`) are fetched into the cache, in
/// huggingface_hub's layout. A transfer that broke off continues where it stopped, also in the next run; sizes and
/// checksums are verified; a second process waits for the first; a file appears once it is complete, and the name of
/// the revision once all files are. `HF_HUB_OFFLINE` forbids the network. Proxies are those of libcurl: `https_proxy`,
/// `all_proxy`, `no_proxy`. \param model a path, or a name that `HubName` reads  \throws Error saying what is wrong and
/// what to do, `Cancelled` on a requested stop
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
