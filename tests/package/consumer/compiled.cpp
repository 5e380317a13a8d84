// Links the compiled component: opens a model; the definitions for this are in the library.
#include <ip2p/pipeline/open_model.hpp>

#include <cstdint>
#include <cstdio>
#include <vector>

int main(int argc, char** argv) try {
  if (argc != 2) return 2;
  const auto edit = ip2p::open_editor(argv[1]);
  const ip2p::Image grey{64, 64, std::vector<std::uint8_t>(64 * 64 * 3, 128)};
  const auto edited = edit(grey, "make it snowy", {.steps = 1, .seed = 3, .resolution = 64});
  std::printf("edited %lld x %lld\n", static_cast<long long>(edited.width), static_cast<long long>(edited.height));
  return edited.width == 64 ? 0 : 1;
} catch (const ip2p::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
