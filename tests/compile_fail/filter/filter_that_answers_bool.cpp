// expect-error: ip2p: PairFilter needs `Verdict operator\(\)\(const CandidatePair&\) const`; see docs/reference/concepts.md#pairfilter
// expect-lines: 32
#include <ip2p/filter/all_of.hpp>

namespace filter_that_answers_bool {

struct LongCaption {
#ifdef IP2P_CORRECTED
  ip2p::Verdict operator()(const ip2p::CandidatePair& pair) const;
#else
  bool operator()(const ip2p::CandidatePair& pair) const;
#endif
};

ip2p::Verdict use(const ip2p::CandidatePair& pair) { return ip2p::AllOf(ip2p::ImageSimilarity{}, LongCaption{})(pair); }

}  // namespace filter_that_answers_bool
