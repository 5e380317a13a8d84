// One self-attention layer of the UNet at 512 pixels under an injected edit: two images in two branches, 8 heads, as
// the layer calls its policy (queries, keys and values are views of one projection; heads are merged after it).

#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <utility>
#include <vector>

#include "ip2p/attention/self_replace.hpp"
#include "support/settings.hpp"

namespace {

constexpr std::int64_t rows = 4;
constexpr std::int64_t heads = 8;

/// The edit as published: the source's map, computed once for each group.
struct ExplicitMaps {
  at::Tensor operator()(const ip2p::AttentionSite&, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    const auto source = [](const at::Tensor& x) { return x.unflatten(0, {-1, 2}).narrow(1, 0, 1); };
    const auto logits =
        at::matmul(source(q).mul(1.0 / std::sqrt(static_cast<double>(q.size(3)))), source(k).transpose(-2, -1));
    return at::matmul(at::softmax(logits, -1), v.unflatten(0, {-1, 2})).flatten(0, 1);
  }
};

template <class Attention>
void layer(benchmark::State& state) {
  const auto tokens = state.range(0);
  const auto width = state.range(1);
  const auto dtype = ip2p::bench::dtype_of(state.range(2));
  const auto projected = at::randn({rows, tokens, 3, heads, width}).to(dtype);
  const auto part = [&](std::int64_t i) { return projected.select(2, i).transpose(1, 2); };
  const std::vector<ip2p::Branch> branches{{true, true}, {false, true}};
  const ip2p::AttentionSite site{.step = {.index = 0, .count = 100}, .branches = branches};
  for (auto _ : state) {
    benchmark::DoNotOptimize(Attention{}(site, part(0), part(1), part(2)).transpose(1, 2).flatten(2));
  }
  state.SetLabel(ip2p::bench::dtype_name(state.range(2)));
  // Memory for the maps of all rows, in that dtype.
  state.counters["map_MiB"] =
      static_cast<double>(rows * heads * tokens * tokens * projected.element_size()) / 1048576.0;
}

void shapes(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t dtype : {0, 1}) {
    for (const auto& [tokens, width] : {std::pair{4096, 40}, std::pair{1024, 80}, std::pair{256, 160}}) {
      bench->Args({tokens, width, dtype});
    }
  }
  bench->ArgNames({"tokens", "width", "dtype"})->Unit(benchmark::kMillisecond)->UseRealTime();
}

}  // namespace

BENCHMARK(layer<ip2p::PlainAttention>)->Name("attention/plain")->Apply(shapes);
BENCHMARK(layer<ip2p::SelfReplace>)->Name("attention/self_replace")->Apply(shapes);
BENCHMARK(layer<ExplicitMaps>)->Name("attention/explicit_maps")->Apply(shapes);
