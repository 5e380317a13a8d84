#pragma once

/// \file
/// The settings that a picture was made with, written into its file beside the pixels.
///
/// | Format | for people and other programs | for machines |
/// |---|---|---|
/// | PNG | text chunk `parameters` | text chunk `ip2p` |
/// | JPEG, WebP | EXIF `UserComment` | XMP attribute `ip2p:settings` |
///
/// The first is where the Stable Diffusion front ends write and look for it. The files are changed after they were
/// encoded, so it does not matter which library encoded them.

#include <ip2p/io/image.hpp>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ip2p {

/// What a picture file says about how the picture was made. Both are UTF-8, and either may be empty.
struct PictureSettings {
  std::string text;  ///< As the Stable Diffusion front ends write it.
  std::string json;  ///< Of ip2p's programs; see docs/reference/picture-settings.md.

  friend bool operator==(const PictureSettings&, const PictureSettings&) = default;
};

/// A picture file with settings in it. Pixels and everything else in the file stay as they are.
/// \param encoded PNG, JPEG or WebP, as `encode_picture` returns it, without settings  \param name of the file in
/// messages
/// \throws Error for settings that are not UTF-8 or hold a zero, that are longer than the format holds (64 KiB in
/// JPEG), and for content of another format
[[nodiscard]] std::vector<std::byte> with_settings(std::span<const std::byte> encoded, const PictureSettings& settings,
                                                   std::string_view name = "picture");

/// The settings in a picture file held in memory, or nothing if it has none.
/// \throws Error for content that is no picture, and for a PNG file that is cut off or fails a checksum; settings of
/// JPEG and WebP files, which have no checksums, count as absent where they are damaged
[[nodiscard]] std::optional<PictureSettings> decode_settings(std::span<const std::byte> content, std::string_view name);

/// The settings in a picture file; see `decode_settings`. Also throws `Error` as `read_picture` does.
[[nodiscard]] std::optional<PictureSettings> read_settings(const std::filesystem::path& path);

/// Writes a picture with its settings; see `write_picture` and `with_settings`.
void write_picture(const std::filesystem::path& path, const Picture& picture, const PictureSettings& settings,
                   int quality = 95);

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else it is linked
#include <ip2p/io/picture_settings_definitions.hpp>
#endif
