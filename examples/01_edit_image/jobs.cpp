#include "jobs.hpp"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ascii.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "support/program.hpp"

namespace edit_image {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> fields{"name", "prompt", "seed", "number"};

/// Whether a file of this name is taken for a photograph where a folder is named.
bool looks_like_picture(const fs::path& path) {
  static const std::set<std::string> known{".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif",
                                           ".tga", ".psd", ".ppm",  ".pgm",  ".pnm", ".hdr"};
  return known.contains(ip2p::detail::lower_ascii(path.extension().string()));
}

std::vector<fs::path> in_folder(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : ip2p::detail::folder_entries(folder)) {
    if (entry.is_regular_file() && looks_like_picture(entry.path())) found.push_back(entry.path());
  }
  ip2p::require(!found.empty(), "{}: expected photographs in this folder, found none", folder.string());
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<fs::path> in_list(const fs::path& list) {
  std::ifstream file(list);
  ip2p::require(file.good(), "{}: cannot open", list.string());
  std::vector<fs::path> found;
  for (std::string line; std::getline(file, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) found.push_back(list.parent_path() / line);
  }
  ip2p::detail::require_read(file, list);
  ip2p::require(!found.empty(), "{}: expected a list of photographs, one in each line, found none", list.string());
  return found;
}

std::vector<fs::path> by_pattern(const std::string& pattern) {
  glob_t matches{};
  std::vector<fs::path> found;
  if (glob(pattern.c_str(), 0, nullptr, &matches) == 0) {
    for (std::size_t i = 0; i < matches.gl_pathc; ++i) found.emplace_back(matches.gl_pathv[i]);
  }
  globfree(&matches);
  ip2p::require(!found.empty(), "{}: expected photographs by this pattern, found none", pattern);
  return found;
}

/// The words of an instruction in a file's name: "Make it snowy!" -> "make-it-snowy".
std::string slug(const std::string& text) {
  constexpr std::size_t most = 60;
  std::string name;
  for (const char c : ip2p::detail::lower_ascii(text)) {
    const bool kept = std::isalnum(static_cast<unsigned char>(c)) != 0 || static_cast<unsigned char>(c) >= 0x80;
    if (kept) {
      name += c;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  name.resize(std::min(name.size(), most));
  while (name.ends_with('-') ||
         (!name.empty() && name.size() == most && static_cast<unsigned char>(name.back()) >= 0x80)) {
    name.pop_back();
  }
  return name.empty() ? "unedited" : name;
}

std::string replaced(std::string text, std::string_view field, const std::string& value) {
  const auto mark = fmt::format("{{{}}}", field);
  for (auto place = text.find(mark); place != text.npos; place = text.find(mark, place + value.size())) {
    text.replace(place, mark.size(), value);
  }
  return text;
}

/// The pattern that --out stands for.
std::string pattern_of(const Options& o) {
  if (o.out.find('{') != o.out.npos) return o.out;
  std::string name = "{name}";
  if (o.prompts.size() > 1) name += "-{prompt}";
  if (o.count > 1) name += "-{seed}";
  return (fs::path(o.out) / (name + ".png")).string();
}

}  // namespace

std::string pattern_problem(const std::string& pattern) {
  for (auto open = pattern.find('{'); open != pattern.npos; open = pattern.find('{', open + 1)) {
    const auto close = pattern.find('}', open);
    const auto field = pattern.substr(open + 1, close == pattern.npos ? close : close - open - 1);
    if (close == pattern.npos || std::find(fields.begin(), fields.end(), field) == fields.end()) {
      return fmt::format("expected {{name}}, {{prompt}}, {{seed}} or {{number}}, found '{}'",
                         pattern.substr(open, close == pattern.npos ? close : close - open + 1));
    }
  }
  return {};
}

std::vector<fs::path> photographs(const std::vector<std::string>& named) {
  std::vector<fs::path> all;
  for (const auto& name : named) {
    std::error_code ignored;
    std::vector<fs::path> found{name};
    if (fs::is_directory(name, ignored)) {
      found = in_folder(name);
    } else if (ip2p::detail::lower_ascii(fs::path(name).extension().string()) == ".txt") {
      found = in_list(name);
    } else if (!fs::exists(name, ignored) && name.find_first_of("*?[") != name.npos) {
      found = by_pattern(name);
    }
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

std::vector<Job> jobs_of(const Options& o) {
  const auto images = photographs(o.images);
  const auto count = images.size() * o.prompts.size() * static_cast<std::size_t>(o.count);
  ip2p::require(o.run.seed <= std::numeric_limits<std::uint64_t>::max() - static_cast<std::uint64_t>(o.count),
                "--seed: expected {} seeds from it on, found the number {}, too large for that", o.count, o.run.seed);
  const bool one = names_one(o.out) || o.to_standard_output();
  ip2p::require(!one || count == 1,
                "--out: expected a folder or a pattern such as 'out/{{name}}-{{seed}}.png' for {} results, found '{}'",
                count, o.out);
  if (one)
    return {{images.front(), o.prompts.front(), o.run.seed, o.to_standard_output() ? fs::path() : fs::path(o.out)}};
  const auto pattern = pattern_of(o);
  const auto digits = std::to_string(count).size();
  std::vector<Job> jobs;
  for (const auto& image : images) {
    for (const auto& prompt : o.prompts) {
      for (std::int64_t i = 0; i < o.count; ++i) {
        const auto seed = o.run.seed + static_cast<std::uint64_t>(i);
        auto name = replaced(pattern, "number", fmt::format("{:0{}}", jobs.size() + 1, digits));
        name = replaced(replaced(name, "seed", std::to_string(seed)), "prompt", slug(prompt));
        jobs.push_back({image, prompt, seed, replaced(name, "name", image.stem().string())});
      }
    }
  }
  std::set<fs::path> inputs;
  std::error_code ignored;
  for (const auto& image : images) inputs.insert(fs::weakly_canonical(image, ignored));
  std::map<fs::path, const Job*> results;
  for (const auto& job : jobs) {
    const auto place = fs::weakly_canonical(job.out, ignored);
    ip2p::require(!inputs.contains(place), "--out: '{}' would overwrite a photograph", job.out.string());
    const auto [other, first] = results.emplace(place, &job);
    ip2p::require(first,
                  "--out: expected a name of its own for each result, found '{}' for '{}' and '{}'; {{number}} in "
                  "a pattern tells them apart",
                  job.out.string(), other->second->image.string(), job.image.string());
  }
  return jobs;
}

void check_results(const std::vector<Job>& jobs) {
  std::set<fs::path> folders;
  for (const auto& job : jobs) {
    if (job.out.empty() || !folders.insert(job.out.parent_path()).second) continue;
    auto folder = job.out.has_parent_path() ? job.out.parent_path() : fs::path(".");
    std::error_code ignored;
    while (!fs::exists(folder, ignored) && folder.has_parent_path()) folder = folder.parent_path();
    if (!fs::exists(folder, ignored)) folder = ".";
    ip2p::require(fs::is_directory(folder, ignored), "{}: expected a folder to write into, found a file",
                  folder.string());
    example::require_writable(folder);
  }
  std::vector<const fs::path*> outputs;
  for (const auto& job : jobs) {
    std::error_code ignored;
    if (fs::is_directory(job.out.parent_path(), ignored)) outputs.push_back(&job.out);
  }
  example::check_folders(outputs);
}

fs::path beside(const fs::path& out, std::string_view what) {
  return out.parent_path() / fmt::format("{}-{}{}", out.stem().string(), what, out.extension().string());
}

}  // namespace edit_image
