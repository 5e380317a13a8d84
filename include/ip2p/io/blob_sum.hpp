#pragma once

/// \file
/// The sums by which the Hugging Face Hub names the contents of files.

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "ip2p/io/sha.hpp"

namespace ip2p::detail {

/// The sum by which the Hub names a file: SHA-256 of large files, git's SHA-1 of small ones. Mirrors may name files
/// otherwise; then only the size can be checked.
class BlobSum {
 public:
  BlobSum(std::string name, std::uint64_t size) : name_(std::move(name)) {
    const bool hexadecimal = name_.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (hexadecimal && name_.size() == 64) sha256_.emplace();
    if (hexadecimal && name_.size() == 40) {
      const auto header = fmt::format("blob {}", size);
      sha1_.emplace().add(std::as_bytes(std::span(header.c_str(), header.size() + 1)));  // with the zero at its end
    }
  }

  void add(std::span<const std::byte> bytes) {
    if (sha256_) sha256_->add(bytes);
    if (sha1_) sha1_->add(bytes);
  }

  /// What was expected and what was found, or nothing if the sums are equal. Ends the sum.
  std::optional<std::string> difference() {
    if (!sha256_ && !sha1_) return std::nullopt;
    const auto found = sha256_ ? sha256_->finish() : sha1_->finish();
    if (found == name_) return std::nullopt;
    return fmt::format("expected the {} {}, found {}", sha256_ ? "SHA-256" : "SHA-1", name_, found);
  }

 private:
  std::string name_;
  std::optional<Sha1> sha1_;
  std::optional<Sha256> sha256_;
};

}  // namespace ip2p::detail
