// Calls of the C library that fail on demand: a library for LD_PRELOAD. It counts the calls of each kind that the
// process makes from `main` on and lets one of them fail.
//
//   IP2P_FAULT_REPORT=FILE   where the counts go; see `Report`. Without it, nothing is counted
//   IP2P_FAULT_UNDER=FOLDER  only calls on paths in this folder count; malloc, fork and anonymous mmap have no path; of
//                           the last, those of the program itself count
//   IP2P_FAULT_KIND=NAME     the kind of which one call fails: a name of `names`; `share`: any call on a path, whose
//                           successors fail too, as when what is mounted there goes away
//   IP2P_FAULT_AT=N          which one, from 1 on; 0: none
//   IP2P_FAULT_ERRNO=CODE    with what it fails
//   IP2P_FAULT_LARGE=BYTES   malloc: smaller requests do not count; 65536 by default
//   IP2P_FAULT_FOR_GOOD=1    all later ones of that kind fail too, as on a full disk
//   IP2P_FAULT_HANGS=1       the call does not fail: it never returns
//   IP2P_FAULT_CLOCK=SECONDS the wall clock jumps forward and back by so much, once a call
//   IP2P_FAULT_FORKS=1       the program stops before `main` and forks for every run that is asked for on its standard
//                           input; see loaded.py

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "support/before_main.hpp"

extern "C" {
void* __libc_malloc(std::size_t) noexcept;
void* __libc_calloc(std::size_t, std::size_t) noexcept;
void* __libc_realloc(void*, std::size_t) noexcept;
void* __libc_memalign(std::size_t, std::size_t) noexcept;
}

namespace {

enum Kind {
  opening,
  reading,
  writing,
  syncing,
  renaming,
  making,
  mapping,
  forking,
  allocating,
  threading,
  sharing,
  kinds
};
constexpr std::array<std::string_view, kinds> names = {"open", "read", "write",  "fsync",  "rename", "mkdir",
                                                       "mmap", "fork", "malloc", "thread", "share"};

/// What the report's file holds, in the machine's byte order: it is mapped, so that it outlives the process however
/// that ends.
struct Report {
  std::array<std::atomic<std::uint64_t>, kinds> counts;
  std::atomic<std::uint64_t> failed;  ///< How many calls failed.
  std::array<char, 4096> path;        ///< Of the first of them; empty if it has none.
};

Report* report = nullptr;
using Main = int(int, char**, char**);
Main* program_main = nullptr;
std::array<char, 4096> under{};
std::size_t under_length = 0;
int wanted_kind = -1, wanted_code = EIO;
std::uint64_t wanted_at = 0;
std::size_t large = 65536;
bool for_good = false, hangs = false;
std::int64_t clock_jump = 0;
std::atomic<bool> active = false;

/// The rest of this file's own work makes no call that is counted.
thread_local bool inside = false;

bool is_under(const char* path) {
  if (under_length == 0) return true;
  return std::strncmp(path, under.data(), under_length) == 0 &&
         (path[under_length] == '/' || path[under_length] == '\0');
}

/// The absolute path of `path`, which may not exist, without touching links or dots.
bool resolve(int folder, const char* path, std::array<char, 4096>& into) {
  if (path == nullptr) return false;
  if (path[0] == '/') return std::snprintf(into.data(), into.size(), "%s", path) > 0;
  std::array<char, 2048> base{};
  if (folder == AT_FDCWD) {
    if (syscall(SYS_getcwd, base.data(), base.size()) <= 0) return false;
  } else {
    std::array<char, 64> link{};
    std::snprintf(link.data(), link.size(), "/proc/self/fd/%d", folder);
    const auto length = syscall(SYS_readlink, link.data(), base.data(), base.size() - 1);
    if (length <= 0) return false;
  }
  return path[0] == '\0' ? std::snprintf(into.data(), into.size(), "%s", base.data()) > 0
                         : std::snprintf(into.data(), into.size(), "%s/%s", base.data(), path) > 0;
}

/// Counts a call. \return whether it is to fail
bool count(Kind kind, const char* path) {
  const auto number = ++report->counts[kind];
  if (kind != wanted_kind || wanted_at == 0) return false;
  if (number != wanted_at && !(for_good && number > wanted_at)) return false;
  if (report->failed++ == 0 && path != nullptr) std::strncpy(report->path.data(), path, report->path.size() - 1);
  while (hangs) syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0);
  errno = wanted_code;
  return true;
}

/// Whether a call on a path is to fail.
bool fails_at(Kind kind, int folder, const char* path) {
  if (!active || inside) return false;
  inside = true;
  const int before = errno;
  std::array<char, 4096> whole;
  const bool counted = resolve(folder, path, whole) && is_under(whole.data());
  errno = before;
  bool fails = counted && kind != sharing && count(kind, whole.data());
  if (counted && !fails) fails = count(sharing, whole.data());
  inside = false;
  return fails;
}

/// Whether a call on an open file is to fail.
bool fails_on(Kind kind, int descriptor) { return active && descriptor >= 0 && fails_at(kind, descriptor, ""); }

/// Whether a call of the C library's own streams is to fail. On a disk, none of those is interrupted.
bool fails_in_stream(Kind kind, int descriptor) { return wanted_code != EINTR && fails_on(kind, descriptor); }

/// Whether a call that has no path is to fail.
bool fails(Kind kind) {
  if (!active || inside) return false;
  inside = true;
  const bool result = count(kind, nullptr);
  inside = false;
  return result;
}

/// Whether the program itself calls, not a library. oneDNN in LibTorch 2.11 does not check that it got pages for the
/// code that it generates, and then jumps to address 0.
bool is_program(void* caller) {
  Dl_info of_caller{}, of_program{};
  return dladdr(caller, &of_caller) != 0 && dladdr(reinterpret_cast<void*>(program_main), &of_program) != 0 &&
         of_caller.dli_fbase == of_program.dli_fbase;
}

/// Whether LibTorch calls `malloc` itself, not through C++ or its allocator. MKL in it does, for scratch memory, and
/// multiplies in another order without, which is right and has other bits.
bool is_torch(void* caller) {
  Dl_info of_caller{};
  return dladdr(caller, &of_caller) != 0 &&
         std::string_view(of_caller.dli_fname).find("libtorch") != std::string_view::npos;
}

/// The function that this library stands before.
template <class Function>
Function* next(const char* name, Function*) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

/// Reads the environment; children are left alone.
void begin() {
  const auto* file = std::getenv("IP2P_FAULT_REPORT");
  if (file == nullptr) return;
  const int descriptor = static_cast<int>(syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (descriptor < 0 || ftruncate(descriptor, sizeof(Report)) != 0) std::abort();
  const auto pages = syscall(SYS_mmap, nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (pages == -1) std::abort();
  report = reinterpret_cast<Report*>(pages);
  syscall(SYS_close, descriptor);
  if (const auto* folder = std::getenv("IP2P_FAULT_UNDER")) {
    std::strncpy(under.data(), folder, under.size() - 1);
    under_length = std::strlen(under.data());
  }
  if (const auto* kind = std::getenv("IP2P_FAULT_KIND")) {
    for (int i = 0; i < kinds; ++i) {
      if (names[static_cast<std::size_t>(i)] == kind) wanted_kind = i;
    }
    if (wanted_kind < 0) std::abort();
  }
  if (const auto* number = std::getenv("IP2P_FAULT_AT")) wanted_at = std::strtoull(number, nullptr, 10);
  if (const auto* code = std::getenv("IP2P_FAULT_ERRNO")) wanted_code = std::atoi(code);
  if (const auto* bytes = std::getenv("IP2P_FAULT_LARGE")) large = std::strtoull(bytes, nullptr, 10);
  hangs = std::getenv("IP2P_FAULT_HANGS") != nullptr;
  for_good = std::getenv("IP2P_FAULT_FOR_GOOD") != nullptr || (wanted_kind == sharing && !hangs);
  if (const auto* seconds = std::getenv("IP2P_FAULT_CLOCK")) clock_jump = std::strtoll(seconds, nullptr, 10);
  unsetenv("LD_PRELOAD");
  unsetenv("IP2P_FAULT_REPORT");
  active = true;
}

bool read_whole(void* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const auto got = read(STDIN_FILENO, static_cast<char*>(data) + done, size - done);
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

void answer(int number) {
  if (write(STDOUT_FILENO, &number, sizeof number) != sizeof number) _exit(1);
}

/// Forks for every request: the number of its bytes, then, each with a NUL at its end, a folder, variables of the
/// environment, an empty word, and arguments. Answers with the child's number and, later, its status. Returns in the
/// children, where `arguments` then has what was asked for.
void fork_for_requests(std::vector<char*>& arguments) {
  static std::string request;
  before_main::require_one_thread();
  unsetenv("IP2P_FAULT_FORKS");
  unsetenv("LD_PRELOAD");
  for (;;) {
    std::uint32_t size = 0;
    if (!read_whole(&size, sizeof size)) _exit(0);
    request.resize(size);
    if (!read_whole(request.data(), size)) _exit(0);
    const pid_t child = fork();
    if (child == 0) break;
    answer(child);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) _exit(1);
    answer(status);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  before_main::leave_what_was_loaded();
  const int nothing = open("/dev/null", O_RDWR);
  dup2(nothing, STDIN_FILENO);
  dup2(nothing, STDOUT_FILENO);
  close(nothing);
  if (chdir(request.c_str()) != 0) _exit(125);
  const auto asked = before_main::take_words(request, std::strlen(request.c_str()) + 1);
  arguments.insert(arguments.end(), asked.begin(), asked.end());
}

int main_after_begin(int argc, char** argv, char**) {
  static std::vector<char*> arguments(argv, argv + argc);
  if (std::getenv("IP2P_FAULT_FORKS") != nullptr) fork_for_requests(arguments);
  begin();
  const auto count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  return program_main(count, arguments.data(), environ);
}

mode_t mode_of(int flags, va_list& rest) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

}  // namespace

extern "C" {

int __libc_start_main(Main* main, int argc, char** argv, void (*init)(), void (*fini)(), void (*rtld_fini)(),
                      void* stack_end) {
  program_main = main;
  using Start = int(Main*, int, char**, void (*)(), void (*)(), void (*)(), void*);
  auto* const start = reinterpret_cast<Start*>(dlsym(RTLD_NEXT, "__libc_start_main"));
  return start(&main_after_begin, argc, argv, init, fini, rtld_fini, stack_end);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const auto mode = mode_of(flags, rest);
  va_end(rest);
  if (fails_at(opening, folder, path)) return -1;
  return static_cast<int>(syscall(SYS_openat, folder, path, flags, mode));
}

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const auto mode = mode_of(flags, rest);
  va_end(rest);
  return openat(AT_FDCWD, path, flags, mode);
}

int open64(const char*, int, ...) __attribute__((alias("open")));
int openat64(int, const char*, int, ...) __attribute__((alias("openat")));

FILE* fopen(const char* path, const char* mode) {
  static auto* const real = next("fopen", &fopen);
  return fails_at(opening, AT_FDCWD, path) ? nullptr : real(path, mode);
}

FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }

DIR* opendir(const char* path) {
  static auto* const real = next("opendir", &opendir);
  return fails_at(opening, AT_FDCWD, path) ? nullptr : real(path);
}

struct dirent* readdir(DIR* folder) {
  static auto* const real = next("readdir", &readdir);
  return fails_in_stream(reading, dirfd(folder)) ? nullptr : real(folder);
}

struct dirent64* readdir64(DIR*) __attribute__((alias("readdir")));

ssize_t read(int descriptor, void* data, size_t size) {
  return fails_on(reading, descriptor) ? -1 : syscall(SYS_read, descriptor, data, size);
}

ssize_t pread(int descriptor, void* data, size_t size, off_t offset) {
  return fails_on(reading, descriptor) ? -1 : syscall(SYS_pread64, descriptor, data, size, offset);
}

ssize_t pread64(int, void*, size_t, off64_t) __attribute__((alias("pread")));

ssize_t readv(int descriptor, const struct iovec* parts, int number) {
  return fails_on(reading, descriptor) ? -1 : syscall(SYS_readv, descriptor, parts, number);
}

size_t fread(void* data, size_t size, size_t number, FILE* file) {
  static auto* const real = next("fread", &fread);
  if (!fails_in_stream(reading, fileno(file))) return real(data, size, number, file);
  file->_flags |= 0x20;  // what ferror() looks at
  return 0;
}

ssize_t write(int descriptor, const void* data, size_t size) {
  return fails_on(writing, descriptor) ? -1 : syscall(SYS_write, descriptor, data, size);
}

ssize_t pwrite(int descriptor, const void* data, size_t size, off_t offset) {
  return fails_on(writing, descriptor) ? -1 : syscall(SYS_pwrite64, descriptor, data, size, offset);
}

ssize_t pwrite64(int, const void*, size_t, off64_t) __attribute__((alias("pwrite")));

ssize_t writev(int descriptor, const struct iovec* parts, int number) {
  return fails_on(writing, descriptor) ? -1 : syscall(SYS_writev, descriptor, parts, number);
}

size_t fwrite(const void* data, size_t size, size_t number, FILE* file) {
  static auto* const real = next("fwrite", &fwrite);
  if (!fails_in_stream(writing, fileno(file))) return real(data, size, number, file);
  file->_flags |= 0x20;
  return 0;
}

int fsync(int descriptor) {
  return fails_on(syncing, descriptor) ? -1 : static_cast<int>(syscall(SYS_fsync, descriptor));
}

int fdatasync(int descriptor) {
  return fails_on(syncing, descriptor) ? -1 : static_cast<int>(syscall(SYS_fdatasync, descriptor));
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  if (fails_at(renaming, to_folder, to)) return -1;
  return static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}

int rename(const char* from, const char* to) noexcept { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  return renameat2(from_folder, from, to_folder, to, 0);
}

int mkdir(const char* path, mode_t mode) noexcept {
  return fails_at(making, AT_FDCWD, path) ? -1 : static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

// Calls that fail only with what is mounted there.

int stat(const char* path, struct stat* info) noexcept {
  return fails_at(sharing, AT_FDCWD, path) ? -1 : static_cast<int>(syscall(SYS_newfstatat, AT_FDCWD, path, info, 0));
}

int lstat(const char* path, struct stat* info) noexcept {
  return fails_at(sharing, AT_FDCWD, path)
             ? -1
             : static_cast<int>(syscall(SYS_newfstatat, AT_FDCWD, path, info, AT_SYMLINK_NOFOLLOW));
}

int fstatat(int folder, const char* path, struct stat* info, int flags) noexcept {
  return fails_at(sharing, folder, path) ? -1 : static_cast<int>(syscall(SYS_newfstatat, folder, path, info, flags));
}

int fstat(int descriptor, struct stat* info) noexcept {
  return fails_on(sharing, descriptor) ? -1
                                       : static_cast<int>(syscall(SYS_newfstatat, descriptor, "", info, AT_EMPTY_PATH));
}

int stat64(const char*, struct stat64*) noexcept __attribute__((alias("stat")));
int lstat64(const char*, struct stat64*) noexcept __attribute__((alias("lstat")));
int fstatat64(int, const char*, struct stat64*, int) noexcept __attribute__((alias("fstatat")));
int fstat64(int, struct stat64*) noexcept __attribute__((alias("fstat")));

int access(const char* path, int mode) noexcept {
  return fails_at(sharing, AT_FDCWD, path) ? -1 : static_cast<int>(syscall(SYS_faccessat, AT_FDCWD, path, mode));
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  return fails_at(sharing, folder, path) ? -1 : static_cast<int>(syscall(SYS_unlinkat, folder, path, flags));
}

int unlink(const char* path) noexcept { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char* path) noexcept { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int remove(const char* path) noexcept {
  const int result = unlink(path);
  return result != 0 && errno == EISDIR ? rmdir(path) : result;
}

int ftruncate(int descriptor, off_t size) noexcept {
  return fails_on(sharing, descriptor) ? -1 : static_cast<int>(syscall(SYS_ftruncate, descriptor, size));
}

int ftruncate64(int, off64_t) noexcept __attribute__((alias("ftruncate")));

int clock_gettime(clockid_t clock, struct timespec* time) noexcept {
  static std::atomic<bool> forward = false;
  const auto result = static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  if (clock == CLOCK_REALTIME && active && clock_jump != 0) {
    time->tv_sec += forward.exchange(!forward) ? clock_jump : -clock_jump;
  }
  return result;
}

time_t time(time_t* into) noexcept {
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  if (into != nullptr) *into = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval* into, void*) noexcept {
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  into->tv_sec = now.tv_sec;
  into->tv_usec = now.tv_nsec / 1000;
  return 0;
}

void* mmap(void* where, size_t size, int protection, int flags, int descriptor, off_t offset) noexcept {
  const bool failing = (flags & MAP_ANONYMOUS) == 0
                           ? fails_on(mapping, descriptor)
                           : active && is_program(__builtin_return_address(0)) && fails(mapping);
  if (failing) return MAP_FAILED;
  return reinterpret_cast<void*>(syscall(SYS_mmap, where, size, protection, flags, descriptor, offset));
}

void* mmap64(void*, size_t, int, int, int, off64_t) noexcept __attribute__((alias("mmap")));

pid_t fork() noexcept {
  static auto* const real = next("fork", static_cast<pid_t (*)()>(nullptr));
  return fails(forking) ? -1 : real();
}

int posix_spawnp(pid_t* child, const char* file, const posix_spawn_file_actions_t* actions,
                 const posix_spawnattr_t* attributes, char* const arguments[], char* const environment[]) {
  static auto* const real = next("posix_spawnp", &posix_spawnp);
  return fails(forking) ? wanted_code : real(child, file, actions, attributes, arguments, environment);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) noexcept {
  static auto* const real =
      next("pthread_create", static_cast<int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>(nullptr));
  return fails(threading) ? wanted_code : real(thread, attributes, start, argument);
}

void* malloc(size_t size) noexcept {
  const bool counts = size >= large && active && !is_torch(__builtin_return_address(0));
  return counts && fails(allocating) ? nullptr : __libc_malloc(size);
}

void* calloc(size_t number, size_t size) noexcept {
  const bool counts = size != 0 && number >= large / size;
  return counts && fails(allocating) ? nullptr : __libc_calloc(number, size);
}

void* realloc(void* data, size_t size) noexcept {
  return size >= large && fails(allocating) ? nullptr : __libc_realloc(data, size);
}

void* memalign(size_t alignment, size_t size) noexcept {
  return size >= large && fails(allocating) ? nullptr : __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) noexcept { return memalign(alignment, size); }

int posix_memalign(void** data, size_t alignment, size_t size) noexcept {
  const int before = errno;
  void* found = memalign(alignment, size);
  errno = before;
  if (found == nullptr) return ENOMEM;
  *data = found;
  return 0;
}

}  // extern "C"
