// Prompts to tokens, as written and as the released program cleans them; the tokenizer is that of IP2P_BENCH_MODEL.

#include "ip2p/text/bpe_tokenizer.hpp"

#include <array>
#include <cstdint>
#include <string_view>

#include "support/model.hpp"
#include "support/settings.hpp"

namespace {

void tokenize(benchmark::State& state) {
  ip2p::bench::with_model(state, [&](const ip2p::ModelFiles& files) {
    const bool released = state.range(0) == 1;
    const auto tokenizer = ip2p::BpeTokenizer::open(
        files.tokenizer(), {.text = released ? ip2p::TokenizerText::released : ip2p::TokenizerText::as_written});
    constexpr std::array<std::string_view, 3> prompts{
        "make it snowy", "turn the statue into marble, at night, in the style of Vincent van Gogh",
        "a photograph of an astronaut riding a horse; highly detailed, 35 mm, f/1.8, shallow depth of field"};
    for (auto _ : state) {
      for (const auto& prompt : prompts) benchmark::DoNotOptimize(tokenizer.encode(prompt));
    }
    state.SetLabel(released ? "released" : "as written");
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(prompts.size()));
  });
}

}  // namespace

BENCHMARK(tokenize)->Name("text/tokenize")->ArgName("released")->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);
