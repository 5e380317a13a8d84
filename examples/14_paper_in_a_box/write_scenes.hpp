#pragma once

/// \file
/// Sets of the small world on disk: captioned pictures, pairs with known answers, triplets and captions.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "ip2p/io/image_types.hpp"
#include "support/interrupt.hpp"

namespace small_world {

namespace fs = std::filesystem;

class World;

/// How much to write.
struct SceneCounts {
  std::int64_t training = 3000;  ///< Captioned pictures.
  std::int64_t held_out = 128;   ///< Captioned pictures of captions that are never trained on, each caption once.
  std::int64_t pairs = 500;      ///< Ground truth to train on.
  std::int64_t held_out_pairs = 64;
  std::int64_t triplets = 2000;  ///< For the language model.
  std::int64_t captions = 200;   ///< For it to make triplets of.
};

/// Streams of random numbers, so that no set depends on the size of another.
enum Stream : std::uint64_t {
  training_stream,
  held_out_stream,
  pair_stream,
  held_out_pair_stream,
  text_stream,
  truth_stream
};

/// Captioned pictures in memory.
struct CaptionedPictures {
  std::vector<ip2p::Image> pictures;
  std::vector<std::string> captions;

  /// Reads `folder/captions.jsonl` and the pictures that it names. \throws Error, or Cancelled on a signal
  static CaptionedPictures read(const fs::path& folder, const example::Interrupt& interrupt);

  void write(const fs::path& folder, const example::Interrupt& interrupt) const;
};

/// A digest of the captioned pictures in a folder that `write_scenes` wrote.
std::string scenes_digest(const fs::path& scenes);

/// A few pictures as rows of `columns`.
ip2p::Image contact_sheet(std::span<const ip2p::Image> pictures, std::size_t columns);

/// Writes everything; a function of the world, the counts and the seed. On an exception, the folder is removed.
/// \param out a folder, empty but for the run's record  \throws Cancelled on a signal
void write_scenes(const World& world, const fs::path& out, const SceneCounts& counts, std::uint64_t seed,
                  const example::Interrupt& interrupt);

}  // namespace small_world
