// A library for LD_PRELOAD that stops a program before `main` and forks it for every run that run_loaded.cpp asks for.
// It needs IP2P_LISTENS=PATH, a socket that it makes, and ends when that is gone.

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "support/before_main.hpp"

namespace {

using Main = int(int, char**, char**);
Main* program_main = nullptr;

int listening_at(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path) _exit(1);
  std::memcpy(address.sun_path, path, std::strlen(path));
  unlink(path);
  const int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening < 0 || bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listening, 64) != 0) {
    _exit(1);
  }
  return listening;
}

/// What one run was asked for.
struct Request {
  int passed[4];      ///< Standard streams, folder.
  std::string words;  ///< Variables of the environment, an empty word, arguments, each with a NUL at its end.
};

bool receive(int with, Request& request) {
  std::uint32_t size = 0;
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof request.passed)] = {};
  iovec bytes{&size, sizeof size};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  if (recvmsg(with, &message, MSG_CMSG_CLOEXEC) != sizeof size) return false;
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_len != CMSG_LEN(sizeof request.passed)) return false;
  std::memcpy(request.passed, CMSG_DATA(header), sizeof request.passed);
  request.words.resize(size);
  return recv(with, request.words.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

/// Waits for a run's end and tells its status; kills it if nobody waits for that any more.
[[noreturn]] void keep(pid_t child, int with) {
  pollfd either[] = {{static_cast<int>(syscall(SYS_pidfd_open, child, 0)), POLLIN, 0}, {with, POLLIN, 0}};
  if (child < 0 || either[0].fd < 0) _exit(1);
  poll(either, 2, -1);
  if (either[0].revents == 0) kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  send(with, &status, sizeof status, MSG_NOSIGNAL);
  _exit(0);
}

/// Returns in the processes that run the program, with its arguments.
std::vector<char*> run_on_request() {
  static Request request;
  before_main::require_one_thread();
  const std::string path = std::getenv("IP2P_LISTENS");
  const int listening = listening_at(path.c_str());
  std::signal(SIGCHLD, SIG_IGN);
  for (;;) {
    pollfd asked{listening, POLLIN, 0};
    if (poll(&asked, 1, 1000) <= 0) {
      if (access(path.c_str(), F_OK) != 0) _exit(0);
      continue;
    }
    const int with = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    if (with < 0) continue;
    if (fork() == 0) {  // one process waits for the run, one runs
      std::signal(SIGCHLD, SIG_DFL);
      close(listening);
      if (!receive(with, request)) _exit(0);
      const pid_t child = fork();
      if (child != 0) keep(child, with);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(with);
      break;
    }
    close(with);
  }
  before_main::leave_what_was_loaded();
  for (int stream = 0; stream < 3; ++stream) {
    dup2(request.passed[stream], stream);
    close(request.passed[stream]);
  }
  if (fchdir(request.passed[3]) != 0) _exit(125);
  close(request.passed[3]);
  clearenv();
  return before_main::take_words(request.words, 0);
}

int main_on_request(int, char**, char**) {
  static std::vector<char*> arguments = run_on_request();
  const auto count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  return program_main(count, arguments.data(), environ);
}

}  // namespace

extern "C" {

int __libc_start_main(Main* main, int argc, char** argv, void (*init)(), void (*fini)(), void (*rtld_fini)(),
                      void* stack_end) {
  using Start = int(Main*, int, char**, void (*)(), void (*)(), void (*)(), void*);
  auto* const start = reinterpret_cast<Start*>(dlsym(RTLD_NEXT, "__libc_start_main"));
  program_main = main;
  return start(std::getenv("IP2P_LISTENS") != nullptr ? &main_on_request : main, argc, argv, init, fini, rtld_fini,
               stack_end);
}

}  // extern "C"
