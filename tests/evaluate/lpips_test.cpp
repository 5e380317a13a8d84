#include "ip2p/evaluate/lpips.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/state.hpp"
#include "support/reference.hpp"

// Expected values: the lpips package, by tests/parity/make_metric_fixtures.py, with weights that are computed here too.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

/// `hashed` of make_metric_fixtures.py.
at::Tensor hashed(at::IntArrayRef shape, std::uint32_t number, double bound) {
  at::Tensor values = at::zeros(shape);
  auto* out = values.data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 2654435761U + number * 40503U;
    x = (x ^ (x >> 15)) * 2246822519U;
    x = (x ^ (x >> 13)) * 3266489917U;
    x ^= x >> 16;
    out[i] = static_cast<float>((static_cast<double>(x) / 2147483648.0 - 1.0) * bound);
  }
  return values;
}

std::map<std::string, at::Tensor> hashed_weights(const Lpips& model) {
  std::map<std::string, at::Tensor> weights;
  std::uint32_t number = 0;
  for (const auto& [name, tensor] : state_of(model.module())) {
    const auto shape = tensor.sizes();
    if (name.starts_with("lin")) {
      weights[name] = hashed(shape, number, 1.0).abs() / static_cast<double>(shape[1]);
    } else if (shape.size() > 1) {
      weights[name] = hashed(shape, number, std::sqrt(6.0 / static_cast<double>(tensor[0].numel())));
    } else {
      weights[name] = hashed(shape, number, 0.1);
    }
    ++number;
  }
  return weights;
}

}  // namespace

TEST_CASE("Lpips equals the lpips package over AlexNet and VGG-16", "[evaluate][parity]") {
  const at::NoGradGuard no_grad;
  const ScratchDir scratch;
  const auto file = SafetensorsFile::open(fixture("evaluate/fixtures/metrics.safetensors"));
  const auto x = file.tensor("lpips_x").to(at::kFloat) / 127.5 - 1, y = file.tensor("lpips_y").to(at::kFloat);
  const auto expected = read_json(fixture("evaluate/fixtures/metrics.json")).at("lpips");
  for (const auto& [name, network] :
       {std::pair{"alexnet", LpipsNetwork::alexnet}, std::pair{"vgg16", LpipsNetwork::vgg16}}) {
    auto weights = hashed_weights(Lpips(network));
    // As the package saves them: with the constants and with the linear layers a second time.
    weights["scaling_layer.shift"] = weights["scaling_layer.scale"] = at::zeros({1, 3, 1, 1});
    for (const auto& wanted : expected.at(name).at("names")) CHECK(weights.contains(wanted.get<std::string>()));
    weights["lins.0.model.1.weight"] = weights.at("lin0.model.1.weight");
    write_safetensors(scratch / "lpips.safetensors", weights);
    const auto lpips = Lpips::open(scratch / "lpips.safetensors", network);
    const auto found = lpips(x, y);
    const auto values = expected.at(name).at("values");
    REQUIRE(found.sizes() == at::IntArrayRef{2});
    for (std::int64_t i = 0; i < 2; ++i) {
      CHECK(found[i].item<double>() == Approx(values.at(static_cast<std::size_t>(i)).get<double>()).epsilon(1e-4));
    }
    CHECK(lpips(x, x).abs().max().item<double>() == 0.0);
  }
}

TEST_CASE("Lpips refuses pictures too small for features and weights of the other network", "[evaluate]") {
  const ScratchDir scratch;
  const Lpips alexnet;
  const auto small = at::zeros({1, 3, 34, 60});
  CHECK_THROWS_WITH(alexnet(small, small), Contains("of at least 35x35 pixels, found [1, 3, 34, 60]"));
  write_safetensors(scratch / "alex.safetensors", hashed_weights(alexnet));
  CHECK_THROWS_WITH(Lpips::open(scratch / "alex.safetensors", LpipsNetwork::vgg16),
                    Contains("(lpips): the weights do not fit this architecture"));
}
