#pragma once

/// \file
/// Distributes units of work among processes that share only a folder.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/sealed_json.hpp"

namespace ip2p {

/// Settings of `WorkLedger`.
struct WorkLedgerOptions {
  /// A claim not renewed for this long belongs to a dead process; live ones renew four times as often. Must exceed the
  /// time for which the file system caches attributes (NFS: 60 s).
  std::chrono::milliseconds lease = std::chrono::minutes(2);
  /// A claim is no longer renewed once its process has shown no progress for this long: it lives and hangs, in a device
  /// or on a file system that no longer answers. 0: a living process keeps its claim.
  std::chrono::milliseconds patience{0};
};

/// Result of claiming a unit.
enum class Claim {
  taken,  ///< Now claimed by this process.
  done,   ///< It is finished.
  busy,   ///< A live process is working on it.
};

/// A ledger in a folder that all processes can see: `claims/{unit}` while a process works on a unit, `done/{unit}.json`
/// with a checksum once it is finished, and the settings that all processes share. Processes communicate in no other
/// way, and may come and go at any time.
///
/// A process that dies leaves a claim that is no longer renewed, and another takes over the unit after the lease; so
/// does one that hangs, after its patience. Ages are measured by the file system's clock only, and a claim from its
/// future counts as renewed now, so that a clock that was set back costs a lease. In rare cases (a process suspended
/// for longer than the lease, a clock that was set forward) two processes work on one unit at once, so a unit's result
/// must be deterministic and be published atomically.
class WorkLedger {
 public:
  /// \param settings an object with everything that the results depend on
  /// \throws Error when the folders cannot be created, or the ledger belongs to other settings
  explicit WorkLedger(std::filesystem::path folder, const nlohmann::json& settings = nlohmann::json::object(),
                      WorkLedgerOptions options = {})
      : folder_(std::move(folder)), options_(options), name_(process_name()) {
    require(options_.lease.count() > 0, "work ledger: expected a lease above 0, found {} ms", options_.lease.count());
    require(options_.patience.count() >= 0, "work ledger: expected a patience of at least 0, found {} ms",
            options_.patience.count());
    for (const char* part : {"claims", "done"}) make_folder(folder_ / part);
    agree_on(settings);
    renewer_ = std::jthread([this](const std::stop_token& stop) { renew(stop); });
  }

  WorkLedger(const WorkLedger&) = delete;
  WorkLedger& operator=(const WorkLedger&) = delete;

  /// Releases this process's claim.
  ~WorkLedger() {
    renewer_.request_stop();
    renewer_.join();
    release();
  }

  /// Tries to claim a unit; a process holds at most one. \param unit letters, digits, '-' and '_'
  /// \throws Error for other names, while a unit is claimed, and on I/O failure
  [[nodiscard]] Claim claim(const std::string& unit) {
    require(!unit.empty() && unit.size() <= 100 && unit.find_first_not_of(name_characters) == std::string::npos,
            "work ledger: expected letters, digits, '-' and '_' as a unit, found '{}'", detail::printable(unit));
    require(!claimed(), "work ledger: expected one unit at a time, found '{}' claimed", claimed().value_or(""));
    if (done(unit)) return Claim::done;
    const auto path = claim_path(unit);
    if (!create(path) && !(bury(unit) && create(path))) return Claim::busy;
    {
      const std::scoped_lock lock(mutex_);
      claimed_ = unit;
      last_progress_ = Clock::now();
    }
    if (!done(unit)) return Claim::taken;
    release();  // finished between the check and the claim
    return Claim::done;
  }

  /// The unit that this process is working on.
  [[nodiscard]] std::optional<std::string> claimed() const {
    const std::scoped_lock lock(mutex_);
    return claimed_;
  }

  /// Says that the work on the claimed unit goes on. Does nothing without a `patience`, and costs next to nothing.
  void progressed() {
    if (options_.patience.count() == 0) return;
    const std::scoped_lock lock(mutex_);
    last_progress_ = Clock::now();
  }

  /// Marks the claimed unit as finished. \param record stored with it
  /// \throws Error when none is claimed, and on I/O failure, in which case the claim remains
  void finish(const nlohmann::json& record) {
    const auto unit = claimed();
    require(unit.has_value(), "work ledger: expected a claimed unit to finish, found none");
    detail::write_sealed(done_path(*unit), record);
    release();
  }

  /// Gives up the claimed unit unfinished; no-op if there is none.
  void release() {
    const std::scoped_lock lock(mutex_);
    if (!claimed_) return;
    const auto path = claim_path(*claimed_);
    claimed_.reset();
    try {
      // If the lease expired, another process may own the unit by now.
      if (detail::file_text(path) == name_) ::unlink(path.c_str());
    } catch (const Error&) {  // whoever comes next waits until the lease is over
    }
  }

  /// Whether a unit counts as finished; `record` also checks that its record is intact.
  [[nodiscard]] bool done(const std::string& unit) const {
    std::error_code ignored;
    return std::filesystem::exists(done_path(unit), ignored);
  }

  /// All finished units, from a single directory listing. \throws Error when it cannot be listed
  [[nodiscard]] std::set<std::string> finished() const {
    std::set<std::string> units;
    std::error_code problem;
    std::filesystem::directory_iterator entry(folder_ / "done", problem);
    for (const std::filesystem::directory_iterator end; !problem && entry != end; entry.increment(problem)) {
      const auto name = entry->path().filename().string();
      if (name.ends_with(".json") && !name.starts_with('.')) units.insert(name.substr(0, name.size() - 5));
    }
    require(!problem, "cannot list '{}': {}", (folder_ / "done").string(), problem.message());
    return units;
  }

  /// The record passed to `finish`; empty if it is missing or damaged.
  [[nodiscard]] std::optional<nlohmann::json> record(const std::string& unit) const {
    return detail::read_sealed(done_path(unit));
  }

  /// Marks a finished unit as not done.
  void reopen(const std::string& unit) { ::unlink(done_path(unit).c_str()); }

 private:
  static constexpr const char* name_characters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
  using Age = std::chrono::nanoseconds;
  using Clock = std::chrono::steady_clock;

  /// "machine-1234-89abcdef": readable for whoever inspects a claim, and unique to each ledger object.
  static std::string process_name() {
    char host[64] = {};
    if (::gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
    std::random_device entropy;
    return fmt::format("{}-{}-{:08x}", host, ::getpid(), entropy());
  }

  /// The first process writes the settings, the others compare theirs.
  void agree_on(const nlohmann::json& settings) const {
    const auto path = folder_ / "settings.json";
    if (!detail::read_sealed(path)) detail::write_sealed(path, settings);
    const auto found = detail::read_sealed(path).value_or(settings);
    const auto differing = detail::differing_setting(settings, found);
    require(differing.empty(), "{}: belongs to a run with other settings: {}; choose another folder", folder_.string(),
            differing);
  }

  [[nodiscard]] std::filesystem::path claim_path(const std::string& unit) const { return folder_ / "claims" / unit; }
  [[nodiscard]] std::filesystem::path done_path(const std::string& unit) const {
    return folder_ / "done" / (unit + ".json");
  }

  /// Creates a file containing this process's name; false if it already exists.
  [[nodiscard]] bool create(const std::filesystem::path& path) const {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) {
      const int problem = errno;
      require(problem == EEXIST, "cannot write '{}': {}", path.string(), detail::errno_text(problem));
      return false;
    }
    ssize_t count = 0;
    do count = ::write(descriptor, name_.data(), name_.size());
    while (count < 0 && errno == EINTR);
    const bool written = count == static_cast<ssize_t>(name_.size());
    const int problem = errno;
    ::close(descriptor);
    if (!written) ::unlink(path.c_str());
    require(written, "cannot write '{}': {}", path.string(), detail::errno_text(problem));
    return true;
  }

  /// Age of the file's last renewal, relative to a file touched now; empty if the file is gone.
  [[nodiscard]] std::optional<Age> age_of(const std::filesystem::path& path) const {
    const auto touched = folder_ / "claims" / ("." + name_ + ".now");
    if (!create(touched)) touch(touched);
    const auto now = time_of(touched), then = time_of(path);
    ::unlink(touched.c_str());
    if (!now || !then) return {};
    return *now - *then;
  }

  /// Sets a file's time to now, by the file system's clock.
  static void touch(const std::filesystem::path& path) {
    static_cast<void>(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0));
  }

  /// Opens the file instead of using its path, because opening makes NFS fetch attributes from the server.
  static std::optional<Age> time_of(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return {};
    struct stat info {};
    const bool told = ::fstat(descriptor, &info) == 0;
    ::close(descriptor);
    if (!told) return {};
    return std::chrono::seconds(info.st_mtim.tv_sec) + std::chrono::nanoseconds(info.st_mtim.tv_nsec);
  }

  /// Moves a dead process's claim out of the way; false if the process is alive or another was faster.
  [[nodiscard]] bool bury(const std::string& unit) const {
    const auto path = claim_path(unit);
    const auto gone = [&](const std::filesystem::path& claim) {
      const auto age = age_of(claim);
      if (age && age->count() < 0) touch(claim);  // the clock was set back
      return age && *age > options_.lease;
    };
    if (!gone(path)) return false;
    const auto grave = folder_ / "claims" / fmt::format(".{}.{}", unit, name_);
    if (::rename(path.c_str(), grave.c_str()) != 0) return false;
    // Between the check and the rename another process may have buried it and claimed the unit.
    const bool dead = gone(grave);
    if (!dead) static_cast<void>(::link(grave.c_str(), path.c_str()));
    ::unlink(grave.c_str());
    return dead;
  }

  void renew(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      wake_.wait_for(lock, stop, options_.lease / 4, [] { return false; });
      const bool hangs = options_.patience.count() > 0 && Clock::now() - last_progress_ > options_.patience;
      if (claimed_ && !hangs) touch(claim_path(*claimed_));
    }
  }

  std::filesystem::path folder_;
  WorkLedgerOptions options_;
  std::string name_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::optional<std::string> claimed_;
  Clock::time_point last_progress_;
  std::jthread renewer_;  // Last member, so that it is joined before what it uses is destroyed.
};

}  // namespace ip2p
