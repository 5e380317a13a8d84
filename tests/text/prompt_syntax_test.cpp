#include "ip2p/text/prompt_syntax.hpp"

#include <ATen/ops/full.h>

#include <cmath>
#include <string>
#include <vector>

#include "ip2p/pipeline/load.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "support/reference.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

/// "text|weight" of each part.
std::string parts_of(const std::string& prompt) {
  std::string all;
  for (const auto& part : parse_prompt(prompt).parts) all += fmt::format("{}|{:.4g};", part.text, part.weight);
  return all;
}

ClipTextEncoder marked_encoder(bool marks) {
  auto encoder = load<ClipTextEncoder>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")));
  encoder.read_marks(marks);
  return encoder;
}

}  // namespace

TEST_CASE("A prompt's marks are read as the web UI reads them", "[text]") {
  CHECK(parts_of("") == "");
  CHECK(parts_of("make it snowy") == "make it snowy|1;");
  CHECK(parts_of("a (red:1.5) car") == "a |1;red|1.5; car|1;");
  CHECK(parts_of("a (red: 1.5 ) car") == "a |1;red|1.5; car|1;");
  CHECK(parts_of("(a)[b]((c))[[d]]") == "a|1.1;b|0.9091;c|1.21;d|0.8264;");
  CHECK(parts_of("(a (b:2) c)") == "a |1.1;b|2.2; c|1.1;");
  CHECK(parts_of("(not closed") == "not closed|1.1;");
  CHECK(parts_of("a) smile :) b]") == "a) smile :) b]|1;");
  CHECK(parts_of("(ratio 4:3 film)") == "ratio 4:3 film|1.1;");
  CHECK(parts_of("\\(a\\) \\[b\\] \\\\ \\n") == "(a) [b] \\ \\n|1;");
  CHECK(parts_of("(a \\(b\\):0.5)") == "a (b)|0.5;");
  CHECK(parts_of("(dark:-1)") == "dark|-1;");
  CHECK(parse_prompt("plain \\(words\\)").plain());
  CHECK_FALSE(has_prompt_marks("make it snowy, 4:3"));

  for (const auto& [prompt, message] : std::vector<std::pair<std::string, std::string>>{
           {"(a:0,5)", "expected a number as the weight, as in (word:1.5), found '0,5'"},
           {"(a:1e9)", "expected a weight from -100 to 100"},
           {"[cat:dog:0.5]", "which would change words during the run"},
           {"[cat|dog]", "which would change words during the run"}}) {
    CHECK_THROWS_WITH(parse_prompt(prompt), Contains(message));
  }
}

TEST_CASE("A prompt's LoRAs are taken out of it", "[text]") {
  const auto parsed = parse_prompt("<lora:ink:0.8> a (red:1.2) car <lora:soft light> at dusk");
  CHECK((parsed.loras == std::vector<PromptLora>{{"ink", 0.8}, {"soft light", 1.0}}));
  CHECK(parsed.text() == "a red car at dusk");
  const auto [words, loras] = without_loras("a (red:1.2) \\<lora:x:1> <lora:ink:-0.5>");
  CHECK(words == "a (red:1.2) \\<lora:x:1> ");
  CHECK((loras == std::vector<PromptLora>{{"ink", -0.5}}));
  CHECK(parse_prompt("\\<lora:x:1>").text() == "<lora:x:1>");
  for (const char* wrong : {"<lora:x", "<lora::1>", "<lora:x:y>", "<lora:x:0,8>"}) {
    INFO(wrong);
    CHECK_THROWS_WITH(parse_prompt(wrong), Contains("expected a LoRA as <lora:name:0.8>"));
  }
}

TEST_CASE("ClipTextEncoder weights words and keeps the mean, and leaves other prompts alone", "[text]") {
  const at::NoGradGuard no_grad;
  const auto plain = marked_encoder(false), marked = marked_encoder(true);
  const auto of = [](const ClipTextEncoder& encoder, const std::string& prompt) {
    return encoder.encode(std::vector{prompt});
  };
  for (const std::string prompt : {"", "make it snowy", "a photo: 4:3, isn't it?"}) {
    CHECK(of(marked, prompt).equal(of(plain, prompt)));
  }
  CHECK(of(marked, "make \\(it\\) snowy").equal(of(plain, "make (it) snowy")));
  CHECK(of(marked, "make it (snowy:1)").equal(of(plain, "make it snowy")));

  const std::vector<std::int64_t> before = marked.tokenizer().tokenize("make it ");
  const std::vector<std::int64_t> word = marked.tokenizer().tokenize("snowy");
  const auto unweighted = of(plain, "make it snowy");
  auto factors = at::full({1, 77, 1}, 1.0);
  factors.narrow(1, 1 + static_cast<std::int64_t>(before.size()), static_cast<std::int64_t>(word.size())).fill_(1.6);
  const auto scaled = unweighted * factors;
  const auto expected = scaled * (unweighted.mean() / scaled.mean());
  const auto found = of(marked, "make it (snowy:1.6)");
  CHECK(max_difference(found, expected) < 1e-5);
  CHECK(max_difference(found, unweighted) > 1e-2);
  CHECK(found.mean().item<double>() == Approx(unweighted.mean().item<double>()).epsilon(1e-3));

  // A batch is its prompts one by one, and only the weighted ones change.
  const auto batch = marked.encode(std::vector<std::string>{"make it snowy", "make it (snowy:1.6)"});
  CHECK(max_difference(batch.narrow(0, 0, 1), unweighted) < 1e-5);
  CHECK(max_difference(batch.narrow(0, 1, 1), expected) < 1e-5);
  CHECK_THROWS_WITH(of(marked, "<lora:ink> snow"), Contains("found the LoRA 'ink'"));

  // Too long: the weights stay with their tokens.
  std::string words;
  for (int i = 0; i < 90; ++i) words += "snowy ";
  const auto tokens = weighted_tokens(marked.tokenizer(), "(" + words + ":2)");
  CHECK(tokens.tokens.truncated);
  REQUIRE(tokens.weights.size() == 77);
  CHECK((tokens.weights[0] == 1 && tokens.weights[1] == 2 && tokens.weights[75] == 2 && tokens.weights[76] == 1));
}
