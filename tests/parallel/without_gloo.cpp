// What a program says that was compiled without Gloo's headers.
#undef IP2P_HAS_GLOO

#include <cstdio>
#include <string>

#include "ip2p/parallel/launch.hpp"

int main() {
  if (ip2p::launch(ip2p::ProcessPlace{}).size() != 1) return 1;
  try {
    ip2p::launch(ip2p::ProcessPlace{.rank = 0, .size = 2, .address = "127.0.0.1", .port = 1});
  } catch (const ip2p::Error& error) {
    std::puts(error.what());
    const std::string words = error.what();
    return words.find("found 2 processes") != words.npos && words.find("libgloo-dev") != words.npos ? 0 : 1;
  }
  return 1;
}
