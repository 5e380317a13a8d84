#include "ip2p/io/folder_lock.hpp"

#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string>

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
  // As AtomicFile names them.
  const AtomicFile file(folder / "written.png");
  CHECK(names_below(folder).size() == alike.size() + 1);
  remove_temporaries_in(folder);
  CHECK(names_below(folder) == alike);
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

TEST_CASE("A file's temporaries are removed by the first that works on it", "[io]") {
  const testing::ScratchDir scratch;
  const auto& folder = scratch.path();
  leave(folder / half);
  leave(folder / other_half);
  std::optional<FolderLock> first(FolderLock::shared_for(folder / "a.png"));
  CHECK(names_below(folder) == std::set<std::string>{other_half});
  leave(folder / half);  // the first is writing
  const auto second = FolderLock::shared_for(folder / "a.png");
  CHECK(names_below(folder).contains(half));
  first.reset();
  CHECK_THROWS_AS(FolderLock(folder), Error);
}

TEST_CASE("A shared folder is cleaned by the first that enters it", "[io]") {
  const testing::ScratchDir scratch;
  const auto& folder = scratch.path();
  leave(folder / "in" / half);
  std::optional<FolderLock> first(FolderLock::shared(folder));
  CHECK(names_below(folder).empty());
  leave(folder / "in" / half);  // the first is writing
  std::optional<FolderLock> second(FolderLock::shared(folder));
  CHECK(names_below(folder).size() == 1);
  CHECK_THROWS_AS(FolderLock(folder), Error);
  first.reset();
  CHECK_THROWS_AS(FolderLock(folder), Error);
  second.reset();
  first.emplace(FolderLock::shared(folder));
  CHECK(names_below(folder).empty());
}
