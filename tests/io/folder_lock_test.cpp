#include "ip2p/io/folder_lock.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>

#include "ip2p/io/atomic_file.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;
namespace fs = std::filesystem;

namespace {

/// Names below a folder that holds what killed processes left, and files that only look like it.
std::set<std::string> names_below(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) names.insert(fs::relative(entry.path(), folder).string());
  }
  return names;
}

void leave(const fs::path& file) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << "half";
}

constexpr auto half = ".a.png.0123456789abcdef.tmp", other_half = ".b.png.ffff0000ffff0000.tmp";
const std::set<std::string> alike{".a.png.0123456789abcdeg.tmp", ".a.png.0123.tmp", ".0123456789abcdef.tmp", "a.tmp",
                                  "a.png.0123456789abcdef.tmp"};

}  // namespace

TEST_CASE("Temporary files are known by their names, and removed of one file, one folder or all below it", "[io]") {
  const testing::ScratchDir scratch;
  const auto& folder = scratch.path();
  for (const auto& name : alike) leave(folder / name);
  for (const auto* name : {half, other_half}) {
    leave(folder / name);
    leave(folder / "in" / "deep" / name);
  }
  const auto with = [](std::set<std::string> more) {
    more.insert(alike.begin(), alike.end());
    return more;
  };
  const std::string below = "in/deep/";
  remove_temporaries_of(folder / "a.png");
  CHECK(names_below(folder) == with({other_half, below + half, below + other_half}));
  remove_temporaries_in(folder);
  CHECK(names_below(folder) == with({below + half, below + other_half}));
  remove_temporaries_below(folder);
  CHECK(names_below(folder) == alike);
  CHECK_NOTHROW(remove_temporaries_below(folder / "none"));
}

TEST_CASE("Temporary files stay while their writers live", "[io]") {
  const testing::ScratchDir scratch;
  const auto& folder = scratch.path();
  const auto path = folder / "a.png";
  leave(folder / half);
  {
    AtomicFile file(path);
    remove_temporaries_of(path);
    CHECK(names_below(folder).size() == 1);
    remove_temporaries_below(folder);
    CHECK(names_below(folder).size() == 1);
    file.commit();
  }
  CHECK(names_below(folder) == std::set<std::string>{"a.png"});
}

TEST_CASE("A killed writer's temporary file is removed", "[io]") {
  const testing::ScratchDir scratch;
  const auto& folder = scratch.path();
  const auto child = ::fork();
  if (child == 0) {
    const AtomicFile file(folder / "a.png");
    ::raise(SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  REQUIRE(names_below(folder).size() == 1);
  remove_temporaries_of(folder / "a.png");
  CHECK(names_below(folder).empty());
}

TEST_CASE("Files are written while another removes what is abandoned", "[io]") {
  const testing::ScratchDir scratch;
  const auto& folder = scratch.path();
  std::atomic<bool> over = false;
  std::thread removing([&] {
    while (!over) remove_temporaries_in(folder);
  });
  int failed = 0;
  for (int i = 0; i < 300; ++i) {
    try {
      write_file_atomically(folder / "a.png", std::as_bytes(std::span("whole", 5)));
    } catch (const Error& error) {
      ++failed;
      UNSCOPED_INFO(error.what());
    }
  }
  over = true;
  removing.join();
  CHECK(failed == 0);
  CHECK(names_below(folder) == std::set<std::string>{"a.png"});
}

TEST_CASE("A locked folder is one process's own, and clean where nobody else writes", "[io]") {
  const testing::ScratchDir scratch;
  const auto& folder = scratch.path();
  for (const auto* place : {".", "own", "others"}) leave(folder / place / half);
  std::optional<FolderLock> lock(std::in_place, folder, std::initializer_list<const char*>{"own", "none"});
  CHECK(names_below(folder) == std::set<std::string>{"others/" + std::string(half)});
  CHECK_THROWS_WITH(FolderLock(folder),
                    folder.string() + ": expected no other process working in this folder, found one");
  lock.reset();
  CHECK_NOTHROW(FolderLock(folder));
  CHECK_THROWS_WITH(FolderLock(folder / "none"),
                    "cannot open the folder '" + (folder / "none").string() + "': No such file or directory");
}
