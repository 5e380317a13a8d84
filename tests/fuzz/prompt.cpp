// A prompt is any bytes. CLIP's tokenizer gives 77 ids of its vocabulary for them, by the rules of the library and of
// the released program; tokenized again, what its ids spell has the same ids. GPT-2's gives ids that spell the text. A
// prompt's marks lose no word and give finite numbers. Repaired text stays as it is, repaired again; NFC is idempotent.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "fuzz/harness.hpp"
#include "ip2p/language/gpt2_tokenizer.hpp"
#include "ip2p/language/triplets.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/prompt_syntax.hpp"
#include "ip2p/text/text_repair.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

/// A vocabulary of all bytes, alone and at a word's end, and a few merges.
template <class Tokenizer, class... Options>
Tokenizer byte_tokenizer(bool word_ends, Options... options) {
  const fuzz::ScratchFolder scratch;
  auto vocabulary = nlohmann::json::object();
  const auto add = [&](const std::string& token) { vocabulary.emplace(token, vocabulary.size()); };
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    ip2p::detail::append_utf8(token, ip2p::detail::character_of_byte(static_cast<unsigned>(byte)));
    add(token);
    if (word_ends) add(token + "</w>");
  }
  const std::string end = word_ends ? "</w>" : "";
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : {std::pair{"c", "a"}, {"ca", "t"}, {"o", "n"}, {"l", "l"}, {"'", "s"}}) {
    add(std::string(left) + right);
    if (word_ends) add(std::string(left) + right + end);
    merges += std::string(left) + " " + right + "\n" + (word_ends ? std::string(left) + " " + right + end + "\n" : "");
  }
  if (word_ends) add("<|startoftext|>");
  add("<|endoftext|>");
  scratch.put("vocab.json", vocabulary.dump());
  scratch.put("merges.txt", merges);
  return Tokenizer::open(scratch.path(), options...);
}

void expect_ids(const std::vector<std::int64_t>& ids, std::int64_t size) {
  for (const auto id : ids) fuzz::expect(id >= 0 && id < size, "an id outside of the vocabulary");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using ip2p::detail::decode_utf8;
  using ip2p::detail::encode_utf8;
  static const auto clip = byte_tokenizer<ip2p::BpeTokenizer>(true, ip2p::TokenizerOptions{});
  static const auto released =
      byte_tokenizer<ip2p::BpeTokenizer>(true, ip2p::TokenizerOptions{.text = ip2p::TokenizerText::released});
  static const auto gpt2 = byte_tokenizer<ip2p::Gpt2Tokenizer>(false);
  const std::string text(fuzz::text_of(data, size));
  const auto points = decode_utf8(text, ip2p::InvalidUtf8::replace);
  const auto whole = encode_utf8(points);
  fuzz::reads([&] {
    fuzz::expect(encode_utf8(decode_utf8(text, ip2p::InvalidUtf8::error)) == text, "sound UTF-8 does not come back");
  });
  for (const auto* tokenizer : {&clip, &released}) {
    const auto tokens = tokenizer->encode(text);
    expect_ids(tokens.ids, tokenizer->vocabulary_size());
    fuzz::expect(tokens.ids.size() == 77, "another number of ids");
    fuzz::expect(tokens.truncated == (tokens.count > 75), "a text is cut off or it is not");
  }
  const auto ids = gpt2.encode(text);
  expect_ids(ids, gpt2.vocabulary_size());
  fuzz::expect(gpt2.decode(ids) == whole, "decoding does not restore the text");

  const auto composed = ip2p::detail::nfc(points);
  fuzz::expect(ip2p::detail::nfc(composed) == composed, "NFC of NFC differs");
  static_cast<void>(ip2p::detail::lower_with_final_sigma(points));
  static_cast<void>(ip2p::repair_text(std::string_view(text)));

  fuzz::reads([&] {
    const auto parsed = ip2p::parse_prompt(text);
    fuzz::expect(parsed.text().size() <= text.size(), "words that nobody wrote");
    for (std::size_t i = 0; i < parsed.parts.size(); ++i) {
      fuzz::expect(std::isfinite(parsed.parts[i].weight), "a weight that is not finite");
      fuzz::expect(i == 0 || parsed.parts[i].weight != parsed.parts[i - 1].weight, "neighbours of one weight");
    }
    for (const auto& lora : parsed.loras) fuzz::expect(std::isfinite(lora.scale), "a scale that is not finite");
  });

  const auto triplet = ip2p::parse_triplet("a cat", text).first;
  if (triplet) {
    fuzz::expect(ip2p::TripletFormat{}.completion(*triplet).starts_with(text), "an answer that is not what it was");
    fuzz::must_read("a triplet cannot be written and read again", [&] {
      const auto again = ip2p::triplet_from_json(nlohmann::json::parse(ip2p::triplet_to_json(*triplet)), "again");
      fuzz::expect(again.instruction == encode_utf8(decode_utf8(triplet->instruction, ip2p::InvalidUtf8::replace)),
                   "written again, an instruction differs");
    });
  }
  return 0;
}
