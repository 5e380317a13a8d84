// From pictures to training: augmentation, encoding, the cache, prefetching, and a few updates.

#include "ip2p/data/encoded_pairs.hpp"

#include <ATen/ops/allclose.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/full.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "data/made_pairs.hpp"
#include "ip2p/data/any_picture_pairs.hpp"
#include "ip2p/data/cached_pairs.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/pair_shards.hpp"
#include "ip2p/data/prefetch.hpp"
#include "ip2p/data/write_pair_shards.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using namespace ip2p::testing;

namespace {

PairPictures pictures(const Image& before, const Image& after) { return {before, after, "edit", "a", "b", "p/1"}; }

/// Latents without a model: every 8th pixel, and a variance that depends on the picture.
struct EveryEighth {
  std::atomic<int>* calls;

  LatentMoments encode_moments(const at::Tensor& images) const {
    ++*calls;
    const auto mean = images.slice(2, 0, images.size(2), 8).slice(3, 0, images.size(3), 8);
    return {mean, mean * 0.5 - 4.0};
  }
};
static_assert(PosteriorCodec<EveryEighth> && PosteriorCodec<KlAutoencoder>);

/// The same on a device that has no values.
struct EveryEighthElsewhere {
  EveryEighth codec;
  at::Device device() const { return at::kMeta; }
  LatentMoments encode_moments(const at::Tensor& images) const {
    CHECK(images.device() == device());
    return codec.encode_moments(images);
  }
};

/// One made picture pair a prompt.
struct MadePictures {
  std::int64_t size() const { return 5; }
  PairPictures get(std::int64_t i, SampleRandom& random) const {
    const auto salt = static_cast<unsigned>(i + 1 + random.below(3));
    return {patterned(40, 30, salt), patterned(40, 30, salt + 90), "edit " + std::to_string(i), "a", "b", "p/1"};
  }
};

void check_same(const EditPair& a, const EditPair& b) {
  CHECK(a.target_mean.equal(b.target_mean));
  CHECK(a.target_logvar.equal(b.target_logvar));
  CHECK(a.condition.equal(b.condition));
  CHECK(a.instruction == b.instruction);
}

}  // namespace

TEST_CASE("Size, crop and mirroring equal Pillow and torch bit for bit", "[data]") {
  const auto file = golden("data/fixtures/augment.json");
  for (const auto& c : file["cases"]) {
    INFO(c.dump());
    const auto width = c["width"].get<std::int64_t>(), height = c["height"].get<std::int64_t>();
    const PairDraws draws{c["side"], c["top"], c["left"], c["mirrored"]};
    const auto crop = c["crop"].get<std::int64_t>();
    const auto shape = c["squeezed"].get<bool>() ? PairShape::square : PairShape::kept;
    const PairAugmentation augmentation{.crop = crop, .shape = shape};
    CHECK(augmentation.size_for(width, height, draws.side) == Size{c["resized"][0], c["resized"][1]});
    const auto found = augmentation.apply(patterned(width, height, 3), draws);
    REQUIRE(found.sizes() == at::IntArrayRef({3, crop, crop}));
    CHECK(found.to(at::kDouble).mean().item<double>() == Approx(c["mean"].get<double>()).margin(1e-12));
    CHECK(ip2p::detail::tensor_crc32(found, 0) == c["crc32"].get<std::uint32_t>());
  }
}

TEST_CASE("The released program's augmentation squeezes both pictures of a pair, whatever their sizes", "[data]") {
  const auto released = PairAugmentation::released();
  const auto wide = patterned(300, 200, 1), tall = patterned(180, 260, 90);
  int mirrored = 0;
  for (std::uint64_t n = 0; n < 8; ++n) {
    SampleRandom random(1, 2, n), again(1, 2, n);
    const auto draws = released.draw(300, 200, again);
    CHECK(draws == PairDraws{256, 0, 0, draws.mirrored});
    const auto found = released(pictures(wide, tall), random);
    const auto squeezed = [&](const Image& image) {
      const auto values = to_tensor(resize(image, 256, 256, Filter::lanczos)).to(at::kFloat).mul(2).div(255).sub(1);
      return draws.mirrored ? at::flip(values, {2}) : values;
    };
    CHECK(found.before.equal(squeezed(wide)));
    CHECK(found.after.equal(squeezed(tall)));
    mirrored += draws.mirrored ? 1 : 0;
  }
  CHECK((mirrored > 0 && mirrored < 8));
  // Between two sizes the crop stays inside the square of the size that was drawn.
  const PairAugmentation ranged{.smallest = 30, .largest = 40, .crop = 30, .shape = PairShape::square};
  for (std::uint64_t n = 0; n < 50; ++n) {
    SampleRandom random(3, 2, n);
    const auto draws = ranged.draw(300, 200, random);
    REQUIRE((draws.top <= draws.side - 30 && draws.left <= draws.side - 30));
  }
  SampleRandom random(0, 0, 0);
  CHECK_THROWS_WITH(PairAugmentation{}(pictures(wide, tall), random), Contains("expected pictures of one size"));
}

TEST_CASE("Pairs that are asked for together are those of one call each", "[data]") {
  std::atomic<int> calls = 0;
  MadePictures made;
  const PairAugmentation augmentation{.smallest = 24, .largest = 30, .crop = 24};
  const std::vector<std::int64_t> prompts{3, 0, 4};
  const auto randoms = [] { return std::vector{SampleRandom(1, 0, 0), SampleRandom(1, 0, 1), SampleRandom(1, 0, 2)}; };

  const EncodedPairs here(made, EveryEighth{&calls}, augmentation);
  auto random = randoms(), again = randoms();
  const auto found = here.get_all(prompts, random);
  REQUIRE(found.size() == 3);
  CHECK(calls == 3);  // a CPU encodes one pair after another, so that no pair's bits depend on its neighbours
  std::vector<PreparedPair> prepared;
  std::vector<std::string> instructions;
  auto third = randoms();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    check_same(found[i], here.get(prompts[i], again[i]));
    const auto pictures = made.get(prompts[i], third[i]);
    prepared.push_back(augmentation(pictures, third[i]));
    instructions.push_back(pictures.instruction);
  }
  calls = 0;
  const auto together = ip2p::detail::PairEncoder(EveryEighth{&calls}).together(prepared, instructions);
  CHECK(calls == 1);
  for (std::size_t i = 0; i < prompts.size(); ++i) check_same(found[i], together[i]);

  calls = 0;
  random = randoms();
  const auto elsewhere = EncodedPairs(made, EveryEighthElsewhere{{&calls}}, augmentation).get_all(prompts, random);
  CHECK(calls == 1);
  REQUIRE(elsewhere.size() == 3);
  CHECK(elsewhere[2].condition.device() == at::Device(at::kMeta));  // nothing waits for it
  CHECK(elsewhere[2].condition.sizes() == found[2].condition.sizes());
}

TEST_CASE("Without a change of size, the crop is the same part of both pictures", "[data]") {
  const auto before = patterned(30, 20, 1), after = patterned(30, 20, 90);
  const PairAugmentation augmentation{.smallest = 20, .largest = 20, .crop = 16};
  std::set<std::int64_t> tops, lefts;
  int mirrored = 0;
  for (std::uint64_t n = 0; n < 400; ++n) {
    SampleRandom random(1, 2, n), again(1, 2, n), count(1, 2, n);
    const auto draws = augmentation.draw(30, 20, again);
    const auto found = augmentation(pictures(before, after), random);
    const auto expected = [&](const Image& image) {
      auto part = to_tensor(image).narrow(1, draws.top, 16).narrow(2, draws.left, 16);
      return (draws.mirrored ? at::flip(part, {2}) : part).to(at::kFloat) * 2.0 / 255.0 - 1.0;
    };
    REQUIRE(at::allclose(found.before, expected(before), 0, 1e-6));
    REQUIRE(at::allclose(found.after, expected(after), 0, 1e-6));
    for (int k = 0; k < 4; ++k) static_cast<void>(count.uniform());
    REQUIRE(random.uniform() == count.uniform());  // four numbers were drawn
    tops.insert(draws.top);
    lefts.insert(draws.left);
    mirrored += draws.mirrored ? 1 : 0;
  }
  CHECK(tops.size() == 5);    // 0 ... 4
  CHECK(lefts.size() == 15);  // 0 ... 14
  CHECK(*tops.rbegin() == 4);
  CHECK(*lefts.rbegin() == 14);
  CHECK(std::abs(mirrored - 200) < 50);  // five standard deviations
  CHECK(centre_crop(before, 20).equal(to_tensor(before).narrow(2, 5, 20).to(at::kFloat).mul(2).div(255).sub(1)));
  CHECK(centre_crop(before, 20, true).equal(at::flip(centre_crop(before, 20), {2})));
}

TEST_CASE("The shorter side takes every size in the range, and both pictures are treated alike", "[data]") {
  std::set<std::int64_t> sides;
  for (std::uint64_t n = 0; n < 1000; ++n) {
    SampleRandom random(1, 2, n);
    const auto draws = PairAugmentation{}.draw(512, 512, random);
    sides.insert(draws.side);
    REQUIRE((draws.top >= 0 && draws.top <= draws.side - 256 && draws.left >= 0 && draws.left <= draws.side - 256));
  }
  CHECK(sides.size() == 33);
  CHECK(*sides.begin() == 256);
  CHECK(*sides.rbegin() == 288);
  // A grey picture stays grey at any size, and two equal pictures stay equal.
  const Image grey{70, 50, std::vector<std::uint8_t>(70 * 50 * 3, 51)};
  const PairAugmentation augmentation{.smallest = 24, .largest = 32, .crop = 24};
  for (std::uint64_t n = 0; n < 20; ++n) {
    SampleRandom one(1, 2, n), two(1, 2, n);
    const auto plain = augmentation(pictures(grey, grey), one);
    CHECK(at::allclose(plain.after, at::full({3, 24, 24}, -0.6), 0, 1e-6));
    const auto same = augmentation(pictures(patterned(70, 50, 9), patterned(70, 50, 9)), two);
    CHECK(same.before.equal(same.after));
  }
  SampleRandom random(0, 0, 0);
  CHECK_THROWS_WITH((PairAugmentation{.smallest = 8, .largest = 8, .crop = 9}.draw(9, 9, random)),
                    Contains("1 <= crop <= smallest <= largest"));
  CHECK_THROWS_WITH(PairAugmentation{.mirror = 2}.validate(), Contains("share of mirrored pairs"));
  CHECK_THROWS_WITH(augmentation(pictures(grey, patterned(50, 70, 1)), random), Contains("pictures of one size"));
  CHECK_THROWS_WITH(augmentation.apply(grey, {24, 1, 0, false}), Contains("expected a crop inside"));
}

TEST_CASE("EncodedPairs prepares and encodes what it is asked for", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch.path(), 3);
  const auto folder = PairFolder::open(scratch.path(), {.split = PairSplit::all});
  const PairAugmentation augmentation{.smallest = 32, .largest = 40, .crop = 32};
  const auto codec = load<KlAutoencoder>(tiny_files());
  EncodedPairs pairs(folder, codec, augmentation);
  static_assert(PairSource<decltype(pairs)>);
  REQUIRE(pairs.size() == 3);
  SampleRandom one(4, 5, 6), again(4, 5, 6);
  const auto found = pairs.get(2, one);
  const auto expected = folder.get(2, again);
  const auto prepared = augmentation(expected, again);
  const auto before = codec.encode_moments(prepared.before.unsqueeze(0));
  const auto after = codec.encode_moments(prepared.after.unsqueeze(0));
  REQUIRE(found.condition.sizes() == at::IntArrayRef({4, 4, 4}));
  CHECK(at::allclose(found.condition, before.mean[0], 1e-4, 1e-5));
  CHECK(at::allclose(found.target_mean, after.mean[0], 1e-4, 1e-5));
  CHECK(at::allclose(found.target_logvar, after.logvar[0], 1e-4, 1e-5));
  CHECK_FALSE(at::allclose(found.target_mean, before.mean[0], 1e-2, 1e-2));
  CHECK(found.instruction == "edit 2");
  CHECK_FALSE(found.condition.requires_grad());
  CHECK_THROWS_WITH(EncodedPairs(folder, codec, {.crop = 300}), Contains("crop 300"));
}

TEST_CASE("CachedPairs encodes once, and encodes again what is damaged or belongs to another codec", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch / "set", 3);
  const auto folder = PairFolder::open(scratch / "set", {.split = PairSplit::all});
  std::atomic<int> calls = 0;
  const CachedPairsOptions options{.folder = scratch / "cache", .codec = "c1", .crop = 32};
  // Both flips of all six pairs.
  const auto pass = [&](auto& pairs) {
    std::vector<EditPair> all;
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::uint64_t n = 0; n < 24; ++n) {
        SampleRandom random(1, 2, n);
        all.push_back(pairs.get(i, random));
      }
    }
    return all;
  };
  const auto expected = [&] {
    CachedPairs first(folder, EveryEighth{&calls}, options);
    static_assert(PairSource<decltype(first)>);
    auto all = pass(first);
    CHECK(first.made() == 6);
    CHECK(calls.load() == 12);
    return all;
  }();
  // Compared with the centre crop itself.
  std::set<bool> flips;
  for (std::uint64_t n = 0; n < 24; ++n) {
    SampleRandom random(1, 2, n);
    const auto original = folder.get(1, random);
    const bool mirrored = random.uniform() < 0.5;
    flips.insert(mirrored);
    const auto before = EveryEighth{&calls}.encode_moments(centre_crop(original.before, 32, mirrored).unsqueeze(0));
    const auto after = EveryEighth{&calls}.encode_moments(centre_crop(original.after, 32, mirrored).unsqueeze(0));
    check_same(expected[24 + n], {after.mean[0], after.logvar[0], before.mean[0], "edit 1"});
  }
  CHECK(flips.size() == 2);

  const auto expect_made = [&](const CachedPairsOptions& with, std::int64_t made) {
    CachedPairs pairs(folder, EveryEighth{&calls}, with);
    const auto found = pass(pairs);
    CHECK(pairs.made() == made);
    for (std::size_t n = 0; n < found.size(); ++n) check_same(found[n], expected[n]);
  };
  expect_made(options, 0);
  const auto entry = scratch / "cache/0000001/20.safetensors";
  const auto sound = read_text(entry);
  auto bent = sound;
  bent[bent.size() - 10] = static_cast<char>(bent[bent.size() - 10] ^ 4);  // a value
  write_text(entry, bent);
  const auto half = scratch / "cache/0000000/.10.safetensors.0123456789abcdef.tmp";  // of a process that was killed
  write_text(half, "half");
  expect_made(options, 1);
  CHECK(read_text(entry) == sound);
  CHECK_FALSE(std::filesystem::exists(half));
  bent = sound;
  bent[bent.find("edit 1")] = 'E';  // the instruction
  write_text(entry, bent);
  expect_made(options, 1);
  write_text(entry, sound.substr(0, 100));
  std::filesystem::copy_file(scratch / "cache/0000000/10.safetensors", scratch / "cache/0000001/10.safetensors",
                             std::filesystem::copy_options::overwrite_existing);  // another pair's entry
  expect_made(options, 2);
  auto other = options;
  other.codec = "c2";
  expect_made(other, 6);
  other.crop = 24;
  CachedPairs smaller(folder, EveryEighth{&calls}, other);
  CHECK(pass(smaller)[0].condition.sizes() == at::IntArrayRef({3, 3, 3}));
  other.crop = 32;
  expect_made(other, 6);

  // What is cached needs no pictures; a pair that replaces a damaged one is not cached under the damaged one's name.
  std::filesystem::remove(scratch / "set/0000000/10_0.jpg");
  expect_made(other, 0);
  std::filesystem::remove(entry);
  std::filesystem::remove(scratch / "set/0000001/20_0.jpg");
  SampleRandom random(1, 2, 0);
  struct {  // a source that always chooses the damaged pair
    const PairFolder* folder;
    std::int64_t size() const { return 1; }
    PairChoice choose(std::int64_t, SampleRandom&) const { return {1, 0.9}; }
    std::string id(const PairChoice& choice) const { return folder->id(choice); }
    PairPictures read(const PairChoice& choice) const { return folder->read(choice); }
    PairPictures get(std::int64_t i, SampleRandom& r) const { return read(choose(i, r)); }
  } damaged{&folder};
  CachedPairs over_damage(damaged, EveryEighth{&calls}, other);
  CHECK(over_damage.get(0, random).instruction == "edit 1");
  CHECK(over_damage.get(0, random).instruction == "edit 1");
  CHECK(over_damage.made() == 2);
  CHECK_FALSE(std::filesystem::exists(entry));

  CHECK_THROWS_WITH(CachedPairs(folder, EveryEighth{&calls}, {.folder = scratch / "cache"}),
                    Contains("expected a folder and the codec's checksum"));
  CHECK_THROWS_WITH(CachedPairs(folder, EveryEighth{&calls}, {.folder = "x", .codec = "c", .crop = 0}),
                    Contains("crop of at least 1 pixel"));
}

TEST_CASE("The checksum of weights depends on names, shapes and values", "[data]") {
  const auto weights_with = [](const std::string& name, std::vector<std::int64_t> shape, double value) {
    const auto tensor = at::full(shape, value);
    return Weights{{name, {shape, at::kFloat, [tensor] { return tensor; }}}};
  };
  const auto base = weights_checksum(weights_with("a", {2, 3}, 1.0));
  CHECK(base == weights_checksum(weights_with("a", {2, 3}, 1.0)));
  CHECK(base != weights_checksum(weights_with("b", {2, 3}, 1.0)));
  CHECK(base != weights_checksum(weights_with("a", {3, 2}, 1.0)));
  CHECK(base != weights_checksum(weights_with("a", {2, 3}, 1.5)));
  CHECK(weights_checksum(tiny_files().weights("vae")) == weights_checksum(tiny_files().weights("vae")));
}

TEST_CASE("Prefetch keeps the serial order whatever the number of workers", "[data]") {
  for (const std::int64_t workers : {0, 1, 3}) {
    for (const std::int64_t ahead : {1, 4}) {
      INFO(workers << " workers, " << ahead << " ahead");
      std::atomic<std::int64_t> begun = 0, taken = 0, most = 0;
      {
        Prefetch<std::int64_t> values(
            [&](std::int64_t n) {
              const auto open = ++begun - taken;
              for (auto seen = most.load(); open > seen && !most.compare_exchange_weak(seen, open);) {
              }
              std::this_thread::sleep_for(std::chrono::milliseconds(n % 3 == 0 ? 3 : 0));  // some are late
              if (n == 12) throw std::runtime_error("twelve");
              return n * n;
            },
            7, {.workers = workers, .ahead = ahead});
        for (std::int64_t n = 7; n < 20; ++n) {
          CHECK(values.next() == n);
          if (n == 12) {
            CHECK_THROWS_WITH(values.get(), "twelve");
          } else {
            CHECK(values.get() == n * n);
          }
          ++taken;
        }
      }  // ends although some values were not taken
      // `taken` is incremented after a value is taken, so one more may have been started by then.
      CHECK(most.load() <= (workers == 0 ? 1 : ahead + 1));
      CHECK(begun.load() >= 13);
    }
  }
  CHECK_THROWS_WITH(Prefetch<int>([](std::int64_t) { return 1; }, 0, {.workers = -1}), Contains("0 or more workers"));
  CHECK_THROWS_WITH(Prefetch<int>([](std::int64_t) { return 1; }, 0, {.ahead = 0}), Contains("1 or more values"));
}

TEST_CASE("Prefetch ends the workers that it has where there is no memory for the stack of another", "[data]") {
  const auto child = ::fork();
  if (child == 0) {
    ::alarm(60);
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit limit{static_cast<rlim_t>(pages) * 4096 + (60 << 20), RLIM_INFINITY};
    ::setrlimit(RLIMIT_AS, &limit);
    try {
      const Prefetch<int> values([](std::int64_t) { return 1; }, 0, {.workers = 64, .ahead = 1});
    } catch (const std::system_error&) {
      ::_exit(7);
    }
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("A few updates on the published pairs, read from the folder, from shards and from the cache", "[data]") {
  const auto data = shared_data();
  if (!data || !std::filesystem::is_directory(*data / "ip2p_pairs")) {
    WARN("skipped: ip2p_pairs is not in the test data (set IP2P_TEST_DATA)");
    return;
  }
  const PairFolderOptions whole{.split = PairSplit::all, .scan = true};
  const auto folder = PairFolder::open(*data / "ip2p_pairs", whole);
  const auto files = tiny_files();
  const auto encoder = load<ClipTextEncoder>(files);
  const auto codec = load<KlAutoencoder>(files);
  const auto losses_of = [&](auto& pairs, std::int64_t workers) {
    const auto unet = load<UNet>(files, {.inference = false});
    const DiffusionLoss loss(unet, encoder, pairs, UniformTimesteps{}, EpsPrediction{}, {.batch = 2, .seed = 5});
    Trainer trainer(Parameters().add(unet), loss, ConstantRate{1e-4}, {.prefetch = {.workers = workers, .ahead = 2}});
    std::vector<double> losses;
    trainer.run(3, [&](const TrainingProgress& progress) { losses.push_back(progress.loss); });
    return losses;
  };
  const auto opened = AnyPicturePairs::open(*data / "ip2p_pairs", whole);
  REQUIRE_FALSE(opened.in_shards());
  EncodedPairs from_folder(opened, codec);
  const auto losses = losses_of(from_folder, 2);
  REQUIRE(losses.size() == 3);
  for (const auto loss : losses) CHECK((std::isfinite(loss) && loss > 0));

  const ScratchDir scratch;
  write_pair_shards(folder, scratch / "shards");
  const auto shards = AnyPicturePairs::open(scratch / "shards");
  REQUIRE(shards.in_shards());
  EncodedPairs from_shards(shards, codec);
  CHECK((losses_of(from_shards, 0) == losses));

  CachedPairs cached(shards, codec, {.folder = scratch / "cache", .codec = weights_checksum(files.weights("vae"))});
  const auto cold = losses_of(cached, 2);
  for (const auto loss : cold) CHECK((std::isfinite(loss) && loss > 0));
  const auto made = cached.made();
  CHECK(made > 0);
  CHECK((losses_of(cached, 1) == cold));
  CHECK(cached.made() == made);
}
