#pragma once

/// \file
/// A check that an option's value is one of a list of names.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace example {

template <class Names>
CLI::IsMember one_of(const Names& names) {
  return CLI::IsMember(std::vector<std::string>(names.begin(), names.end()));
}

}  // namespace example
