// The parts of examples/02_train_small_editor that are not training itself, and the picture of a loss curve.

#include <ATen/ATen.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "../../examples/02_train_small_editor/averaging_start.hpp"
#include "../../examples/02_train_small_editor/cached_edits.hpp"
#include "../../examples/02_train_small_editor/edits.hpp"
#include "../../examples/02_train_small_editor/photographs.hpp"
#include "../../examples/02_train_small_editor/start_at_condition.hpp"
#include "../../examples/support/loss_plot.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/model_advice.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/train/loss_curve.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"
#include "train/tiny_editor.hpp"

using namespace small_editor;

namespace {

/// A smooth picture with colours and an edge, [3,side,side] in [0,1].
at::Tensor picture(std::int64_t side, std::uint64_t seed = 1) {
  const auto coarse = ip2p::CounterNoise(seed).normal({1, 3, 6, 6}, 0) * 0.3 + 0.5;
  auto image = at::upsample_bilinear2d(coarse, {side, side}, false).squeeze(0).clamp(0, 1);
  image.narrow(2, 0, side / 3).mul_(0.5);
  return image;
}

std::set<std::string> words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::set<std::string> found;
  for (std::string word; stream >> word;) found.insert(word);
  return found;
}

}  // namespace

TEST_CASE("Every edit family keeps shape and range, and no two give the same result", "[train]") {
  const auto& families = edit_families();
  REQUIRE(families.size() >= 10);
  const auto photo = picture(64);
  const auto before = photo.clone();
  std::vector<at::Tensor> results;
  for (const auto& family : families) {
    INFO(family.name);
    const auto edited = family.apply(photo);
    REQUIRE(edited.sizes() == photo.sizes());
    CHECK(edited.min().item<double>() >= 0.0);
    CHECK(edited.max().item<double>() <= 1.0);
    CHECK(photo.equal(before));
    CHECK((edited - photo).square().mean().item<double>() > 1e-3);
    for (const auto& other : results) CHECK((edited - other).square().mean().item<double>() > 1e-3);
    results.push_back(edited);
  }
}

TEST_CASE("Phrasings belong to one family, and held-out ones are new sentences with known words", "[train]") {
  std::set<std::string_view> all;
  std::set<std::string> known;
  for (const auto& family : edit_families()) {
    CHECK(family.training_texts().size() >= 8);
    CHECK(family.held_out_texts().size() == 3);
    for (const auto text : family.texts) CHECK(all.insert(text).second);
    for (const auto text : family.training_texts()) known.merge(words(text));
  }
  for (const auto& family : edit_families()) {
    for (const auto text : family.held_out_texts()) {
      int found = 0;
      for (const auto& word : words(text)) found += known.contains(word) ? 1 : 0;
      INFO(text);
      CHECK(found * 2 > static_cast<int>(words(text).size()));
    }
  }
}

TEST_CASE("The split of photographs depends only on their names and never divides a picture", "[train]") {
  const ip2p::testing::ScratchDir a, b;
  for (int i = 0; i < 20; ++i) {
    std::ofstream(a / ("photo" + std::to_string(i) + ".jpg")) << "x";
    std::ofstream(b / ("photo" + std::to_string(19 - i) + ".jpg")) << "y";
  }
  std::ofstream(a / "notes.txt") << "x";
  const auto first = split_photographs(a.path());
  const auto second = split_photographs(b.path());
  REQUIRE(first.held_out.size() == 4);
  REQUIRE(first.training.size() == 16);
  for (std::size_t i = 0; i < 4; ++i) CHECK(first.held_out[i].filename() == second.held_out[i].filename());
  const ip2p::testing::ScratchDir empty;
  CHECK_THROWS_WITH(split_photographs(empty.path()), Catch::Contains("no .jpg"));
  CHECK_THROWS_WITH(split_photographs(empty / "absent"), Catch::Contains("is not a folder"));
}

TEST_CASE("Random crops have the requested side and range and depend only on their stream", "[train]") {
  const auto photo = (picture(300) * 255).to(at::kByte).narrow(1, 0, 200);
  for (std::uint64_t i = 0; i < 20; ++i) {
    ip2p::SampleRandom one(1, 2, i), again(1, 2, i);
    const auto crop = random_crop(photo, 64, 128, one);
    REQUIRE(crop.sizes() == at::IntArrayRef({3, 64, 64}));
    CHECK(crop.min().item<double>() >= 0.0);
    CHECK(crop.max().item<double>() <= 1.0);
    CHECK(crop.equal(random_crop(photo, 64, 128, again)));
  }
  CHECK(centre_square(photo, 32).sizes() == at::IntArrayRef({3, 32, 32}));
}

TEST_CASE("The autoencoder starts as the mean of 8x8 blocks", "[train]") {
  ip2p::KlAutoencoderConfig config;
  config.block_out_channels = {16, 16, 32, 64};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  const ip2p::KlAutoencoder codec(config);
  start_as_block_average(codec, 1);
  const at::NoGradGuard no_grad;
  const auto images = (at::stack({picture(64, 1), picture(64, 2)}) * 2 - 1);
  const auto decoded = codec.decode(codec.encode(images));
  const auto blocks = at::upsample_nearest2d(at::avg_pool2d(images, {8, 8}), at::IntArrayRef{64, 64});
  const auto inner = [](const at::Tensor& x) { return x.slice(2, 8, 56).slice(3, 8, 56); };
  const double error = (inner(decoded) - inner(blocks)).square().mean().item<double>();
  CHECK(error < 0.15 * inner(images).var().item<double>());
}

TEST_CASE("CachedEdits returns the same pair each time, and the photograph for an empty instruction", "[train]") {
  ip2p::KlAutoencoderConfig config;
  config.block_out_channels = {16, 16, 32, 64};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  const ip2p::KlAutoencoder codec(config);
  start_as_block_average(codec, 1);
  const std::vector<at::Tensor> photographs{(picture(96, 3) * 255).to(at::kByte), (picture(80, 4) * 255).to(at::kByte)};
  CachedEdits edits(codec, photographs, {.side = 32, .picture = 64, .crops = 4, .unedited = 2, .seed = 9});
  const auto families = static_cast<std::int64_t>(edit_families().size());
  REQUIRE(edits.size() == 4 * (families + 2));
  for (const std::int64_t i : {std::int64_t{0}, families - 1, families, families + 1, 2 * (families + 2)}) {
    ip2p::SampleRandom one(1, 1, 1), again(1, 1, 1);
    const auto a = edits.get(i, one);
    const auto b = edits.get(i, again);
    CHECK(a.target_mean.sizes() == at::IntArrayRef({4, 4, 4}));
    CHECK(a.target_mean.equal(b.target_mean));
    CHECK(a.instruction == b.instruction);
    const bool unedited = i % (families + 2) >= families;
    CHECK(a.instruction.empty() == unedited);
    CHECK(a.target_mean.equal(a.condition) == unedited);
  }
}

TEST_CASE("A UNet can start as the identity edit", "[train]") {
  auto config = ip2p::testing::tiny_editor_config();
  config.block_out_channels = {64, 64};
  const ip2p::UNet unet(config);
  ip2p::initialise(unet.module(), 1);
  start_at_condition(unet, 0.45);
  const at::NoGradGuard no_grad;
  const auto noisy = ip2p::CounterNoise(1).normal({2, 4, 16, 16}, 0);
  const auto photo = ip2p::CounterNoise(2).normal({2, 4, 16, 16}, 0) * 2.2;
  const auto context = ip2p::CounterNoise(3).normal({2, 3, 6}, 0);
  const auto first = unet(at::cat({noisy, photo}, 1), at::full({2}, 900.0), context);
  CHECK((first - 0.45 * photo).abs().max().item<double>() < 0.1);
  CHECK((first - 0.45 * photo).square().mean().item<double>() < 1e-3);

  auto narrow = config;
  narrow.block_out_channels = {8, 16};
  auto text_to_image = config;
  text_to_image.in_channels = 4;
  CHECK_THROWS_WITH(start_at_condition(ip2p::UNet(narrow), 0.45), Catch::Contains("norm groups of at least 10"));
  CHECK_THROWS_WITH(start_at_condition(ip2p::UNet(text_to_image), 0.45), Catch::Contains("8 input channels"));
}

TEST_CASE("plot_loss draws a falling loss as a falling curve", "[train]") {
  const ip2p::testing::ScratchDir scratch;
  std::vector<ip2p::LossPoint> points;
  for (std::int64_t i = 1; i <= 400; ++i) points.push_back({i, std::pow(0.99, static_cast<double>(i)), 1e-3, 0.0});
  example::plot_loss(scratch / "loss.png", points);
  const auto image = ip2p::read_image(scratch / "loss.png");
  CHECK(image.width == 800);
  const auto dark_row = [&](std::int64_t x) {  // first row with the colour of the running mean
    for (std::int64_t y = 0; y < image.height; ++y) {
      const auto* pixel = &image.pixels[static_cast<std::size_t>((y * image.width + x) * 3)];
      if (pixel[0] == 20 && pixel[1] == 50 && pixel[2] == 130) return y;
    }
    return std::int64_t{-1};
  };
  REQUIRE(dark_row(150) > 0);
  CHECK(dark_row(150) < dark_row(400));
  CHECK(dark_row(400) < dark_row(700));
  example::plot_loss(scratch / "none.png", {});
  CHECK_FALSE(std::filesystem::exists(scratch / "none.png"));
}

TEST_CASE("The small editor's folder knows every phrasing that it was trained and measured with", "[train][io]") {
  const auto advice =
      ip2p::ModelAdvice::of(ip2p::ModelFiles::open(ip2p::testing::tests_root() / "../models/small-editor"));
  REQUIRE(advice.known.size() == edit_families().size());
  REQUIRE(advice.text_scale);
  REQUIRE(advice.image_scale);
  for (const auto& family : edit_families()) {
    for (const auto text : family.texts) {
      INFO(text);
      CHECK(advice.knows(text));
    }
  }
  for (const char* unknown : {"add a dog", "make him smile", "turn it into a cartoon", "put a hat on the cat",
                              "replace the fruits with cake", "as if it were made of lego"}) {
    INFO(unknown);
    CHECK_FALSE(advice.knows(unknown));
  }
}
