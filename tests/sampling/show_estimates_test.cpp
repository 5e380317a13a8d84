#include "ip2p/sampling/show_estimates.hpp"

#include <ATen/ops/equal.h>

#include <cstdint>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/sampling/heun.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "support/catch.hpp"

TEST_CASE("ShowEstimates shows the last estimate of each step and changes nothing", "[sampling]") {
  const std::vector<double> sigmas{10, 4, 1, 0};
  const auto denoiser = [](const at::Tensor& x, const ip2p::Step& step) { return x.div(1 + step.sigma * step.sigma); };
  for (const char* name : {"euler-ancestral", "heun", "ddim"}) {
    const auto base = ip2p::AnySampler::named(name);
    ip2p::CounterNoise noise(3);
    const auto x = noise.normal({2, 4, 3, 3}, 0).mul(10);
    std::vector<std::int64_t> shown, stepped;
    at::Tensor last;
    const ip2p::ShowEstimates<ip2p::AnySampler> watched{base, [&](const ip2p::Step& step, const at::Tensor& x0) {
                                                          shown.push_back(step.index);
                                                          last = x0;
                                                        }};
    ip2p::RunHooks hooks;
    hooks.on_step = [&](const ip2p::Step& step, const at::Tensor&) { stepped.push_back(step.index); };
    const auto result = watched.sample(denoiser, x, sigmas, noise, hooks);
    CHECK(at::equal(result, base.sample(denoiser, x, sigmas, noise)));
    CHECK(shown == std::vector<std::int64_t>{0, 1, 2});
    CHECK(stepped == shown);
    CHECK(at::equal(last, result));  // the step to 0 ends at the estimate
  }
}

TEST_CASE("ShowEstimates keeps the laws of a sampler", "[sampling]") {
  ip2p::testing::check_sampler(ip2p::ShowEstimates<ip2p::EulerAncestral>{});
  ip2p::testing::check_sampler(ip2p::ShowEstimates<ip2p::Heun>{});
}
