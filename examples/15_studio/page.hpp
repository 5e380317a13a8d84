#pragma once

/// \file
/// The documents that the program holds: the page and the description of the interface.

#include <string>
#include <string_view>

namespace studio {

/// The page, with its style and its script in it.
extern const std::string_view page_document;

/// docs/reference/studio-api.yaml.
extern const std::string_view interface_document;

/// The Content-Security-Policy of a page: what is in it, by its sum, and nothing from elsewhere.
std::string policy_of(std::string_view page);

}  // namespace studio
