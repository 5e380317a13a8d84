// Uses parts that need every library that ip2p links to: tensors, messages, and a picture file.
#include <ip2p/io/image.hpp>
#include <ip2p/version.hpp>

#include <ATen/ops/full.h>

#include <cstdio>
#include <filesystem>

int main() {
  const auto path = std::filesystem::current_path() / "grey.png";
  ip2p::write_image(path, ip2p::from_tensor(at::full({3, 2, 5}, 77, at::kByte)));
  const at::Tensor read = ip2p::to_tensor(ip2p::read_image(path));
  if (!read.eq(77).all().item<bool>()) return 1;
  try {
    ip2p::read_image("absent.png");
    return 1;
  } catch (const ip2p::Error&) {
  }
  std::printf("ip2p %s read a picture of %s\n", ip2p::version, ip2p::shape_text(read.sizes()).c_str());
}
