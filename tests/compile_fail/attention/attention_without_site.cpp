// expect-error: ip2p: AttentionPolicy needs `Tensor operator\(\)\(const AttentionSite&, .*; see docs/reference/concepts.md#attentionpolicy
// expect-lines: 15
#include <ip2p/attention/concepts.hpp>

namespace attention_without_site {

struct Sharpened {
#ifdef IP2P_CORRECTED
  at::Tensor operator()(const ip2p::AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const;
#else
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;
#endif
};

void use() { ip2p::require_attention_policy<Sharpened>(); }

}  // namespace attention_without_site
