#pragma once

/// \file
/// Models by their names on the Hugging Face Hub: found in the cache, or fetched where --download allows it.

#include <filesystem>
#include <stop_token>

#include "command_line.hpp"
#include "ip2p/io/hub_files.hpp"

namespace CLI {
class App;
}

namespace example {

/// Adds --download, on which `located` depends.
void add_download(CLI::App& app);

/// Downloads end on this token's request.
void stop_downloads_on(std::stop_token token);

/// The place of a model that an option names: a path as it is, a name on the Hub as the cache holds it. With
/// --download, what is absent is fetched first, under a progress bar. \param wanted what of the model is needed
std::filesystem::path located(const std::filesystem::path& model, const ip2p::HubFilesOptions& wanted = {});

/// The same of a tokenizer's folder.
std::filesystem::path located_tokenizer(const std::filesystem::path& tokenizer);

/// The same of a model, with the autoencoder and the tokenizer that take the place of its own.
ModelOptions located(ModelOptions o);

}  // namespace example
