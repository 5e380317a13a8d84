#pragma once

/// \file
/// Whether the files that the cache holds of a model are all that is wanted.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <system_error>

#include "ip2p/io/file_text.hpp"
#include "ip2p/io/hub_files.hpp"
#include "ip2p/io/json_field.hpp"

namespace ip2p::detail {

/// What a snapshot lacks, as text for messages; empty if it is complete. Judged by its configurations.
inline std::string lacking_in_snapshot(const std::filesystem::path& snapshot, const std::string& part,
                                       const HubFilesOptions& wanted) {
  std::set<std::string> names;
  std::error_code code;
  for (std::filesystem::recursive_directory_iterator entry(snapshot, code), end; !code && entry != end;
       entry.increment(code)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) names.insert(entry->path().lexically_relative(snapshot).generic_string());
  }
  const auto read = [&](const char* name) {
    const auto path = part.empty() ? snapshot / name : snapshot / part / name;
    return json_or_discarded(file_text(path).value_or(""));
  };
  std::set<std::string> must_have;
  const auto index = read("model_index.json");
  for (const std::string name : hub_components) {
    const auto found = index.is_object() ? index.find(name) : index.end();
    if (found != index.end() && found->is_array() && !found->empty() && !found->front().is_null()) {
      must_have.insert(name);
    }
  }
  const auto config = read("config.json");
  if (config.is_object() && config.contains("model_type")) must_have.insert("tokenizer");
  return needed_hub_files(names, part, wanted, must_have).lacking;
}

}  // namespace ip2p::detail
