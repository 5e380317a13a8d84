#include <ATen/ops/empty.h>

#include <fstream>
#include <string>
#include <vector>

#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/load.hpp"
#include "support/reference.hpp"

// Expected values: diffusers' AutoencoderKL, AutoencoderTiny and AutoencoderDC, by tests/parity/make_model_fixtures.py,
// and for TAESD the reference latent and picture that accompany its weights.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

KlAutoencoder kl(at::ScalarType dtype = at::kFloat) {
  return load<KlAutoencoder>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")), {.dtype = dtype});
}

/// uint8 pixels to [-1,1], as both codecs take them.
at::Tensor to_signed(const at::Tensor& pixels) { return pixels.to(at::kFloat) * 2 / 255 - 1; }

/// The fp32 values of a NumPy file (format 1.0, little-endian, C order), in the given shape.
at::Tensor read_numpy(const std::filesystem::path& path, const std::vector<std::int64_t>& shape) {
  std::ifstream stream(path, std::ios::binary);
  std::string start(10, '\0');
  stream.read(start.data(), 10);
  REQUIRE(start.substr(1, 5) == "NUMPY");
  const auto length = static_cast<unsigned char>(start[8]) + 256 * static_cast<unsigned char>(start[9]);
  std::string header(static_cast<std::size_t>(length), '\0');
  stream.read(header.data(), length);
  REQUIRE(header.find("'<f4'") != std::string::npos);
  REQUIRE(header.find("'fortran_order': False") != std::string::npos);
  auto values = at::empty(shape);
  stream.read(static_cast<char*>(values.data_ptr()), static_cast<std::streamsize>(values.nbytes()));
  REQUIRE(stream.good());
  REQUIRE(stream.peek() == std::ifstream::traits_type::eof());
  return values;
}

}  // namespace

TEST_CASE("KlAutoencoder equals diffusers' AutoencoderKL", "[codec][parity]") {
  const at::NoGradGuard no_grad;
  const auto codec = kl();
  CHECK(codec.downscale() == 8);
  CHECK(codec.scaling_factor() == 0.18215);
  const auto file = SafetensorsFile::open(fixture("codec/fixtures/autoencoder-kl-expected.safetensors"));
  for (const std::string name : {"square", "odd"}) {  // "odd": sides 72 and 40, odd multiples of 8
    INFO(name);
    const auto images = to_signed(file.tensor(name + ".images"));
    const auto moments = codec.encode_moments(images);
    CHECK(max_difference(moments.mean, file.tensor(name + ".mean")) < 2e-4);
    CHECK(max_difference(moments.logvar, file.tensor(name + ".logvar")) < 2e-4);
    CHECK(max_difference(codec.encode(images), moments.mean) == 0);
    CHECK(max_difference(codec.decode(file.tensor(name + ".latents")), file.tensor(name + ".decoded")) < 2e-4);
  }
}

TEST_CASE("KlAutoencoder evaluates a batch like its images one by one", "[codec]") {
  const at::NoGradGuard no_grad;
  const auto codec = kl();
  const auto file = SafetensorsFile::open(fixture("codec/fixtures/autoencoder-kl-expected.safetensors"));
  const auto images = to_signed(file.tensor("odd.images"));
  const auto latents = file.tensor("odd.latents");
  const auto encoded = codec.encode(images);
  const auto decoded = codec.decode(latents);
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    CHECK(max_difference(codec.encode(images.narrow(0, i, 1)), encoded.narrow(0, i, 1)) < 1e-4);
    CHECK(max_difference(codec.decode(latents.narrow(0, i, 1)), decoded.narrow(0, i, 1)) < 1e-4);
  }
}

TEST_CASE("KlAutoencoder in bf16 stays close to the fp32 reference", "[codec][parity]") {
  const at::NoGradGuard no_grad;
  const auto codec = kl(at::kBFloat16);
  const auto file = SafetensorsFile::open(fixture("codec/fixtures/autoencoder-kl-expected.safetensors"));
  CHECK(relative_rms(codec.encode(to_signed(file.tensor("square.images"))), file.tensor("square.mean")) < 0.1);
  CHECK(relative_rms(codec.decode(file.tensor("square.latents")), file.tensor("square.decoded")) < 0.1);
}

TEST_CASE("TinyAutoencoder equals diffusers' AutoencoderTiny", "[codec][parity]") {
  const at::NoGradGuard no_grad;
  const auto codec = load<TinyAutoencoder>(ModelFiles::open(fixture("codec/fixtures/tiny-autoencoder")));
  const auto file = SafetensorsFile::open(fixture("codec/fixtures/tiny-autoencoder-expected.safetensors"));
  CHECK(max_difference(codec.encode(to_signed(file.tensor("images"))), file.tensor("encoded")) < 2e-4);
  CHECK(max_difference(codec.decode(file.tensor("latents")), file.tensor("decoded")) < 2e-4);
}

TEST_CASE("DcAutoencoder equals diffusers' AutoencoderDC", "[codec][parity]") {
  const at::NoGradGuard no_grad;
  const auto file = SafetensorsFile::open(fixture("codec/fixtures/dc-autoencoder-expected.safetensors"));
  for (const std::string name : {"dc-autoencoder", "dc-autoencoder-full"}) {  // without and with blocks at full size
    INFO(name);
    const auto codec = load<DcAutoencoder>(ModelFiles::open(fixture("codec/fixtures/" + name)));
    CHECK(codec.downscale() == (name == "dc-autoencoder" ? 8 : 2));
    CHECK(max_difference(codec.encode(to_signed(file.tensor(name + ".images"))), file.tensor(name + ".encoded")) <
          2e-4);
    CHECK(max_difference(codec.decode(file.tensor(name + ".latents")), file.tensor(name + ".decoded")) < 2e-4);
  }
}

TEST_CASE("TinyAutoencoder with TAESD's published weights reproduces its reference latent and picture",
          "[codec][parity][data]") {
  const auto data = shared_data();
  if (!data || !std::filesystem::exists(*data / "taesd")) {
    WARN("skipped: TAESD's weights are not here (set IP2P_TEST_DATA)");
    return;
  }
  const at::NoGradGuard no_grad;
  const auto folder = *data / "taesd";
  const auto codec = load<TinyAutoencoder>(ModelFiles::open(folder));

  const auto picture = to_tensor(read_image(folder / "astronaut128.png")).unsqueeze(0);
  const auto latent = read_numpy(folder / "latent_4x16x16_f32.npy", {1, 4, 16, 16});
  const auto decoded = read_numpy(folder / "decoded_3x128x128_f32.npy", {1, 3, 128, 128});  // in [0,1], not clamped
  CHECK(max_difference(codec.encode(to_signed(picture)), latent) < 2e-4);
  CHECK(max_difference((codec.decode(latent) + 1) / 2, decoded) < 2e-4);
}
