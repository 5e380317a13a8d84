#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/paths.hpp"

namespace ip2p::testing {

/// One line of a conversion table made by diffusers (tests/parity/make_weights_fixtures.py).
struct LdmRow {
  std::string source;               ///< name in the single-file checkpoint
  std::vector<std::int64_t> shape;  ///< shape there
  std::string target;               ///< name in diffusers or transformers; empty if no component takes it
  std::string operation;            ///< "=", "matrix" or "rows:N"
};

/// "3,4" as {3, 4}; "-" is a scalar.
inline std::vector<std::int64_t> parse_shape(const std::string& text) {
  std::vector<std::int64_t> shape;
  std::istringstream stream(text);
  for (std::string part; text != "-" && std::getline(stream, part, ',');) shape.push_back(std::stoll(part));
  return shape;
}

/// Component -> rows of io/fixtures/ldm_`model`.txt; "unused" holds what no component takes.
inline std::map<std::string, std::vector<LdmRow>> ldm_table(const std::string& model) {
  std::map<std::string, std::vector<LdmRow>> table;
  std::ifstream stream(fixture("io/fixtures/ldm_" + model + ".txt"));
  std::string part;
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with("[")) {
      part = line.substr(1, line.size() - 2);
      table[part];
      continue;
    }
    LdmRow row;
    std::string shape;
    std::istringstream(line) >> row.source >> shape >> row.target >> row.operation;
    row.shape = parse_shape(shape);
    table[part].push_back(row);
  }
  return table;
}

/// The shape that the row's target has.
inline std::vector<std::int64_t> target_shape(const LdmRow& row) {
  auto shape = row.shape;
  if (row.operation == "matrix") shape.resize(2);
  if (row.operation.starts_with("rows:")) shape[0] /= 3;
  return shape;
}

/// The configurations that diffusers derives for the same checkpoint, by component.
inline nlohmann::json ldm_reference_config(const std::string& model) {
  std::ifstream stream(fixture("io/fixtures/ldm_" + model + ".json"));
  return nlohmann::json::parse(stream);
}

}  // namespace ip2p::testing
