#pragma once

/// \file
/// How the programs read photographs and masks, and keep their alpha.

#include <filesystem>
#include <string>

#include "ip2p/io/image_types.hpp"
#include "ip2p/pipeline/fitted_photo.hpp"

namespace CLI {
class App;
}

namespace example {

/// What becomes of alpha, colour profile, orientation and size of a photograph.
struct PictureOptions {
  std::string background = "white";
  double max_megapixels = 64, max_file_megapixels = 256, max_aspect = 64;
  bool ignore_exif = false, ignore_profile = false;
};

void add_picture(CLI::App& app, PictureOptions& o);

/// The library's options; warnings are printed.
ip2p::ReadOptions reading(const PictureOptions& o);

ip2p::Picture read_photo(const std::filesystem::path& path, const PictureOptions& o);

/// A mask in the size of the photograph, which may have been made smaller when it was read. A mask of another shape
/// stays as it is.
ip2p::Image read_mask(const std::filesystem::path& path, const PictureOptions& o, const ip2p::Picture& photo);

/// The same of a mask that was read.
ip2p::Image mask_for(ip2p::Image mask, const ip2p::Picture& photo);

/// An edited picture with the photograph's alpha, brought to its size as the photograph was. The background is taken
/// out of what is half clear. \param after of the photograph's size, or of the size at which `rule` says that it is
/// edited, without what padding added
ip2p::Picture with_alpha_of(const ip2p::Picture& photo, ip2p::Image after, const ip2p::FitRule& rule,
                            const PictureOptions& o);

/// \throws Error unless the format of `out` holds alpha
void check_holds_alpha(const std::filesystem::path& out);

}  // namespace example
