#include "measure.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/data/pair_folder.hpp"
#include "ip2p/filter/similarity.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/psnr.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/vision/clip.hpp"
#include "retrieval.hpp"
#include "scenes.hpp"
#include "support/clip.hpp"
#include "support/contents.hpp"
#include "support/output_folder.hpp"
#include "support/progress_bar.hpp"
#include "support/reporting.hpp"
#include "support/run_record.hpp"
#include "vocabulary.hpp"
#include "write_scenes.hpp"

namespace small_world {
namespace {

/// Mean of the values added, null if none.
class Mean {
 public:
  void add(double value) {
    sum_ += value;
    ++count_;
  }
  [[nodiscard]] nlohmann::json json() const {
    return count_ == 0 ? nlohmann::json(nullptr) : nlohmann::json(sum_ / static_cast<double>(count_));
  }

 private:
  double sum_ = 0;
  std::int64_t count_ = 0;
};

/// Equal pictures count as 60 dB.
double capped_psnr(const ip2p::Image& a, const ip2p::Image& b) { return std::min(60.0, ip2p::psnr(a, b)); }

/// Pairs of the published layout, in the order of the list.
std::vector<ip2p::PairPictures> read_pairs(const fs::path& path, std::int64_t most,
                                           const example::Interrupt& interrupt) {
  const auto folder = ip2p::PairFolder::open(path, {.split = ip2p::PairSplit::all});
  std::vector<ip2p::PairPictures> pairs;
  for (const auto& entry : folder.prompts()) {
    interrupt.check();
    for (const auto& seed : entry.seeds) {
      if (std::ssize(pairs) < most) pairs.push_back(ip2p::decode_pair(folder.files(entry.prompt, seed)));
    }
  }
  return pairs;
}

/// A measurement in a folder, of which the same one is not made again.
class Measurement {
 public:
  explicit Measurement(const MeasureSettings& o)
      : report_(o.out / "report.json"),
        record_(o.out / "run.json", settings_of(o), [this] { return fs::exists(report_); }) {
    record_.agree(o.change);
  }

  /// Prints the report if it is there. \return whether it is
  bool is_there() {
    if (record_.finished() != 1 || record_.changed()) return false;
    example::result_follows();
    fmt::print("{}\n", ip2p::detail::read_json_file(report_).dump(2));
    return true;
  }

  /// Writes and prints the report.
  void finish(const nlohmann::json& report, std::span<const ip2p::Image> shown, std::size_t columns,
              const example::Interrupt& interrupt) {
    interrupt.check();
    const auto out = report_.parent_path();
    const example::OutputFolder folder(out);
    record_.begin(0);
    if (!shown.empty()) ip2p::write_image(out / "sheet.png", contact_sheet(shown, columns));
    ip2p::write_json(report_, report);
    record_.finish(1);
    example::result_follows();
    fmt::print("{}\n", report.dump(2));
  }

 private:
  static nlohmann::json settings_of(const MeasureSettings& o) {
    auto settings = example::settings_of(o.values, {});
    settings["--scenes"] = example::content_setting(o.scenes, scenes_digest(o.scenes));
    settings["--clip"] = example::content_setting(o.clip, example::model_digest(ip2p::ModelFiles::open(o.clip)));
    if (!o.model.empty()) {
      settings["--model"] = example::content_setting(o.model, example::model_digest(ip2p::ModelFiles::open(o.model)));
    }
    if (!o.pairs.empty()) settings["--pairs"] = example::content_setting(o.pairs, example::pairs_digest(o.pairs));
    return settings;
  }

  fs::path report_;
  example::RunRecord record_;
};

}  // namespace

int measure_drawings(const MeasureSettings& o, const example::Interrupt& interrupt) {
  Measurement measurement(o);
  if (measurement.is_there()) return 0;
  const auto world = World::open(o.scenes);
  const auto clip = example::open_clip(o.clip);
  auto pipeline = ip2p::open_text_to_image(o.model, {.device = at::kCPU, .dtype = at::kFloat});
  pipeline.sampler = ip2p::AnySampler::named(o.sampler);
  pipeline.guidance = {.text_scale = o.text_scale};
  std::vector<std::string> captions;
  std::vector<ip2p::Image> scenes, drawn;
  std::set<Words> seen;
  for (std::uint64_t i = 0; std::ssize(captions) < o.count && i < 50 * static_cast<std::uint64_t>(o.count); ++i) {
    ip2p::SampleRandom random(o.seed, truth_stream, i);
    const auto words = world.vocabulary().draw(random, captions.size() % 2 == 1);
    if (!seen.insert(words).second) continue;
    captions.push_back(world.vocabulary().caption(words));
    scenes.push_back(world.draw(words, random));
  }
  ip2p::RunSettings settings{
      .steps = o.steps, .size = ip2p::Size{world.side(), world.side()}, .hooks = {.stop = interrupt.token()}};
  const std::span<const std::string> prompts(captions);
  example::ProgressBar bar(stderr, "drawing");
  for (std::size_t i = 0; i < prompts.size(); i += 16) {
    settings.seed = o.seed + i;
    for (auto& image :
         pipeline.run(prompts.subspan(i, std::min<std::size_t>(16, prompts.size() - i)), settings).images) {
      drawn.push_back(std::move(image));
    }
    bar({.index = std::ssize(drawn) - 1, .count = std::ssize(prompts)});
  }
  const auto texts = clip.text_features(captions);
  nlohmann::json report{{"drawn", retrieval(image_features(clip, drawn), texts)},
                        {"scenes", retrieval(image_features(clip, scenes), texts)}};
  std::vector<ip2p::Image> shown;
  for (std::size_t i = 0; i < std::min<std::size_t>(12, drawn.size()); ++i) {
    report["shown"].push_back(captions[i]);
    shown.push_back(std::move(drawn[i]));
  }
  measurement.finish(report, shown, std::min<std::size_t>(6, shown.size()), interrupt);
  return 0;
}

int measure_pairs(const MeasureSettings& o, const example::Interrupt& interrupt) {
  Measurement measurement(o);
  if (measurement.is_there()) return 0;
  const auto world = World::open(o.scenes);
  const auto clip = example::open_clip(o.clip);
  const at::NoGradGuard no_grad;
  Mean told_apart, direction, agreement, left, truth_left, image;
  std::int64_t known = 0;
  std::vector<ip2p::Image> shown;
  const auto pairs = read_pairs(o.pairs, o.count, interrupt);
  nlohmann::json report{{"pairs", pairs.size()}};
  example::ProgressBar bar(stderr, "pair");
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    interrupt.check();
    bar({.index = static_cast<std::int64_t>(i), .count = std::ssize(pairs)});
    const auto& pair = pairs[i];
    const std::array pictures{pair.before, pair.after};
    const std::array captions{pair.input, pair.output};
    const auto seen = clip.image_features(pictures);
    const auto texts = clip.text_features(captions);
    const auto similarity = seen.matmul(texts.t());
    const auto cell = [&](std::int64_t row, std::int64_t column) { return similarity[row][column].item<double>(); };
    told_apart.add(cell(0, 0) > cell(0, 1) && cell(1, 1) > cell(1, 0) ? 1 : 0);
    const auto row = [](const at::Tensor& features, std::int64_t n) { return features.narrow(0, n, 1); };
    direction.add(
        ip2p::directional_similarity(row(seen, 0), row(seen, 1), row(texts, 0), row(texts, 1)).item<double>());
    image.add(seen[0].dot(seen[1]).item<double>());
    left.add(capped_psnr(pair.before, pair.after));
    if (shown.size() < 2 * 8) shown.insert(shown.end(), {pair.before, pair.after});
    if (report["shown"].size() < 8) report["shown"].push_back({pair.input, pair.instruction, pair.output});

    const auto before = world.vocabulary().find(pair.input), after = world.vocabulary().find(pair.output);
    if (!before || !after) continue;
    ++known;
    // The way that true scenes of these captions take, over a few of them.
    std::vector<ip2p::Image> truth;
    for (std::uint64_t n = 0; n < 4; ++n) {
      const ip2p::SampleRandom random(o.seed, truth_stream, 4 * i + n);
      truth.push_back(world.draw(*before, random));
      truth.push_back(world.draw(*after, random));
      truth_left.add(capped_psnr(truth[truth.size() - 2], truth.back()));
    }
    const auto ways = clip.image_features(truth).view({4, 2, -1}).mean(0);
    agreement.add(ip2p::directional_similarity(row(seen, 0), row(seen, 1), row(ways, 0), row(ways, 1)).item<double>());
  }
  report["known_captions"] = known;
  report["told_apart"] = told_apart.json();
  report["direction"] = direction.json();
  report["image_similarity"] = image.json();
  report["agreement_with_truth"] = agreement.json();
  report["psnr_before_after"] = left.json();
  report["psnr_before_after_truth"] = truth_left.json();
  measurement.finish(report, shown, std::min<std::size_t>(8, shown.size()), interrupt);
  return 0;
}

int measure_editor(const MeasureSettings& o, const example::Interrupt& interrupt) {
  Measurement measurement(o);
  if (measurement.is_there()) return 0;
  const auto world = World::open(o.scenes);
  const auto clip = example::open_clip(o.clip);
  auto pipeline =
      ip2p::open_editor(o.model, {.device = at::kCPU, .dtype = at::kFloat, .numerics = ip2p::Numerics::diffusers});
  pipeline.defaults.resolution.reset();  // pictures are edited at their own size
  pipeline.sampler = ip2p::AnySampler::named(o.sampler);
  pipeline.guidance = {.image_scale = o.image_scale, .text_scale = o.text_scale};
  const at::NoGradGuard no_grad;
  const auto pairs = read_pairs(o.pairs, o.count, interrupt);
  ip2p::require(!pairs.empty(), "{}: expected pairs, found none", o.pairs.string());
  struct Scores {
    Mean psnr, unedited, ceiling, nearer, direction, truth_direction, image;
    [[nodiscard]] nlohmann::json json() const {
      return {{"psnr_to_truth", psnr.json()},         {"psnr_of_unedited", unedited.json()},
              {"psnr_of_round_trip", ceiling.json()}, {"nearer_to_truth_than_to_original", nearer.json()},
              {"direction", direction.json()},        {"direction_of_truth", truth_direction.json()},
              {"image_similarity", image.json()}};
    }
  };
  std::map<std::string, Scores> scores;
  std::vector<ip2p::Image> shown;
  nlohmann::json report{{"pairs", pairs.size()}};
  example::ProgressBar bar(stderr, "pair");
  for (std::size_t first = 0; first < pairs.size(); first += 16) {
    const auto part = std::span(pairs).subspan(first, std::min<std::size_t>(16, pairs.size() - first));
    std::vector<ip2p::Image> before, after;
    std::vector<std::string> instructions, input, output;
    for (const auto& pair : part) {
      before.push_back(pair.before);
      after.push_back(pair.after);
      instructions.push_back(pair.instruction);
      input.push_back(pair.input);
      output.push_back(pair.output);
    }
    const ip2p::RunSettings settings{.steps = o.steps, .seed = o.seed + first, .hooks = {.stop = interrupt.token()}};
    const auto edited = pipeline.run(before, instructions, settings).images;
    const auto& codec = pipeline.codec();
    const auto round_trip =
        ip2p::tensor_to_images(codec.decode(codec.encode(ip2p::images_to_tensor(after))), ip2p::Rounding::truncate);
    const auto features = clip.image_features(before), result = clip.image_features(edited),
               truth = clip.image_features(after), from = clip.text_features(input), to = clip.text_features(output);
    const auto direction = ip2p::directional_similarity(features, result, from, to);
    const auto true_direction = ip2p::directional_similarity(features, truth, from, to);
    const auto image = ip2p::feature_similarity(features, result);
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto n = static_cast<std::int64_t>(i);
      const auto a = world.vocabulary().find(input[i]), b = world.vocabulary().find(output[i]);
      const auto kind = a && b ? Vocabulary::changed_kind(*a, *b) : std::nullopt;
      for (const auto& name : {std::string("all"), std::string(kind ? kind_names[*kind] : "unknown")}) {
        auto& s = scores[name];
        s.psnr.add(capped_psnr(edited[i], after[i]));
        s.unedited.add(capped_psnr(before[i], after[i]));
        s.ceiling.add(capped_psnr(round_trip[i], after[i]));
        s.nearer.add(ip2p::psnr(edited[i], after[i]) > ip2p::psnr(edited[i], before[i]) ? 1 : 0);
        s.direction.add(direction[n].item<double>());
        s.truth_direction.add(true_direction[n].item<double>());
        s.image.add(image[n].item<double>());
      }
      if (shown.size() >= 3 * 8) continue;
      shown.insert(shown.end(), {before[i], after[i], edited[i]});
      report["shown"].push_back(instructions[i]);
    }
    bar({.index = static_cast<std::int64_t>(first + part.size()) - 1, .count = std::ssize(pairs)});
  }
  for (const auto& [name, values] : scores) report["scores"][name] = values.json();
  measurement.finish(report, shown, std::min<std::size_t>(12, shown.size()), interrupt);
  return 0;
}

}  // namespace small_world
