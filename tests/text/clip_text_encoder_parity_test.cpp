#include <string>
#include <vector>

#include "ip2p/pipeline/load.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "support/reference.hpp"

// Expected values: transformers' CLIPTextModel, by tests/parity/make_model_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

ClipTextModel sd1(at::ScalarType dtype = at::kFloat) {
  return load<ClipTextModel>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")), {.dtype = dtype});
}

}  // namespace

TEST_CASE("ClipTextModel with quick_gelu equals transformers' CLIPTextModel", "[text][parity]") {
  const at::NoGradGuard no_grad;
  const auto model = sd1();
  CHECK(model.config().hidden_act == "quick_gelu");
  const auto file = SafetensorsFile::open(fixture("text/fixtures/sd1-text-expected.safetensors"));
  const auto ids = file.tensor("input_ids");
  const auto expected = file.tensor("last_hidden_state");
  const auto found = model(ids);
  CHECK(max_difference(found, expected) < 2e-4);
  for (std::int64_t i = 0; i < ids.size(0); ++i) {
    CHECK(max_difference(model(ids.narrow(0, i, 1)), found.narrow(0, i, 1)) < 1e-4);
  }
}

TEST_CASE("ClipTextModel with gelu in the shape of SD2 equals transformers' CLIPTextModel", "[text][parity]") {
  const at::NoGradGuard no_grad;
  // The names in the file lack the prefix "text_model.", which newer writers omit.
  const auto model = load<ClipTextModel>(ModelFiles::open(fixture("text/fixtures/sd2-text")));
  CHECK(model.config().hidden_act == "gelu");
  const auto file = SafetensorsFile::open(fixture("text/fixtures/sd2-text-expected.safetensors"));
  CHECK(max_difference(model(file.tensor("input_ids")), file.tensor("last_hidden_state")) < 2e-4);
  CHECK(max_difference(model(file.tensor("short_ids")), file.tensor("short_last_hidden_state")) < 2e-4);
}

TEST_CASE("ClipTextEncoder equals CLIPTokenizer and CLIPTextModel on prompts", "[text][parity]") {
  const at::NoGradGuard no_grad;
  const auto encoder = load<ClipTextEncoder>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")));
  std::string long_prompt;
  for (int i = 0; i < 100; ++i) long_prompt += "very ";
  const std::vector<std::string> prompts{
      "", "make it snowy", "turn the photograph into a watercolour painting, with soft light & long shadows",
      "What if it were 1984? Add 12 red balloons; don't change the sky!", long_prompt + "sunny"};
  const auto file = SafetensorsFile::open(fixture("text/fixtures/sd1-text-expected.safetensors"));
  CHECK(encoder.ids(prompts).equal(file.tensor("input_ids")));
  CHECK(max_difference(encoder.encode(prompts), file.tensor("last_hidden_state")) < 2e-4);
}

TEST_CASE("ClipTextModel in bf16 stays close to the fp32 reference", "[text][parity]") {
  const at::NoGradGuard no_grad;
  const auto file = SafetensorsFile::open(fixture("text/fixtures/sd1-text-expected.safetensors"));
  const auto expected = file.tensor("last_hidden_state");
  CHECK(relative_rms(sd1(at::kBFloat16)(file.tensor("input_ids")), expected) < 0.03);
}
