// The files of CLIP's and GPT-2's tokenizers are refused with an Error, or texts become ids of the vocabulary, and
// these texts again. For CLIP, `max_length` ids that begin with BOS; for GPT-2, decoding is exact without
// added tokens.
//
// The input is vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json, added_tokens.json and
// tokenizer.json, those that are not empty, and a text, separated as fuzz/harness.hpp says.

#include <cstdint>
#include <string>
#include <vector>

#include "fuzz/harness.hpp"
#include "ip2p/language/gpt2_tokenizer.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

void expect_ids(const std::vector<std::int64_t>& ids, std::int64_t size) {
  for (const auto id : ids) fuzz::expect(id >= 0 && id < size, "an id outside of the vocabulary");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::ScratchFolder scratch;
  static constexpr const char* names[] = {
      "vocab.json",        "merges.txt",    "tokenizer_config.json", "special_tokens_map.json",
      "added_tokens.json", "tokenizer.json"};
  const auto files = fuzz::files_of<7>(fuzz::text_of(data, size));
  for (std::size_t i = 0; i < 6; ++i) scratch.hold(names[i], files[i]);
  const std::string text(files[6]);
  fuzz::reads([&] {
    const auto tokenizer = ip2p::BpeTokenizer::open(scratch.path());
    if (tokenizer.max_length() > 100'000) return;
    const auto tokens = tokenizer.encode(text);
    expect_ids(tokens.ids, tokenizer.vocabulary_size());
    fuzz::expect(static_cast<std::int64_t>(tokens.ids.size()) == tokenizer.max_length(), "another number of ids");
    fuzz::expect(tokens.ids.front() == tokenizer.bos(), "ids that do not begin with BOS");
    static_cast<void>(tokenizer.decode(tokens.ids));
  });
  fuzz::reads([&] {
    const auto tokenizer = ip2p::Gpt2Tokenizer::open(scratch.path());
    const auto ids = tokenizer.encode(text);
    expect_ids(ids, tokenizer.vocabulary_size());
    // As in transformers, added tokens in characters that stand for bytes are decoded as these.
    if (!files[2].empty() || !files[3].empty() || !files[5].empty()) return;
    const auto whole = ip2p::detail::encode_utf8(ip2p::detail::decode_utf8(text, ip2p::InvalidUtf8::replace));
    fuzz::expect(tokenizer.decode(ids) == whole, "decoding does not restore the text");
  });
  return 0;
}
