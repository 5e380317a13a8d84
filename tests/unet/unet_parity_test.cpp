#include "ip2p/unet/unet.hpp"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "ip2p/pipeline/load.hpp"
#include "support/reference.hpp"

// Expected values: diffusers' UNet2DConditionModel, by tests/parity/make_model_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

UNet sd1(at::ScalarType dtype = at::kFloat) {
  return load<UNet>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")), {.dtype = dtype});
}

struct Case {
  Case(const SafetensorsFile& file, const std::string& name)
      : x(file.tensor(name + ".x")),
        t(file.tensor(name + ".t")),
        context(file.tensor(name + ".context")),
        expected(file.tensor(name + ".out")) {}

  at::Tensor x, t, context, expected;
};

/// Largest error relative to the standard deviation of the reference's output.
double relative_error(const UNet& unet, const Case& c) {
  const at::NoGradGuard no_grad;
  return max_difference(unet(c.x, c.t, c.context), c.expected) / deviation(c.expected);
}

}  // namespace

TEST_CASE("UNet of the SD1 layout with 8 input channels equals diffusers", "[unet][parity]") {
  const auto unet = sd1();
  const auto file = SafetensorsFile::open(fixture("unet/fixtures/sd1-expected.safetensors"));
  // Batches of three with a timestep each, fractional timesteps, maps that are not square, odd at every level.
  for (const std::string name : {"square", "wide", "odd", "large"}) {
    INFO(name);
    CHECK(relative_error(unet, Case(file, name)) < 1e-4);
  }
}

TEST_CASE("UNet of the SD2 layout with 9 input channels equals diffusers", "[unet][parity]") {
  const auto unet = load<UNet>(ModelFiles::open(fixture("unet/fixtures/sd2-inpaint")));
  CHECK(unet.config().use_linear_projection);
  CHECK(unet.config().heads == std::vector<std::int64_t>{1, 2, 3, 4});
  const auto file = SafetensorsFile::open(fixture("unet/fixtures/sd2-expected.safetensors"));
  for (const std::string name : {"square", "odd"}) {
    INFO(name);
    CHECK(relative_error(unet, Case(file, name)) < 1e-4);
  }
}

TEST_CASE("UNet with 4 input channels equals diffusers, also for a short context", "[unet][parity]") {
  const auto unet = load<UNet>(ModelFiles::open(fixture("unet/fixtures/sd1-4ch")));
  const auto file = SafetensorsFile::open(fixture("unet/fixtures/sd1-4ch-expected.safetensors"));
  for (const std::string name : {"square", "short"}) {
    INFO(name);
    CHECK(relative_error(unet, Case(file, name)) < 1e-4);
  }
}

TEST_CASE("UNet gradients of the mean squared output equal diffusers'", "[unet][parity]") {
  const auto unet = load<UNet>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")), {.inference = false});
  const auto file = SafetensorsFile::open(fixture("unet/fixtures/sd1-expected.safetensors"));
  const auto out = unet(file.tensor("gradient.x"), file.tensor("gradient.t"), file.tensor("gradient.context"));
  const auto loss = out.pow(2).mean();
  CHECK(loss.item<double>() == Approx(file.tensor("gradient.loss").item<double>()).epsilon(1e-5));
  loss.backward();

  // Gradients by the names of the published files: fused projections are split into their row blocks again.
  std::map<std::string, at::Tensor> gradients;
  for (const auto& [name, tensor] : unet.module().named_parameters()) {
    REQUIRE(tensor.grad().defined());
    const auto names = ip2p::detail::file_names(name);
    const auto blocks = tensor.grad().chunk(static_cast<std::int64_t>(names.size()), 0);
    for (std::size_t i = 0; i < names.size(); ++i) gradients[names[i]] = blocks[i];
  }

  const auto norms = file.tensor("gradient.norms");
  REQUIRE(static_cast<std::int64_t>(gradients.size()) == norms.numel());
  const auto largest = norms.max().item<double>();
  std::int64_t index = 0;
  for (const auto& [name, gradient] : gradients) {
    INFO(name);
    const auto expected = norms[index++].item<double>();
    CHECK(std::abs(gradient.norm().item<double>() - expected) <= 1e-4 * expected + 1e-6 * largest);
  }

  const std::string prefix = "gradient.of.";
  std::size_t compared = 0;
  for (const auto& key : file.names()) {
    if (key.rfind(prefix, 0) != 0) continue;
    INFO(key);
    const auto expected = file.tensor(key);
    const auto found = gradients.at(key.substr(prefix.size())).reshape(expected.sizes());
    CHECK(max_difference(found, expected) <= 1e-4 * expected.abs().max().item<double>());
    ++compared;
  }
  CHECK(compared == 14);
}

TEST_CASE("UNet evaluates a batch like its samples one by one", "[unet]") {
  const at::NoGradGuard no_grad;
  const auto unet = sd1();
  const Case c(SafetensorsFile::open(fixture("unet/fixtures/sd1-expected.safetensors")), "square");
  const auto whole = unet(c.x, c.t, c.context);
  for (std::int64_t i = 0; i < c.x.size(0); ++i) {
    const auto one = unet(c.x.narrow(0, i, 1), c.t.narrow(0, i, 1), c.context.narrow(0, i, 1));
    CHECK(max_difference(one, whole.narrow(0, i, 1)) < 5e-5 * deviation(whole));
  }
}

TEST_CASE("UNet with projections computed beforehand equals the plain call, and one timestep serves a batch",
          "[unet]") {
  const at::NoGradGuard no_grad;
  const auto unet = sd1();
  const Case c(SafetensorsFile::open(fixture("unet/fixtures/sd1-expected.safetensors")), "square");
  const auto t = c.t.narrow(0, 1, 1);
  const auto shared = unet(c.x, unet.project_time(t), unet.project_context(c.context));
  CHECK(max_difference(shared, unet(c.x, t.expand({3}), c.context)) < 5e-5 * deviation(shared));
}

TEST_CASE("UNet in 16 bits is as close to the fp32 reference as diffusers in 16 bits", "[unet][parity]") {
  const at::NoGradGuard no_grad;
  const auto file = SafetensorsFile::open(fixture("unet/fixtures/sd1-expected.safetensors"));
  const auto rms = [&](at::ScalarType dtype, const char* name) {
    const Case c(file, name);
    return relative_rms(sd1(dtype)(c.x, c.t, c.context), c.expected);
  };
  // diffusers' own distance on these cases: bf16 0.041 to 0.059, fp16 0.003 to 0.0055 of the output's deviation.
  for (const auto* name : {"square", "wide", "odd", "large"}) {
    INFO(name);
    CHECK(rms(at::kBFloat16, name) < 0.08);
    CHECK(rms(at::kHalf, name) < 0.008);
  }
}
