#pragma once

/// \file
/// Reads the body of a request, which is as long as it says or comes in chunks.

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace studio {

/// A body that is being sent.
class Body {
 public:
  /// Waits for bytes and gives up to `size` of them; 0 where no more come.
  using Source = std::function<std::size_t(char* data, std::size_t size)>;

  /// \param length nothing for chunks  \param most_bytes that are taken in, with what is around the chunks
  Body(Source source, std::optional<std::size_t> length, std::size_t most_bytes);

  /// \return the next piece, which lasts until the next call; empty at the end
  /// \throws Fault for a body that is too long, is cut off, or has chunks that cannot be read
  [[nodiscard]] std::string_view next();

 private:
  std::string line();
  void begin_chunk();

  Source source_;
  bool chunked_, ended_ = false;
  std::size_t left_;               // of the body, or of the chunk
  std::size_t most_bytes_, room_;  // room for what comes after that
  std::array<char, 16384> piece_;
};

}  // namespace studio
