#include "ip2p/nn/prepare.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/randn.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ip2p/kernels/cpu/winograd.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

/// Counts what is asked of it.
struct Counting : Module, Freezable {
  void freeze() override { frozen_ = true; }
  void thaw() override { frozen_ = false; }
  [[nodiscard]] bool frozen() const override { return frozen_; }
  void prepare() override {
    ++prepared;
    if (fails) throw std::runtime_error("it cannot be prepared");
  }
  std::atomic<int> prepared = 0;
  bool fails = false;

 private:
  bool frozen_ = false;
};

/// Convolutions that take Winograd's form and ones that do not.
struct Layers : Module {
  Layers() {
    for (const auto channels : {32, 48, 64, 33, 40}) {
      convs.push_back(register_module("conv" + std::to_string(convs.size()),
                                      std::make_shared<Conv2d>(channels, 2 * channels, 3, 1, 1)));
    }
    convs.push_back(register_module("pointwise", std::make_shared<Conv2d>(32, 32, 1)));
    convs.push_back(register_module("strided", std::make_shared<Conv2d>(32, 32, 3, 2, 1)));
    initialise(*this, 9);
    for (const auto& conv : convs) conv->freeze();
  }
  std::vector<std::shared_ptr<Conv2d>> convs;
};

}  // namespace

TEST_CASE("Every frozen layer is prepared once, in any number of threads", "[nn]") {
  Module all;
  std::vector<std::shared_ptr<Counting>> layers;
  for (int i = 0; i < 9; ++i) {
    layers.push_back(all.register_module("layer" + std::to_string(i), std::make_shared<Counting>()));
    if (i != 4) layers.back()->freeze();
  }
  const auto threads = at::get_num_threads();
  for (int round = 1; round <= 3; ++round) {
    at::set_num_threads(round);
    prepare(all);
    for (int i = 0; i < 9; ++i) CHECK(layers[static_cast<std::size_t>(i)]->prepared == (i == 4 ? 0 : round));
  }
  layers[6]->fails = true;
  CHECK_THROWS_WITH(prepare(all), Catch::Contains("it cannot be prepared"));
  at::set_num_threads(threads);
}

TEST_CASE("A prepared layer has the form and gives the bits of one that was called", "[nn]") {
  const at::NoGradGuard no_grad;
  Layers called, prepared;
  prepare(prepared);
  for (std::size_t i = 0; i < called.convs.size(); ++i) {
    const auto& conv = *called.convs[i];
    INFO("convolution " << i);
    const auto settled = prepared.convs[i]->weight;
    const auto x = at::randn({2, conv.weight.size(1), 7, 6}).contiguous(at::MemoryFormat::ChannelsLast);
    CHECK((*prepared.convs[i])(x).equal(conv(x)));
    CHECK(prepared.convs[i]->weight.is_mkldnn() == conv.weight.is_mkldnn());
    if (ip2p::detail::cpu::is_winograd_weight(conv.weight)) CHECK(prepared.convs[i]->weight.is_same(settled));
    CHECK(prepared.convs[i]->plain_weight().equal(conv.plain_weight()));
  }
}

TEST_CASE("A layer that is told to convolve directly, or is not frozen, stays as it is", "[nn]") {
  Layers layers;
  layers.convs[0]->set_form(ConvolutionForm::direct);
  layers.convs[1]->thaw();
  prepare(layers);
  CHECK(layers.convs[0]->weight.is_contiguous());
  CHECK(layers.convs[1]->weight.is_contiguous());
}

TEST_CASE("The order of Winograd's weights is that of LibTorch's copy, for any sizes and threads, and can be undone",
          "[nn]") {
  namespace cpu = ip2p::detail::cpu;
  const auto threads = at::get_num_threads();
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    for (const std::int64_t out : {16, 32, 112}) {
      for (const std::int64_t in : {1, 7, 8, 33}) {
        const auto weight = at::arange(out * in * 9, at::kFloat).view({out, in, 3, 3});
        const auto expected = weight.view({out / 16, 16, in, 3, 3}).permute({0, 2, 3, 4, 1});
        const auto found = cpu::winograd_weight(weight);
        CHECK(cpu::is_winograd_weight(found));
        CHECK(found.equal(expected));
        CHECK(cpu::winograd_weight(weight.contiguous(at::MemoryFormat::ChannelsLast)).equal(expected));
        CHECK(cpu::winograd_weight(weight.permute({0, 1, 3, 2})).equal(expected.permute({0, 1, 3, 2, 4})));
        CHECK(cpu::plain_weight(found).equal(weight));
        CHECK(cpu::plain_weight(found).is_contiguous());
      }
    }
  }
  at::set_num_threads(threads);
}
