#pragma once

/// \file
/// Which results are to be made: every photograph with every instruction and every seed, and where each goes.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "options.hpp"

namespace edit_image {

/// One result to make.
struct Job {
  std::filesystem::path image;
  std::string prompt;
  std::uint64_t seed = 0;
  std::filesystem::path out;  ///< Empty for standard output.
};

/// Empty for a pattern whose fields are known, otherwise the error message.
std::string pattern_problem(const std::string& pattern);

/// The photographs that --image names: files as they are, those of folders and patterns by name, those of lists in the
/// list's order, relative to its folder. A file that is not there is left for whoever reads it.
/// \throws Error for a folder, pattern or list without photographs
std::vector<std::filesystem::path> photographs(const std::vector<std::string>& named);

/// All results, ordered by photograph, then instruction, then seed.
/// \throws Error for results of one name, and for one that would overwrite a photograph
std::vector<Job> jobs_of(const Options& o);

/// Checks that the results can be written, before the work. Folders that are not there are made with the first result.
void check_results(const std::vector<Job>& jobs);

/// "out/a.png" -> "out/a-compare.png", for instance.
std::filesystem::path beside(const std::filesystem::path& out, std::string_view what);

}  // namespace edit_image
