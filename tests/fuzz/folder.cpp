// A folder of pairs, or a list of triplets, is refused with an Error, or each of its pairs has a name and is read from
// within the folder, or refused. Words, written as JSON, read the same.
//
// The input is seeds.json, 0000000/prompt.json, metadata.jsonl and captions.jsonl, separated as fuzz/harness.hpp says.
// The pictures 0000000/1_0.png and 0000000/1_1.png are there.

#include <string>

#include "fuzz/harness.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/io/image_definitions.hpp"
#include "ip2p/language/triplets.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

const std::string& picture() {
  static const std::string png = [] {
    const auto bytes =
        ip2p::encode_picture({{2, 2, std::vector<std::uint8_t>(12, 7)}, {}}, ip2p::ImageFormat::png, 95, "picture");
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }();
  return png;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::ScratchFolder scratch;
  static constexpr const char* names[] = {"seeds.json", "0000000/prompt.json", "metadata.jsonl", "captions.jsonl"};
  const auto files = fuzz::files_of<4>(fuzz::text_of(data, size));
  for (std::size_t i = 0; i < files.size(); ++i) scratch.hold(names[i], files[i]);
  scratch.hold("0000000/1_0.png", picture());
  scratch.hold("0000000/1_1.png", picture());
  for (const bool scan : {false, true}) {
    fuzz::reads([&] {
      const auto folder =
          ip2p::PairFolder::open(scratch.path(), {.split = ip2p::PairSplit::all, .scan = scan, .largest_damage = 10});
      for (std::int64_t i = 0; i < folder.size(); ++i) {
        const auto& prompt = folder.prompts()[static_cast<std::size_t>(i)];
        fuzz::expect(!prompt.prompt.empty(), "a prompt without a name");
        fuzz::reads([&] {
          const auto pair = folder.read({i, 0.5});
          fuzz::expect(pair.before.width == 2 && pair.after.height == 2, "a picture that is not in the folder");
        });
      }
    });
  }
  fuzz::reads([&] {
    const auto words = ip2p::parse_pair_words(files[1], "input");
    fuzz::must_read("words cannot be written and read again", [&] {
      const auto again = ip2p::parse_pair_words(ip2p::pair_words_json(words).dump(), "again");
      fuzz::expect(again.instruction == words.instruction && again.input == words.input &&
                       again.output == words.output && again.url == words.url,
                   "written again, words differ");
    });
  });
  if (files[3].empty()) return 0;
  fuzz::reads([&] {
    for (const auto& triplet : ip2p::read_triplets(scratch.path() / names[3])) {
      fuzz::must_read("a triplet cannot be written and read again", [&] {
        for (const auto keys : {ip2p::TripletKeys::released, ip2p::TripletKeys::generated}) {
          const auto again =
              ip2p::triplet_from_json(nlohmann::json::parse(ip2p::triplet_to_json(triplet, keys)), "again");
          fuzz::expect(again.caption == triplet.caption && again.edited == triplet.edited && again.url == triplet.url,
                       "written again, a triplet differs");
        }
      });
    }
  });
  fuzz::reads([&] { static_cast<void>(ip2p::read_captions(scratch.path() / names[3])); });
  return 0;
}
