#include "ip2p/testing/check_attention.hpp"

#include <ATen/ops/rand_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <string>

#include "ip2p/testing/archetypes.hpp"
#include "support/catch.hpp"

// The kit must notice each broken law: the policy below keeps all laws but one.

namespace {

using namespace ip2p;
using testing::check_attention;

enum class AttentionDefect {
  none,
  shape,
  dtype,
  changes_v,
  impure,
  wanders,
  whole_batch,
  first_row,
  offset,
  own_width
};

template <AttentionDefect defect>
struct Flawed {
  static constexpr bool uniform_over_branches = true;
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    if (defect == AttentionDefect::changes_v) v.mul_(1.25);
    if (defect == AttentionDefect::own_width && v.size(3) != q.size(3)) {
      return at::zeros({q.size(0), q.size(1), q.size(2), v.size(3)}, v.options());
    }
    at::Tensor result = PlainAttention{}(site, q, k, v);
    if (defect == AttentionDefect::shape) return result.transpose(1, 2);
    if (defect == AttentionDefect::dtype) return result.to(at::kFloat);
    if (defect == AttentionDefect::impure) return result.add(at::rand_like(result), 1e-3);
    if (defect == AttentionDefect::wanders && site.cross) return result.mul(1.5);
    if (defect == AttentionDefect::whole_batch) return result.add(result.mean(0, true));
    if (defect == AttentionDefect::first_row) {
      // Only the rows of the first branch: groups agree, branches do not.
      const auto blocks = std::max<std::int64_t>(1, static_cast<std::int64_t>(site.branches.size()));
      result = result.clone();
      if (blocks > 1) result.unflatten(0, {blocks, -1})[1].mul_(2.0);
    }
    if (defect == AttentionDefect::offset) return result.add(0.5);
    return result;
  }
};

template <AttentionDefect defect>
void require_attention_broken(const std::string& law, const testing::AttentionCheck& check = {}) {
  REQUIRE_THROWS_WITH(check_attention(Flawed<defect>{}, check),
                      Catch::Matchers::Contains("AttentionPolicy breaks the law \"" + law));
}

}  // namespace

TEST_CASE("check_attention accepts the archetype and plain attention", "[testing]") {
  const testing::AttentionCheck nothing{.group = 2, .tokens = 9, .edits = [](const AttentionSite&) { return false; }};
  check_attention(testing::AttentionArchetype(0), nothing);
  check_attention(PlainAttention{}, nothing);
  check_attention(Flawed<AttentionDefect::none>{}, nothing);
}

TEST_CASE("check_attention names the broken law", "[testing]") {
  require_attention_broken<AttentionDefect::shape>("the result has the shape of q");
  require_attention_broken<AttentionDefect::dtype>("the dtype is kept");
  require_attention_broken<AttentionDefect::changes_v>("arguments are not changed");
  require_attention_broken<AttentionDefect::impure>("equal calls give equal bits");
  require_attention_broken<AttentionDefect::wanders>("sites that the edit does not want stay untouched",
                                                     {.edits = [](const AttentionSite& site) { return !site.cross; }});
  require_attention_broken<AttentionDefect::whole_batch>("a batch of groups equals the groups one by one");
  require_attention_broken<AttentionDefect::first_row>("a policy that is uniform over branches");
  require_attention_broken<AttentionDefect::offset>("the result is linear in the values");
  require_attention_broken<AttentionDefect::own_width>("values may be of another width");
}

TEST_CASE("check_attention leaves out linearity if a policy does not claim it", "[testing]") {
  check_attention(Flawed<AttentionDefect::offset>{}, {.linear_in_values = false});
  REQUIRE_THROWS(check_attention(Flawed<AttentionDefect::whole_batch>{}, {.linear_in_values = false}));
}
