#pragma once

/// \file
/// For libraries for LD_PRELOAD that stop a program before `main` and fork it for every run.

#include <dirent.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace before_main {

/// Only the thread that forks is in the child, so there must be no other.
inline void require_one_thread() {
  int threads = 0;
  auto* const tasks = opendir("/proc/self/task");
  while (const auto* task = tasks == nullptr ? nullptr : readdir(tasks)) threads += task->d_name[0] != '.' ? 1 : 0;
  if (tasks != nullptr) closedir(tasks);
  if (threads == 1) return;
  std::fprintf(stderr, "expected one thread before `main`, found %d", threads);
  _exit(1);
}

/// At the end of the run, what `main` began is ended; what was there before, which is LibTorch's and takes as long as
/// to load it, is left.
inline void leave_what_was_loaded() {
  const auto end_here = [](int status, void*) {
    std::fflush(nullptr);
    _exit(status);
  };
  on_exit(end_here, nullptr);  // later than all that is registered from now on
}

/// Takes a run's words from byte `from` of `words`, each with a NUL at its end: variables for the environment, an empty
/// word, arguments, which it returns. They stay in `words`.
inline std::vector<char*> take_words(std::string& words, std::size_t from) {
  char* const end = words.data() + words.size();
  char* word = words.data() + from;
  const auto next_word = [&] { return std::exchange(word, word + std::strlen(word) + 1); };
  while (*word != '\0') putenv(next_word());
  next_word();
  std::vector<char*> arguments;
  while (word < end) arguments.push_back(next_word());
  return arguments;
}

}  // namespace before_main
