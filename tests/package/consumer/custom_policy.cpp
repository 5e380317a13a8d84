// A user's own policies, written without touching the library: a guidance and an attention.
#include <ip2p/attention/store_maps.hpp>
#include <ip2p/attention/text_only.hpp>
#include <ip2p/guidance/dual_guidance.hpp>
#include <ip2p/testing/conformance.hpp>

#include <ATen/ops/rand.h>

#include <cmath>
#include <cstdio>
#include <numbers>
#include <vector>

struct FadingGuidance {  // the text scale fades to 0
  static constexpr auto branches = ip2p::DualGuidance::branches;
  double image_scale = 1.5, text_scale = 7.5;

  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const {  // [3B,C,h,w] -> [B,C,h,w]
    const double fade = std::cos(step.progress() * std::numbers::pi / 2);
    return ip2p::DualGuidance{image_scale, text_scale * fade}.combine(stacked, step);
  }
};
static_assert(ip2p::GuidancePolicy<FadingGuidance>);

struct MutualAttention {  // pictures of a group show the same thing: they use the first one's keys and values
  static constexpr bool uniform_over_branches = true;
  std::int64_t group = 2;
  std::int64_t first_step = 4;

  at::Tensor operator()(const ip2p::AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {  // q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d]
    if (site.cross || site.step.index < first_step) return ip2p::PlainAttention{}(site, q, k, v);
    const auto of_first = [&](const at::Tensor& x) {
      const auto groups = x.unflatten(0, {-1, group});
      return groups.narrow(1, 0, 1).expand_as(groups).flatten(0, 1);
    };
    return ip2p::PlainAttention{}(site, q, of_first(k), of_first(v));
  }
};
static_assert(ip2p::AttentionPolicy<MutualAttention>);

/// Its laws, and calls by the library: for the text branch alone, and with a recorder.
bool attends() {
  ip2p::testing::check_attention(MutualAttention{}, {.group = 2, .edits = [](const ip2p::AttentionSite& site) {
                                                       return !site.cross && site.step.index >= 4;
                                                     }});
  const auto store = ip2p::StoreMaps{}.start();
  const ip2p::Observed attend(ip2p::TextOnly{MutualAttention{}}, store);
  const std::vector<ip2p::Branch> branches{{true, true}, {false, true}};
  ip2p::AttentionSite site{.height = 3, .width = 4, .step = {.index = 5, .count = 10}, .branches = branches};
  const at::Tensor x = at::rand({4, 2, 12, 8});
  const at::Tensor edited = attend(site, x, x, x);
  const at::Tensor plain = ip2p::PlainAttention{}(site, x, x, x);
  if (edited[1].equal(plain[1]) || !edited[3].equal(plain[3])) return false;
  site.cross = true;
  (void)attend(site, x, x, x);
  return store->maps(3, 4).sizes() == at::IntArrayRef({2, 12, 3, 4});
}

int main() {
  const at::Tensor stacked = at::rand({3 * 2, 4, 3, 5});
  const ip2p::Step first{.index = 0, .count = 10}, last{.index = 9, .count = 10};
  const at::Tensor begun = FadingGuidance{}.combine(stacked, first);
  const at::Tensor ended = FadingGuidance{}.combine(stacked, last);
  if (!begun.equal(ip2p::DualGuidance{}.combine(stacked, first))) return 1;
  if (!ended.allclose(ip2p::DualGuidance{1.5, 0.0}.combine(stacked, last), 1e-5, 1e-5)) return 1;
  if (!attends()) return 1;
  std::printf("a custom policy combined %s\n", ip2p::shape_text(begun.sizes()).c_str());
}
