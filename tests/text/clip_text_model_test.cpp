#include "ip2p/text/clip_text_model.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "ip2p/nn/initialise.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

ClipTextModel small_text_model() {
  ClipTextModel model({.vocab_size = 50,
                       .hidden_size = 8,
                       .intermediate_size = 16,
                       .num_hidden_layers = 1,
                       .num_attention_heads = 2,
                       .max_position_embeddings = 7});
  initialise(model.module(), 1);
  return model;
}

}  // namespace

TEST_CASE("ClipTextModel refuses ids that it has no embedding for, and other tensors", "[text]") {
  const at::NoGradGuard no_grad;
  const auto model = small_text_model();
  auto ids = at::zeros({2, 7}, at::kLong);
  ids[1][3] = 49;
  CHECK(model(ids).sizes() == at::IntArrayRef({2, 7, 8}));
  const auto with = [&](std::int64_t id) {
    auto others = ids.clone();
    others[1][2] = id;
    return others;
  };
  CHECK_THROWS_WITH(model(with(50)),
                    Contains("ClipTextModel: ids: expected ids from 0 to 49, found 50 in text 1, token 2"));
  CHECK_THROWS_WITH(model(with(-1)), Contains("expected ids from 0 to 49, found -1"));
  // Rows that are not next to each other in memory.
  CHECK_THROWS_WITH(model(with(50).t().contiguous().t()), Contains("found 50 in text 1, token 2"));
  CHECK_THROWS_WITH(model(at::zeros({2, 8}, at::kLong)), Contains("expected int64 [B, 1 to 7], found [2, 8] of Long"));
  CHECK_THROWS_WITH(model(at::zeros({2, 0}, at::kLong)), Contains("expected int64 [B, 1 to 7], found [2, 0]"));
  CHECK_THROWS_WITH(model(at::zeros({0, 7}, at::kLong)), Contains("expected int64 [B, 1 to 7], found [0, 7]"));
  CHECK_THROWS_WITH(model(at::zeros({7}, at::kLong)), Contains("expected int64 [B, 1 to 7], found [7]"));
  CHECK_THROWS_WITH(model(at::zeros({2, 7})), Contains("expected int64 [B, 1 to 7], found [2, 7] of Float"));
  CHECK_THROWS_WITH(model(at::Tensor()), Contains("found no tensor"));
  CHECK_THROWS_WITH(model(ids.to(at::kMeta)), Contains("expected them on the CPU, where they can be checked"));
}

TEST_CASE("ClipTextModel takes the ids of rows that were added", "[text]") {
  const at::NoGradGuard no_grad;
  auto model = small_text_model();
  CHECK_THROWS_WITH(model(at::full({1, 3}, 51, at::kLong)), Contains("expected ids from 0 to 49"));
  model.add_rows(50, at::zeros({2, 8}));
  CHECK(model(at::full({1, 3}, 51, at::kLong)).size(1) == 3);
  CHECK_THROWS_WITH(model(at::full({1, 3}, 52, at::kLong)), Contains("expected ids from 0 to 51"));
  CHECK_THROWS_WITH(model.add_rows(52, at::Tensor()), Contains("vectors: expected [n, 8], found no tensor"));
}

TEST_CASE("ClipTextConfig refuses more positions and tokens than any model has", "[text]") {
  ClipTextConfig config;
  config.max_position_embeddings = std::numeric_limits<std::int64_t>::max();
  CHECK_THROWS_WITH(config.validate("here"),
                    "here: max_position_embeddings: expected at most 1000000, found "
                    "9223372036854775807");
  config = {.vocab_size = 1'000'000'000};
  CHECK_THROWS_WITH(config.validate("here"), "here: vocab_size: expected at most 1000000, found 1000000000");
}
