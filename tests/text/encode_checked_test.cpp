#include <ATen/ops/zeros.h>

#include <string>
#include <vector>

#include "ip2p/text/concepts.hpp"
#include "support/catch.hpp"

namespace {

struct FixedContext {
  at::Tensor context;
  at::Tensor encode(std::span<const std::string>) const { return context; }
};

}  // namespace

TEST_CASE("A text encoder's result is refused unless it has one row for each prompt", "[text]") {
  const std::vector<std::string> prompts{"make it snowy", ""};
  const auto checked = [&](const at::Tensor& context, std::size_t count = 2) {
    return ip2p::encode_checked(FixedContext{context}, std::span(prompts).first(count));
  };
  CHECK(checked(at::zeros({2, 7, 3})).size(0) == 2);
  CHECK_THROWS_WITH(checked(at::zeros({1, 7, 3})),
                    "text encoder: expected a context [2, tokens, width] in floating point for 2 prompts, found [1, 7, "
                    "3] of Float");
  CHECK_THROWS_WITH(checked(at::zeros({2, 7, 3}), 1), Contains("[1, tokens, width] in floating point for 1 prompt,"));
  CHECK_THROWS_WITH(checked(at::zeros({2, 21})), Contains("found [2, 21] of Float"));
  CHECK_THROWS_WITH(checked(at::zeros({2, 0, 3})), Contains("found [2, 0, 3] of Float"));
  CHECK_THROWS_WITH(checked(at::zeros({2, 7, 3}, at::kLong)), Contains("found [2, 7, 3] of Long"));
  CHECK_THROWS_WITH(checked({}), Contains("found no tensor"));
}
