#include "write_scenes.hpp"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/data/pair_set_writer.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/language/triplets.hpp"
#include "ip2p/train/export.hpp"
#include "scenes.hpp"
#include "support/contents.hpp"
#include "support/pictures.hpp"
#include "support/program.hpp"
#include "support/progress_bar.hpp"

namespace small_world {

CaptionedPictures CaptionedPictures::read(const fs::path& folder, const example::Interrupt& interrupt) {
  CaptionedPictures set;
  ip2p::detail::for_each_line(folder / "captions.jsonl", [&](const std::string& line, const std::string& where) {
    interrupt.check();
    const auto json = ip2p::detail::parse_object(line, where);
    set.pictures.push_back(ip2p::read_image(folder / ip2p::detail::text_under(json, {"file"}, where)));
    set.captions.push_back(ip2p::detail::text_under(json, {"caption"}, where));
  });
  return set;
}

void CaptionedPictures::write(const fs::path& folder, const example::Interrupt& interrupt) const {
  ip2p::make_folder(folder);
  std::string lines;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    interrupt.check();
    const auto file = fmt::format("{:06}.png", i);
    ip2p::write_image(folder / file, pictures[i]);
    lines += nlohmann::ordered_json{{"file", file}, {"caption", captions[i]}}.dump() + "\n";
  }
  ip2p::write_file_atomically(folder / "captions.jsonl", std::as_bytes(std::span(lines)));
}

std::string scenes_digest(const fs::path& scenes) {
  return example::pictures_digest(scenes / "training") + example::pictures_digest(scenes / "held_out");
}

ip2p::Image contact_sheet(std::span<const ip2p::Image> pictures, std::size_t columns) {
  std::vector<ip2p::Image> rows;
  for (std::size_t i = 0; i + columns <= pictures.size(); i += columns) {
    rows.push_back(example::side_by_side(pictures.subspan(i, columns)));
  }
  return example::stacked(rows);
}

namespace {

CaptionedPictures draw_pictures(const World& world, std::int64_t count, std::uint64_t seed, bool held_out,
                                const example::Interrupt& interrupt) {
  example::ProgressBar bar(stderr, held_out ? "held-out scene" : "scene");
  CaptionedPictures set;
  std::set<Words> seen;
  const auto stream = held_out ? held_out_stream : training_stream;
  for (std::int64_t i = 0, tries = 0; i < count && tries < 50 * count; ++tries) {
    interrupt.check();
    ip2p::SampleRandom random(seed, stream, static_cast<std::uint64_t>(tries));
    const auto words = world.vocabulary().draw(random, held_out);
    if (held_out && !seen.insert(words).second) continue;
    set.pictures.push_back(world.draw(words, random));
    set.captions.push_back(world.vocabulary().caption(words));
    bar({.index = i++, .count = count});
  }
  return set;
}

/// In the published layout, one pair a prompt. Nothing was generated, so that metadata.jsonl has no numbers.
void write_pairs(const World& world, const fs::path& out, std::int64_t count, std::uint64_t seed, bool held_out,
                 const example::Interrupt& interrupt) {
  example::ProgressBar bar(stderr, held_out ? "held-out pair" : "pair");
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  const ip2p::PairNumbers numbers{0, none, none, none, none, none, none};
  const auto unfinished = out / ".unfinished";
  const ip2p::PairSetWriter set(out, unfinished);
  std::map<std::string, std::vector<std::string>> seeds;
  for (std::int64_t i = 0; i < count; ++i) {
    interrupt.check();
    ip2p::SampleRandom random(seed, held_out ? held_out_pair_stream : pair_stream, static_cast<std::uint64_t>(i));
    const auto change = world.vocabulary().draw_change(random, held_out);
    const ip2p::GeneratedPair pair{world.draw(change.before, random), world.draw(change.after, random), numbers};
    const auto name = ip2p::prompt_folder(i);
    seeds[name] = set.publish(name, world.vocabulary().texts(change), {&pair, 1});
    bar({.index = i, .count = count});
  }
  set.complete(seeds);
  fs::remove_all(unfinished);
}

void write_texts(const World& world, const fs::path& out, const SceneCounts& counts, std::uint64_t seed,
                 const example::Interrupt& interrupt) {
  std::string triplets, captions;
  for (std::int64_t i = 0; i < counts.triplets; ++i) {
    interrupt.check();
    ip2p::SampleRandom random(seed, text_stream, static_cast<std::uint64_t>(i));
    const auto texts = world.vocabulary().texts(world.vocabulary().draw_change(random, false));
    triplets += ip2p::triplet_to_json({texts.input, texts.instruction, texts.output, ""}, ip2p::TripletKeys::released);
    triplets += "\n";
  }
  std::set<std::string> seen;
  for (std::int64_t i = 0; i < 50 * counts.captions && std::ssize(seen) < counts.captions; ++i) {
    interrupt.check();
    ip2p::SampleRandom random(seed + 1, text_stream, static_cast<std::uint64_t>(i));
    const auto caption = world.vocabulary().caption(world.vocabulary().draw(random, false));
    if (seen.insert(caption).second) captions += caption + "\n";
  }
  ip2p::write_file_atomically(out / "triplets.jsonl", std::as_bytes(std::span(triplets)));
  ip2p::write_file_atomically(out / "captions.txt", std::as_bytes(std::span(captions)));
}

}  // namespace

void write_scenes(const World& world, const fs::path& out, const SceneCounts& counts, std::uint64_t seed,
                  const example::Interrupt& interrupt) {
  example::Outputs written;
  written.add(out, [] {});  // all of it or nothing
  const auto training = draw_pictures(world, counts.training, seed, false, interrupt);
  training.write(out / "training", interrupt);
  draw_pictures(world, counts.held_out, seed, true, interrupt).write(out / "held_out", interrupt);
  write_pairs(world, out / "pairs", counts.pairs, seed, false, interrupt);
  write_pairs(world, out / "held_out_pairs", counts.held_out_pairs, seed, true, interrupt);
  write_texts(world, out, counts, seed, interrupt);
  const auto shown = std::min<std::size_t>(training.pictures.size(), 24);
  ip2p::write_image(out / "sheet.png",
                    contact_sheet(std::span(training.pictures).first(shown), std::min<std::size_t>(shown, 8)));
  world.save(out);
  written.keep();
}

}  // namespace small_world
