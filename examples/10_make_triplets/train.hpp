#pragma once

/// \file
/// Teaches a language model from triplets.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/language/triplets.hpp"
#include "options.hpp"
#include "support/interrupt.hpp"

namespace make_triplets {

/// Every tenth record is never trained on.
struct Split {
  std::vector<ip2p::Triplet> training, held_out;

  explicit Split(const std::filesystem::path& path) {
    auto all = ip2p::read_triplets(path);
    for (std::size_t i = 0; i < all.size(); ++i) (i % 10 == 9 ? held_out : training).push_back(std::move(all[i]));
    ip2p::require(!held_out.empty(), "{}: expected at least 10 triplets, found {}", path.string(), training.size());
  }
};

/// Trains, or goes on training, and writes the model with its tokenizer.
int train(TrainOptions o, const example::Interrupt& interrupt);

}  // namespace make_triplets
