#include "ip2p/io/sha.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

/// The sum of a text that is added in pieces of `piece` bytes.
template <class Sha>
std::string sum_of(const std::string& text, std::size_t piece) {
  Sha sum;
  for (std::size_t i = 0; i < text.size(); i += piece) {
    sum.add(std::as_bytes(std::span(text).subspan(i, std::min(piece, text.size() - i))));
  }
  return sum.finish();
}

struct Known {
  std::string text, sha1, sha256;
};

/// `length` bytes, of which Python's hashlib gave the sums below.
std::string counting(std::size_t length) {
  std::string text;
  for (std::size_t i = 0; i < length; ++i) text += static_cast<char>(i * 7 + 3);
  return text;
}

}  // namespace

TEST_CASE("Sums are those of FIPS 180-4 and of Python's hashlib, however the bytes are cut", "[io]") {
  const std::vector<Known> known{
      {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d",
       "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {counting(55), "ddf57317ef34bfee3b6df83d359098930eb278bc",
       "e7313d333c272e639f790978283f9eb392e843d0f29b7016828bb1daa4aac70b"},
      {counting(56), "a0d492bb0fc889d0eca3bc137066ab6f4f74f369",
       "4324d65f3c103567f5589c710bc08f8523f929a9272e3af36fc968e52abc6c27"},
      {counting(63), "c55856749bef509bdfe6bfebfc7bf4e793e82132",
       "81c80242132f230c3bd41b3e63bbcff16107339549214a99614ff26664625055"},
      {counting(64), "bede92be29c3874e1b54ddc77988d606fc857a8e",
       "39e3d7b6b5d075d37d053ad89b24b41bef4f3c29760c84447cab3f3be1882241"},
      {counting(65), "b05a80522b053d6dc7e0a517d0e70212c7dad11f",
       "aacca6ff74fdbb296d165a45cecfa04e5127bc008770fbbdd48006f2d2fae95e"},
      {counting(119), "504e27376a6e0f0dba8295b85cb25dc4dfa17d23",
       "9ce7368e4daf32341631b492e80359dc9f594b48453cd0dd5bf0b19279cc177e"},
      {counting(120), "82134b02fb3f702491be9bed581eeab59334acb2",
       "7836b787757e95e58b3ca5aec90b1b004e8deba1e50e9675af9cabf1a13a04b5"},
      {counting(1000), "4231a8a50a10fa9758db8ec71fdef855b751048a",
       "1e9bc38cbf860b9ec31918b065f9b52476c549a782e0e7990bed8ce3868d2371"},
      {std::string(1000000, 'a'), "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}};
  for (const auto& [text, sha1, sha256] : known) {
    for (const std::size_t piece : {1, 7, 64, 100, 4096}) {
      if (text.size() > 2000 && piece < 100) continue;
      CAPTURE(text.size(), piece);
      CHECK(sum_of<ip2p::detail::Sha1>(text, piece) == sha1);
      CHECK(sum_of<ip2p::detail::Sha256>(text, piece) == sha256);
    }
  }
}
