#pragma once

/// \file
/// The settings of a picture as programs write them into it, and read them back with --like. The form is described in
/// docs/reference/picture-settings.md.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "command_line.hpp"
#include "ip2p/io/picture_settings.hpp"

namespace ip2p {
class OpenedModel;
}

namespace example {

/// Values by the names of the options that would give them, in the order of the page.
using Settings = nlohmann::ordered_json;

/// What was opened, without the folders of files: model, additions, dtype and what changes its results.
Settings model_settings(const ModelOptions& o, const ip2p::OpenedModel& model);

/// The JSON for a picture. \param program that made it  \param options its settings  \param photo the sum of the
/// photograph's file, or empty
Settings settings_json(std::string_view program, const Settings& options, const std::string& photo);

/// Text and JSON for a picture; see `settings_json`. \param options must have those that the front ends know: prompt,
/// steps, sampler, text-scale, seed and model  \param width, height of the picture as the model drew it
ip2p::PictureSettings picture_settings(std::string_view program, const Settings& options, const std::string& photo,
                                       std::int64_t width, std::int64_t height);

/// What the JSON of `settings` holds. \param where the picture's name in messages
/// \throws Error for a picture without settings of this program
Settings parsed_settings(const ip2p::PictureSettings& settings, std::string_view program, std::string_view where);

/// Adds --like: options that are not given get the values that the picture was made with. \param like its path then
void add_like(CLI::App& app, std::string_view program, std::filesystem::path& like);

/// How the first setting that is not the same differs, or nothing. Both as `parsed_settings` returns them.
std::string difference(const Settings& before, const Settings& now);

}  // namespace example
