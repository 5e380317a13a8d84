// Runs a program of ours in a process that has loaded it already, for tests that start programs hundreds of times: to
// load LibTorch takes 0.3 s of processor time, most of a run on a tiny model.
//
//   run_loaded LIBRARY FOLDER PROGRAM ARGUMENT...
//
// The first run of a program starts it under LIBRARY (loaded_program.cpp), which stops it before `main`, listens in
// FOLDER and forks for this and every later run. A run has the standard streams, the environment and the folder of this
// process; its exit status is passed on, as 128 and the number for a signal. What listens ends when FOLDER is gone.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "run_loaded: %s: %s\n", what.c_str(), std::strerror(errno));
  _exit(125);
}

/// What is read of the environment while a program is loaded is the same for all runs of one that listens.
bool read_while_loading(std::string_view variable) {
  for (const std::string_view start : {"OMP_", "GOMP_", "MKL_", "LD_", "MALLOC_", "GLIBC_"}) {
    if (variable.substr(0, start.size()) == start) return true;
  }
  return false;
}

std::string socket_of(const std::string& folder, const std::string& program) {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  const auto add = [&hash](std::string_view text) {
    for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211U;
  };
  add(program);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (read_while_loading(*variable)) add(*variable);
  }
  return folder + "/" + std::to_string(hash);
}

/// A connection with what listens at `path`; below 0 if nothing does.
int connected(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    fail(path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const int found = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (found < 0) fail("socket");
  if (connect(found, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return found;
  close(found);
  return -1;
}

/// Starts `program` so that it listens at `path`, and connects with it.
int started(const std::string& library, const std::string& path, const std::string& program) {
  const int lock = open((path + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) fail(path + ".lock");
  if (const int other = connected(path); other >= 0) return other;  // another process was first
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    const int nothing = open("/dev/null", O_RDWR);
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, stream);
    close_range(STDERR_FILENO + 1, ~0U, 0);  // what waits for a file to be closed does not wait for it
    setsid();
    setenv("LD_PRELOAD", library.c_str(), 1);
    setenv("IP2P_LISTENS", path.c_str(), 1);
    execl(program.c_str(), program.c_str(), nullptr);
    _exit(127);
  }
  for (;;) {
    if (const int listening = connected(path); listening >= 0) return listening;
    if (waitpid(child, nullptr, WNOHANG) == child) {
      errno = ENOEXEC;
      fail(program);
    }
    usleep(5000);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: run_loaded LIBRARY FOLDER PROGRAM ARGUMENT...\n");
    return 125;
  }
  const std::string library = argv[1], program = argv[3], path = socket_of(argv[2], program);
  int with = connected(path);
  if (with < 0) with = started(library, path, program);

  std::string request;
  const auto add = [&request](std::string_view word) { request.append(word).push_back('\0'); };
  for (char** variable = environ; *variable != nullptr; ++variable) add(*variable);
  add("");
  for (int i = 3; i < argc; ++i) add(argv[i]);
  const auto size = static_cast<std::uint32_t>(request.size());

  // The streams and the folder travel with the first bytes.
  const int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int passed[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, here};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof passed)] = {};
  iovec bytes{const_cast<std::uint32_t*>(&size), sizeof size};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof passed);
  std::memcpy(CMSG_DATA(header), passed, sizeof passed);
  if (sendmsg(with, &message, MSG_NOSIGNAL) != sizeof size) fail("send");
  for (std::size_t done = 0; done < request.size();) {
    const auto sent = send(with, request.data() + done, request.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) fail("send");
    done += static_cast<std::size_t>(sent);
  }
  int status = 0;
  if (recv(with, &status, sizeof status, MSG_WAITALL) != sizeof status) fail(program + ": no answer");
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
