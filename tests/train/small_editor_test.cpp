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

#include "../../examples/02_train_small_editor/cached_edits.hpp"
#include "../../examples/02_train_small_editor/edits.hpp"
#include "../../examples/02_train_small_editor/evaluation.hpp"
#include "../../examples/02_train_small_editor/photographs.hpp"
#include "../../examples/02_train_small_editor/principal_start.hpp"
#include "../../examples/02_train_small_editor/reworded.hpp"
#include "../../examples/02_train_small_editor/start_at_condition.hpp"
#include "../../examples/02_train_small_editor/variations.hpp"
#include "../../examples/02_train_small_editor/warm_start.hpp"
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
  REQUIRE(families.size() >= 30);
  const auto photo =  // with detail, which some edits smooth
      (picture(64) + ip2p::CounterNoise(8).normal({1, 3, 64, 64}, 0)[0] * 0.15).clamp(0, 1);
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

TEST_CASE("Reworded instructions use other words of the same meaning, and none that is held out", "[train]") {
  std::set<std::string> exposure, all;
  std::set<std::string_view> held_out;
  for (const auto& family : edit_families()) {
    held_out.insert(family.held_out_texts().begin(), family.held_out_texts().end());
  }
  for (std::uint64_t i = 0; i < 400; ++i) {
    ip2p::SampleRandom random(3, i, 0), again(3, i, 0);
    const auto text = reworded("turn up the exposure", random);
    CHECK(text == reworded("turn up the exposure", again));
    exposure.insert(text);
    for (const auto& family : edit_families()) {
      for (const auto phrasing : family.training_texts()) all.insert(reworded(phrasing, random));
    }
  }
  for (const std::string wanted : {"turn up the exposure", "raise the exposure", "boost the exposure"}) {
    CHECK(exposure.contains(wanted));
  }
  CHECK_FALSE(exposure.contains("increase the exposure"));  // a phrasing that is held out
  CHECK(all.contains("tint this photo red"));
  CHECK(all.contains("make it winter, please"));
  CHECK(all.size() > 1000);
  for (const auto& text : all) {
    CHECK_FALSE(held_out.contains(text));
    CHECK(text.find("wthe") == std::string::npos);  // "it" in "with" is no word
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

namespace {

ip2p::DcAutoencoder small_codec(std::int64_t latents = 4) {
  ip2p::DcAutoencoderConfig config;
  config.latent_channels = latents;
  config.encoder_block_out_channels = config.decoder_block_out_channels = {28, 28, 56, 112};
  config.encoder_layers_per_block = {0, 1, 1, 1};
  config.decoder_layers_per_block = {0, 1, 1, 1};
  const ip2p::DcAutoencoder codec(config);
  start_at_principal_blocks(codec, at::stack({picture(128, 11), picture(128, 12)}) * 2 - 1, 1);
  return codec;
}

double round_trip_error(const ip2p::DcAutoencoder& codec, const at::Tensor& images) {
  return (codec.decode(codec.encode(images)) - images).square().mean().item<double>();
}

}  // namespace

TEST_CASE("The autoencoder starts with the principal components of blocks", "[train]") {
  const at::NoGradGuard no_grad;
  const auto images = at::stack({picture(64, 1), picture(64, 2)}) * 2 - 1;
  const auto blocks = at::upsample_nearest2d(at::avg_pool2d(images, {8, 8}), at::IntArrayRef{64, 64});
  const double of_means = (images - blocks).square().mean().item<double>();
  const double coarse = round_trip_error(small_codec(4), images);
  CHECK(coarse < of_means);  // 3 of the 4 could hold the means of blocks
  CHECK(round_trip_error(small_codec(14), images) < 0.5 * coarse);

  auto config = small_codec().config();
  config.decoder_block_out_channels = {28, 28, 112};
  config.decoder_layers_per_block = {0, 1, 1};
  config.encoder_block_out_channels = config.decoder_block_out_channels;
  config.encoder_layers_per_block = {0, 1, 1};
  CHECK_THROWS_WITH(start_at_principal_blocks(ip2p::DcAutoencoder(config), images, 1),
                    Catch::Contains("expected 4 resolutions") && Catch::Contains("found 3 resolutions"));
}

TEST_CASE("CachedEdits returns the same pair each time, and the photograph for an empty instruction", "[train]") {
  const auto codec = small_codec();
  const std::vector<at::Tensor> photographs{(picture(96, 3) * 255).to(at::kByte), (picture(80, 4) * 255).to(at::kByte)};
  CachedEdits edits(codec, photographs, {.side = 32, .picture = 64, .crops = 4, .varied = 8, .unedited = 2, .seed = 9});
  const auto edited = static_cast<std::int64_t>(edit_families().size()) + 8;
  const auto slots = edited + 2;
  REQUIRE(edits.size() == 4 * slots);
  for (const std::int64_t i : {std::int64_t{0}, edited - 9, edited - 8, edited - 1, edited, edited + 1, 2 * slots}) {
    ip2p::SampleRandom one(1, 1, 1), again(1, 1, 1);
    const auto a = edits.get(i, one);
    const auto b = edits.get(i, again);
    CHECK(a.target_mean.sizes() == at::IntArrayRef({4, 4, 4}));
    CHECK(a.target_mean.equal(b.target_mean));
    CHECK(a.instruction == b.instruction);
    const bool unedited = i % slots >= edited;
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
  CHECK_THROWS_WITH(start_at_condition(ip2p::UNet(narrow), 0.45), Catch::Contains("room for 4 pairs of channels"));
  CHECK_THROWS_WITH(start_at_condition(ip2p::UNet(text_to_image), 0.45), Catch::Contains("8 input channels"));
}

TEST_CASE("An editor over other latents can start at a trained one", "[train]") {
  const at::NoGradGuard no_grad;
  auto config = ip2p::testing::tiny_editor_config();
  config.block_out_channels = {64, 128};
  config.norm_num_groups = 4;
  const ip2p::UNet from(config);
  ip2p::initialise(from.module(), 1);
  for (const std::int64_t half : {0, 32}) from.module().time_1->weight.narrow(1, half, 16).zero_();  // see below
  config.in_channels = 28;
  config.out_channels = 14;
  const auto width = GENERATE(64, 80);
  config.block_out_channels[0] = width;
  const ip2p::UNet to(config);
  ip2p::initialise(to.module(), 2);
  const auto now = small_codec(14), before = small_codec(4);
  const auto photo = picture(128, 5).unsqueeze(0) * 2 - 1;
  start_at_editor(to, from, now, before, photo);

  const auto latents = now.encode(photo);
  const auto noisy = ip2p::CounterNoise(1).normal(latents.sizes(), 0);
  const auto context = ip2p::CounterNoise(3).normal({1, 3, 6}, 0);
  const auto first = to(at::cat({noisy, latents}, 1), at::full({1}, 900.0), context);
  CHECK((first - now.scaling_factor() * latents).abs().max().item<double>() < 0.1);

  // What is not replaced reads of the new latents what it read of the old ones; the condition alone, to be exact.
  const Widening widening(from.module().config, config);
  const auto places = widening.places(64, width);
  const auto old_in = (*from.module().conv_in)(at::cat({at::zeros({1, 4, 16, 16}), before.encode(photo)}, 1));
  const auto new_in = (*to.module().conv_in)(at::cat({at::zeros({1, 14, 16, 16}), latents}, 1)).index_select(1, places);
  const auto inner = [](const at::Tensor& x) { return x.narrow(1, 0, 50).slice(2, 1, -1).slice(3, 1, -1); };
  CHECK((inner(new_in) - inner(old_in)).square().mean().item<double>() < 0.05 * inner(old_in).var().item<double>());
  CHECK(to.module().middle->resnets.front()->conv1->weight.equal(from.module().middle->resnets.front()->conv1->weight));

  // The time embedding says the same, although it is computed from other frequencies; but for the highest, for there
  // are none near them.
  const auto time = at::arange(0, 1000, 37, at::kFloat);
  const auto old_time = (*from.module().time_1)(ip2p::timestep_embedding(time, 64));
  const auto new_time =
      (*to.module().time_1)(ip2p::timestep_embedding(time, width)).index_select(1, widening.places(256, 4 * width));
  CHECK((new_time - old_time).square().mean().item<double>() < 0.02 * old_time.var().item<double>());

  // A block on the way up reads the same channels of the block before it and of the skip connection.
  const auto old_input = ip2p::CounterNoise(4).normal({1, 192, 8, 8}, 0);
  auto new_input = ip2p::CounterNoise(5).normal({1, 128 + width, 8, 8}, 0);
  new_input.index_copy_(1, widening.places(192, 128 + width), old_input);
  const auto shortcut = [](const ip2p::UNet& unet) { return unet.module().up.back()->resnets.front()->conv_shortcut; };
  const auto old_output = (*shortcut(from))(old_input);
  CHECK(at::allclose((*shortcut(to))(new_input).index_select(1, places), old_output, 1e-4, 1e-5));

  config.cross_attention_dim = 8;
  CHECK_THROWS_WITH(start_at_editor(ip2p::UNet(config), from, now, before, photo),
                    Catch::Contains("start_at_editor: expected a parameter"));
  config.cross_attention_dim = 6;
  config.block_out_channels[0] = 48;
  CHECK_THROWS_WITH(start_at_editor(ip2p::UNet(config), from, now, before, photo),
                    Catch::Contains("start_at_editor: expected a parameter"));
}

TEST_CASE("Variations change strength, place and number of edits", "[train]") {
  const auto photo = picture(64);
  const auto sepia = small_editor::detail::family_named("sepia"), fog = small_editor::detail::family_named("fog");
  const auto& families = edit_families();
  const auto distance = [](const at::Tensor& a, const at::Tensor& b) { return (a - b).square().mean().item<double>(); };
  const auto whole = families[sepia].apply(photo);
  const auto slight = VariedEdit{Variation::slight, sepia}.apply(photo);
  CHECK(distance(slight, photo) == Approx(0.25 * distance(whole, photo)));
  const auto strong = VariedEdit{Variation::strong, fog}.apply(photo);
  CHECK(distance(strong, photo) > 1.3 * distance(families[fog].apply(photo), photo));
  CHECK(VariedEdit{Variation::both, sepia, fog}.apply(photo).equal(families[fog].apply(whole)));
  CHECK_THROWS_WITH(small_editor::detail::family_named("lego"), Catch::Contains("found 'lego'"));

  for (std::size_t region = 0; region < regions().size(); ++region) {
    INFO(regions()[region].name);
    const auto mask = regions()[region].mask(photo);
    REQUIRE(mask.sizes() == at::IntArrayRef({1, 64, 64}));
    CHECK(mask.min().item<double>() >= 0.0);
    CHECK(mask.max().item<double>() <= 1.0);
    const auto local = VariedEdit{Variation::local, sepia, 0, region}.apply(photo);
    CHECK(at::allclose(local, photo + (whole - photo) * mask));
  }
  const auto mean = [](const at::Tensor& mask, std::int64_t axis, std::int64_t from) {
    return mask.narrow(axis, from, 28).mean().item<double>();
  };
  CHECK(mean(small_editor::detail::upper_half(photo), 1, 0) > 0.9);
  CHECK(mean(small_editor::detail::lower_half(photo), 1, 0) < 0.1);
  CHECK(mean(small_editor::detail::left_half(photo), 2, 0) > 0.9);
  CHECK(mean(small_editor::detail::right_half(photo), 2, 36) > 0.9);

  auto scene = at::zeros({3, 64, 64});  // a blue sky over dark, rough ground
  scene.narrow(1, 0, 28).copy_(at::tensor({0.5F, 0.7F, 0.95F}).view({3, 1, 1}).expand({3, 28, 64}));
  scene.narrow(1, 28, 36).copy_(ip2p::CounterNoise(4).normal({1, 3, 36, 64}, 0)[0] * 0.1 + 0.25);
  const auto sky = small_editor::detail::sky(scene);
  CHECK(sky.narrow(1, 0, 20).mean().item<double>() > 0.9);
  CHECK(sky.narrow(1, 36, 28).mean().item<double>() < 0.1);
}

TEST_CASE("Instructions for variations name the edits and differ between training and measurement", "[train]") {
  std::set<std::string> trained, held_out;
  for (std::uint64_t i = 0; i < 400; ++i) {
    ip2p::SampleRandom random(1, 2, i);
    const auto edit = random_variation(variations[i % variations.size()].first, random);
    ip2p::SampleRandom again(1, 2, i);
    CHECK(random_variation(edit.kind, again).first == edit.first);
    CHECK((edit.kind != Variation::both || edit.first != edit.second));
    CHECK(edit.mistaken(picture(32)).size() >= 2);
    const auto text = random_text(edit, false, random);
    trained.insert(text);
    held_out.insert(random_text(edit, true, random));
    CHECK(text.size() > edit_families()[edit.first].texts[0].size() / 2);
  }
  CHECK(trained.size() > 200);
  for (const auto& text : held_out) {
    INFO(text);
    CHECK_FALSE(trained.contains(text));
  }
  const VariedEdit both{Variation::both, small_editor::detail::family_named("autumn"),
                        small_editor::detail::family_named("fog")};
  std::set<std::string> phrasings;
  for (std::uint64_t i = 0; i < 300; ++i) {
    ip2p::SampleRandom random(5, 6, i);
    phrasings.insert(random_text(both, false, random));
  }
  CHECK(phrasings.contains("make it autumn and foggy"));
}

TEST_CASE("A score compares a result with its target, with others and with the photograph", "[train]") {
  const auto photo = picture(32, 1), target = picture(32, 2), other = picture(32, 3);
  const std::vector<at::Tensor> others{target, other};
  const auto perfect = score_of(target, photo, target, others, photo);
  CHECK(perfect.nearest == 1);
  CHECK(perfect.psnr_edit == 60.0);
  CHECK(perfect.sharpness == Approx(1.0));
  CHECK(perfect.psnr_unedited == Approx(psnr(photo, target)));
  CHECK(perfect.psnr_detail == perfect.psnr_unedited);
  CHECK(score_of(other, other, target, others, photo).nearest == 0);
  const auto flat = at::full_like(target, target.mean().item<double>());
  CHECK(score_of(flat, flat, target, others, photo).sharpness == 0.0);
}

TEST_CASE("A result with the photograph's own detail is as sharp as its target", "[train]") {
  const auto photo = (picture(128, 1) + ip2p::CounterNoise(7).normal({3, 128, 128}, 0) * 0.05).clamp(0, 1);
  const auto blurred = [](const at::Tensor& sharp) {
    return at::avg_pool2d(sharp, {5, 5}, {1, 1}, {2, 2}, false, false);
  };
  const auto target = edit_families()[small_editor::detail::family_named("sepia")].apply(photo);
  const auto result = blurred(target);
  const auto score = score_of(result, with_own_detail(photo, blurred(photo), result), target, {}, photo);
  CHECK(score.sharpness < 0.5);
  CHECK(score.sharpness_detail == Approx(1.0).margin(0.1));
  CHECK(score.psnr_detail > score.psnr_edit + 6);
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
