#pragma once

/// \file
/// What happens, one line of JSON each.

#include <functional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "job.hpp"

namespace studio {

/// Takes one line, without its end. Called by any thread.
using LogLine = std::function<void(const std::string&)>;

/// Writes to standard error.
void log_to_stderr(const std::string& line);

/// The line of an event: its time, its name and `values`. Prompts have no place in it unless they were asked for.
std::string log_line(const char* event, const nlohmann::ordered_json& values);

/// What is logged of a job that is over. \param with_prompts its texts too
nlohmann::ordered_json log_values(const Job& job, bool with_prompts);

/// A path without what gives access to a job: the first 8 digits tell jobs apart.
std::string path_for_log(const std::string& path);

}  // namespace studio
