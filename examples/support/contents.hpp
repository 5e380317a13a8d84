#pragma once

/// \file
/// Digests of models and data, by which a run tells whether they are those that it began with, wherever they lie now.

#include <filesystem>
#include <span>
#include <string>

#include "ip2p/io/model_files.hpp"

namespace example {

/// The SHA-256 of a file. \throws Error if it cannot be read
std::string sum_of_file(const std::filesystem::path& path);

/// Of all bytes of a file: the beginning of its sum. \throws Error if it cannot be read
std::string file_digest(const std::filesystem::path& path);

/// Of what is added to a model, FILE or FILE:SCALE, with the scale as it was typed.
std::string addition_digest(const std::string& text);

/// Of files' names and sizes, and of their bytes: all of small ones, parts of large ones.
/// \throws Error if one cannot be read
std::string files_digest(std::span<const std::filesystem::path> paths);

/// The same of the configurations, vocabularies and weights that lie in a folder, as those of a language model.
std::string folder_digest(const std::filesystem::path& folder);

/// The same of the pictures that lie in a folder, and of the lists of them.
std::string pictures_digest(const std::filesystem::path& folder);

/// Of a model's configurations, its tokenizer and its weights: names, shapes and parts of the values.
std::string model_digest(const ip2p::ModelFiles& files);

/// Of a set of pairs: its lists (seeds.json, shards.json, metadata.jsonl), or without any, the names in it.
std::string pairs_digest(const std::filesystem::path& set);

}  // namespace example
