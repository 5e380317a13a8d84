// Fetches a model, or with a second argument only looks it up in the cache, and prints its place: what
// tests/parity/hub_in_huggingface.py compares with huggingface_hub.

#include <cstdio>
#include <exception>

#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/hub_download.hpp"

int main(int argc, char** argv) try {
  if (argc < 2) return 2;
  const auto place = argc > 2 ? ip2p::resolve_model(argv[1]) : ip2p::download_model(argv[1]);
  std::printf("%s\n", place.c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
