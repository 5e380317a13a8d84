#include "ip2p/io/file_text.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;

TEST_CASE("file_text tells a file that is absent from one that cannot be read", "[io]") {
  const testing::ScratchDir scratch;
  const auto text = scratch.path() / "text.txt", folder = scratch.path() / "folder";
  CHECK_FALSE(detail::file_text(text));
  CHECK_FALSE(detail::file_text(scratch.path() / "none" / "text.txt"));
  const std::string long_text(100'000, 'x');
  std::ofstream(text) << long_text;
  CHECK(detail::file_text(text) == long_text);
  CHECK_FALSE(detail::file_text(text / "none"));
  std::ofstream(text).flush();
  CHECK(detail::file_text(text) == "");
  std::filesystem::create_directory(folder);  // opens, and then reading fails, as it does on a broken disk
  CHECK_THROWS_WITH(detail::file_text(folder), "cannot read '" + folder.string() + "': Is a directory");
}

TEST_CASE("folder_entries names the folder that it cannot list", "[io]") {
  const testing::ScratchDir scratch;
  const auto none = scratch.path() / "none", file = scratch.path() / "a.txt", folder = scratch.path() / "folder";
  std::filesystem::create_directory(folder);
  std::ofstream(file) << "a";
  auto entries = detail::folder_entries(scratch.path());
  std::sort(entries.begin(), entries.end());
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].path() == file);
  CHECK(entries[1].path() == folder);
  CHECK_THROWS_WITH(detail::folder_entries(none), "cannot list '" + none.string() + "': No such file or directory");
  CHECK_THROWS_WITH(detail::folder_entries(file), "cannot list '" + file.string() + "': Not a directory");
}
