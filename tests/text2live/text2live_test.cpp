#include "ip2p/text2live/text2live.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <fstream>
#include <stop_token>
#include <string>
#include <vector>

#include "ip2p/pipeline/load.hpp"
#include "support/reference.hpp"

// Expected values: tests/parity/make_text2live_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

struct Text2LiveFixture {
  nlohmann::json known = read_json(fixture("text2live/fixtures/step.json"));
  SafetensorsFile file = SafetensorsFile::open(fixture("text2live/fixtures/step.safetensors"));

  [[nodiscard]] at::Tensor picture(int i) const {
    return file.tensor("picture_" + std::to_string(i)).unsqueeze(0).to(at::kFloat) / 255;
  }
};

ClipGuide tiny_guide() {
  return ClipGuide(load<Clip>(ModelFiles::open(fixture("vision/fixtures/tiny-clip"),
                                               {.tokenizer = fixture("pipeline/fixtures/tiny-ip2p/tokenizer")})));
}

std::vector<ViewDraws> views_of(const nlohmann::json& list) {
  std::vector<ViewDraws> all;
  for (const auto& one : list) {
    ViewDraws draws;
    if (const auto& box = one["crop"]; !box.is_null()) draws.crop = CropBox{box[0], box[1], box[2], box[3]};
    draws.mirrored = one["mirrored"].get<bool>();
    if (const auto& turn = one["affine"]; !turn.is_null()) draws.affine = AffineDraws{turn[0], turn[1], turn[2]};
    if (const auto& corners = one["corners"]; !corners.is_null()) draws.corners = corners.get<Corners>();
    if (const auto& colours = one["colours"]; !colours.is_null()) {
      draws.colours = ColourDraws{colours["order"].get<std::array<std::size_t, 4>>(),
                                  colours["amount"].get<std::array<double, 4>>()};
    }
    draws.grey = one["grey"].get<bool>();
    all.push_back(draws);
  }
  return all;
}

ObjectiveDraws objective_draws(const nlohmann::json& json) {
  ObjectiveDraws draws;
  draws.edited = json["edited"].get<std::vector<std::int64_t>>();
  draws.direction = json["direction"].get<std::vector<std::int64_t>>();
  draws.screen = json["screen"].get<std::vector<std::int64_t>>();
  for (const auto& picture : json["pictures"]) {
    draws.pictures.push_back({views_of(picture["edited"]), views_of(picture["before"]), views_of(picture["after"]),
                              views_of(picture["screen"])});
  }
  return draws;
}

/// The network of the fixture with its weights, which require gradients.
EditLayerNetwork fixture_network(const Text2LiveFixture& f) {
  const auto& shape = f.known["network"];
  EditLayerNetwork network({.scales = shape[0], .channels = shape[1], .skip_channels = shape[2]});
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : network.module().named_parameters()) tensor.copy_(f.file.tensor("weights/" + name));
  return network;
}

/// A smooth picture of 72x56 pixels.
Image some_picture() {
  Image picture{72, 56, {}};
  for (int y = 0; y < 56; ++y) {
    for (int x = 0; x < 72; ++x) {
      const bool inside = (x - 36) * (x - 36) + (y - 28) * (y - 28) < 300;
      for (const int value : {inside ? 200 : 3 * x, 4 * y, inside ? 40 : 128}) {
        picture.pixels.push_back(static_cast<std::uint8_t>(value));
      }
    }
  }
  return picture;
}

const Text2LiveTexts golden_horse{.edited = "a golden horse", .source = "a horse", .layer = "", .region = "horse"};

Text2LiveOptions small_edit() {
  Text2LiveOptions options;
  options.steps = 6;
  options.seed = 5;
  options.whole_every = 3;
  options.network = {.scales = 3, .channels = 8};
  options.views.count = 3;
  return options;
}

}  // namespace

TEST_CASE("The network of an edit layer equals the one written in PyTorch", "[text2live][parity]") {
  const Text2LiveFixture f;
  const auto network = fixture_network(f);
  const at::NoGradGuard no_grad;
  for (const int i : {0, 1}) {
    const auto layer = network(f.picture(i));
    const auto expected = f.file.tensor("layer_" + std::to_string(i));
    CHECK(max_difference(layer.colours, expected.narrow(1, 0, 3)) < 1e-4);
    CHECK(max_difference(layer.alpha, expected.narrow(1, 3, 1)) < 1e-4);
    CHECK(deviation(expected) > 0.1);
  }
}

TEST_CASE("Views equal torchvision's, self-similarity and relevance those of CLIP in transformers",
          "[text2live][parity]") {
  const at::NoGradGuard no_grad;
  const Text2LiveFixture f;
  const auto guide = tiny_guide();
  const auto first = f.picture(0);
  const auto draws = objective_draws(f.known["draws"]);
  const auto views = ClipViews{}.apply(first, guide.view_size(size_of(first)), draws.pictures[0].edited);
  CHECK(max_difference(views, f.file.tensor("views")) < 1e-4);
  const auto region = guide.text_features(std::vector<std::string>{"horse"});
  for (const int i : {0, 1}) {
    const auto number = std::to_string(i);
    const auto picture = f.picture(i);
    CHECK(max_difference(guide.self_similarity(picture), f.file.tensor("self_similarity_" + number)) < 1e-4);
    const auto square = bilinear(picture, {guide.side(), guide.side()});
    CHECK(max_difference(guide.relevance(square, region), f.file.tensor("relevance_" + number)) < 1e-4);
  }
}

TEST_CASE("The losses of an update and their gradient equal those written in PyTorch", "[text2live][parity]") {
  const Text2LiveFixture f;
  auto network = fixture_network(f);
  const auto& texts = f.known["texts"];
  const Text2LiveObjective objective(
      tiny_guide(),
      {.edited = texts["edited"], .source = texts["source"], .layer = texts["layer"], .region = texts["region"]},
      {.bootstrap_steps = f.known["bootstrap_steps"]});
  const std::vector<at::Tensor> pictures{f.picture(0), f.picture(1)};
  const std::vector<EditLayer> layers{network(pictures[0]), network(pictures[1])};
  const auto terms = objective(pictures, layers, objective_draws(f.known["draws"]), f.known["step"]);
  const auto& losses = f.known["losses"];
  const auto check = [&](const char* name, const at::Tensor& found) {
    INFO(name);
    CHECK(std::abs(found.item<double>() - losses[name].get<double>()) < 1e-4);
  };
  check("structure", terms.structure);
  check("edited", terms.edited);
  check("direction", terms.direction);
  check("screen", terms.screen);
  check("sparsity", terms.sparsity);
  check("bootstrap", terms.bootstrap);
  check("total", terms.total);
  terms.total.backward();
  double largest = 0.0;
  for (const auto& [name, tensor] : network.module().named_parameters()) {
    INFO(name);
    const auto expected = f.file.tensor("gradient/" + name);
    CHECK(max_difference(tensor.grad(), expected) < 1e-4);
    largest = std::max(largest, expected.abs().max().item<double>());
  }
  CHECK(largest > 1e-2);
}

TEST_CASE("The result differs from the picture only where the layer is not fully transparent", "[text2live]") {
  const auto picture = at::rand({1, 3, 6, 8});
  EditLayer layer{at::rand({1, 3, 6, 8}), at::zeros({1, 1, 6, 8})};
  CHECK(at::equal(layer.over(picture), picture));
  layer.alpha.narrow(3, 0, 4).fill_(1);
  const auto half = layer.over(picture);
  CHECK(at::equal(half.narrow(3, 0, 4), layer.colours.narrow(3, 0, 4)));
  CHECK(at::equal(half.narrow(3, 4, 4), picture.narrow(3, 4, 4)));
  const auto screen = layer.on_green_screen()[0].select(2, 7).select(1, 3);
  CHECK(screen[0].item<float>() == 0.0F);
  CHECK(screen[1].item<float>() == Approx(177.0 / 255));
  CHECK(screen[2].item<float>() == Approx(64.0 / 255));
  CHECK(picture_of(layer.alpha).pixels[0] == 255);
  CHECK(picture_of(unit_picture(some_picture())) == some_picture());
  CHECK_THROWS_WITH(layer.over(at::rand({1, 3, 6, 9})),
                    Contains("edit layer: expected a picture [1, 3, 6, 8] below it, found [1, 3, 6, 9]"));
  CHECK_THROWS_WITH(picture_of(at::rand({1, 2, 4, 4})),
                    Contains("picture: expected [1, 1 or 3, H, W], found [1, 2, 4, 4]"));
}

TEST_CASE("Draws stay in their ranges and depend only on seed and update", "[text2live]") {
  const PictureCrops crops;
  const Size picture{100, 60}, view{40, 24};
  std::int64_t affine = 0, corners = 0, coloured = 0;
  for (std::uint64_t step = 0; step < 200; ++step) {
    SampleRandom random(1, step, 0), same(1, step, 0);
    const auto draws = crops.draw(picture, random);
    CHECK((draws.size.width >= 80 && draws.size.width < 120 && draws.size.height >= 48 && draws.size.height < 72));
    const auto& box = draws.crop;
    CHECK((box.top >= 0 && box.top + box.height <= draws.size.height && box.left >= 0 &&
           box.left + box.width <= draws.size.width));
    CHECK(std::min(box.height, box.width) >= crops.shortest_side(picture));
    CHECK(crops.draw(picture, same).crop.left == box.left);
    const auto views = ClipViews{}.draw(picture, view, random);
    REQUIRE(views.size() == 16);
    CHECK_FALSE(views.front().crop);
    for (const auto& one : views) {
      affine += one.affine ? 1 : 0;
      corners += one.corners ? 1 : 0;
      coloured += one.colours ? 1 : 0;
      if (one.affine) CHECK((std::abs(one.affine->degrees) <= 15 && std::abs(one.affine->right) <= 4));
      if (one.corners) {
        const auto& c = *one.corners;
        CHECK((c[0][0] >= 0 && c[0][0] <= 8 && c[1][0] >= 31 && c[1][0] <= 39 && c[2][1] >= 19 && c[2][1] <= 23));
      }
    }
  }
  CHECK(static_cast<double>(affine) / 3200 == Approx(0.8).margin(0.03));
  CHECK(static_cast<double>(corners) / 3200 == Approx(0.5).margin(0.03));
  CHECK(static_cast<double>(coloured) / 3200 == Approx(0.7).margin(0.03));
  CHECK(fitted({400, 200}, 224, 320) == Size{320, 160});
  CHECK(fitted({500, 333}, 224, 380) == Size{336, 224});
}

TEST_CASE("An example of the picture is cut from it as drawn", "[text2live]") {
  const auto picture = some_picture();
  const PictureDraws whole{.size = {72, 56}, .crop = {0, 0, 56, 72}};
  CHECK(at::equal(PictureCrops::apply(picture, whole), unit_picture(picture)));
  auto mirrored = whole;
  mirrored.mirrored = true;
  mirrored.crop = {10, 20, 30, 40};
  CHECK(at::equal(PictureCrops::apply(picture, mirrored),
                  unit_picture(picture).flip({3}).narrow(2, 10, 30).narrow(3, 20, 40)));
  auto dark = whole;
  dark.colours = ColourDraws{.amount = {0.5, 1, 1, 0}};
  CHECK(max_difference(PictureCrops::apply(picture, dark), unit_picture(picture) * 0.5) < 0.5 / 255 + 1e-3);
  const PictureDraws half{.size = {36, 28}, .crop = {0, 0, 28, 36}};
  CHECK(PictureCrops::apply(picture, half).sizes() == at::IntArrayRef({1, 3, 28, 36}));
}

TEST_CASE("Training a layer lowers its losses", "[text2live]") {
  auto options = small_edit();
  options.steps = 40;
  Text2Live<> edit(tiny_guide().clip(), some_picture(), golden_horse, options);
  const auto loss = [&] {
    const at::NoGradGuard no_grad;
    double sum = 0.0;
    for (const std::int64_t update : {0, 1, 2, 3, 4, 5}) sum += edit.terms(update).total.item<double>();
    return sum / 6;
  };
  const double before = loss();
  std::vector<double> rates;
  std::int64_t pictures = 0;
  const Text2LiveHooks hooks{.on_step = [&](const TrainingProgress& update) { rates.push_back(update.rate); },
                             .picture_every = 10,
                             .on_picture =
                                 [&](std::int64_t step, const EditLayer& layer) {
                                   CHECK(step == 10 * ++pictures);
                                   CHECK(layer.colours.sizes() == at::IntArrayRef({1, 3, 56, 72}));
                                   CHECK_FALSE(layer.colours.requires_grad());
                                 }};
  const bool finished = edit.run(hooks);
  CHECK(finished);
  CHECK(pictures == 4);
  CHECK(edit.step() == 40);
  REQUIRE(rates.size() == 40);
  CHECK(rates[0] == 0.0025);
  CHECK(rates[10] == Approx(0.0025 * std::pow(0.99, 10)));
  const double after = loss();
  INFO("loss " << before << " to " << after);
  CHECK(after < 0.97 * before);
  const auto result = edit.edited();
  CHECK((result.width == 72 && result.height == 56));
}

TEST_CASE("An edit that was stopped and resumed ends with the same bits as one that was not", "[text2live]") {
  const auto clip = tiny_guide().clip();
  const auto picture = some_picture();
  Text2Live<> undisturbed(clip, picture, golden_horse, small_edit());
  CHECK(undisturbed.run());
  const ScratchDir scratch;
  auto options = small_edit();
  options.folder = scratch / "run";
  {
    Text2Live<> first(clip, picture, golden_horse, options);
    CHECK_FALSE(first.resume());
    std::stop_source stop;
    const auto after_four = [&](const TrainingProgress& update) {
      if (update.step == 4) stop.request_stop();
    };
    CHECK_FALSE(first.run({.on_step = after_four, .stop = stop.get_token()}));
    CHECK(first.step() == 4);
    CHECK_FALSE(at::equal(first.layer().colours, undisturbed.layer().colours));
  }
  {
    Text2Live<> second(clip, picture, golden_horse, options);
    CHECK_THROWS_WITH(second.run(), Contains("expected no checkpoints of another run, found some; resume it"));
  }
  {
    auto other = options;
    other.seed = 6;
    Text2Live<> wrong(clip, picture, golden_horse, other);
    CHECK_THROWS_WITH(wrong.resume(), Contains("seed: expected 6, found 5; the folder belongs to another edit"));
    other = options;
    other.crops.mirrored = 0.25;
    CHECK_THROWS_WITH(Text2Live<>(clip, picture, golden_horse, other).resume(), Contains("crops: expected [0.1,0.25,"));
    other = options;
    other.views.degrees = 20;
    CHECK_THROWS_WITH(Text2Live<>(clip, picture, golden_horse, other).resume(), Contains("views: expected ["));
    Text2Live<> words(clip, picture, {.edited = "a blue horse", .source = "a horse"}, options);
    CHECK_THROWS_WITH(words.resume(), Contains("texts: expected [\"a blue horse\""));
  }
  Text2Live<> third(clip, picture, golden_horse, options);
  CHECK(third.resume());
  CHECK(third.step() == 4);
  CHECK(third.run());
  const auto expected = undisturbed.layer(), found = third.layer();
  CHECK(at::equal(found.colours, expected.colours));
  CHECK(at::equal(found.alpha, expected.alpha));
  CHECK(third.edited() == undisturbed.edited());

  std::ofstream(scratch / "run/text2live.json") << "{\"seed\":";
  CHECK_THROWS_WITH(third.resume(),
                    Contains("text2live.json': expected the description of an edit, found a syntax error at byte 9"));
}

TEST_CASE("Edits can use other optimisers and rates", "[text2live]") {
  auto options = small_edit();
  options.steps = 2;
  Text2Live<AdamW, ConstantRate> edit(tiny_guide().clip(), some_picture(), golden_horse, options, {.rate = 1e-3});
  const auto before = edit.layer().alpha;
  CHECK(edit.run());
  CHECK(max_difference(edit.layer().alpha, before) > 1e-4);
}

TEST_CASE("The weight of the bootstrap falls linearly to 0, and losses of weight 0 are left out", "[text2live]") {
  const Text2LiveWeights weights{.bootstrap_steps = 4};
  CHECK(weights.bootstrap_at(0) == 7.5);
  CHECK(weights.bootstrap_at(2) == 2.5);
  CHECK(weights.bootstrap_at(3) == 0.0);
  CHECK(weights.bootstrap_at(4) == 0.0);
  auto options = small_edit();
  options.weights = {.structure = 0, .composition = 0, .screen = 0, .sparsity = 6};
  const Text2Live<> edit(tiny_guide().clip(), some_picture(), {.edited = "gold", .source = "a horse"}, options);
  const auto terms = edit.terms(1);
  for (const auto* term : {&terms.structure, &terms.edited, &terms.direction, &terms.screen, &terms.bootstrap}) {
    CHECK_FALSE(term->defined());
  }
  CHECK(terms.total.item<double>() == Approx(6 * terms.sparsity.item<double>()));
  CHECK(opacity_cost(at::full({4}, 1.0), 0.01, 0.02).item<double>() ==
        Approx(0.01 + 0.02 * 2 * (1 / (1 + std::exp(-5.0)) - 0.5)));
}

TEST_CASE("Arguments that make no sense for an edit are refused", "[text2live]") {
  const auto guide = tiny_guide();
  const auto picture = some_picture();
  const auto refused = [&](auto&& change, const std::string& words) {
    auto options = small_edit();
    auto texts = golden_horse;
    change(options, texts);
    CHECK_THROWS_WITH(Text2Live<>(guide.clip(), picture, texts, options), Contains(words));
  };
  refused([](auto& o, auto&) { o.steps = 0; }, "Text2Live: steps: expected at least 1, found 0");
  refused([](auto& o, auto&) { o.whole_every = 0; }, "Text2Live: whole_every: expected at least 1, found 0");
  refused([](auto& o, auto&) { o.network.scales = 0; }, "edit layer: scales: expected 1 to 16, found 0");
  refused([](auto& o, auto&) { o.network.channels = 0; }, "edit layer: expected channels of at least 1, found 0 and 4");
  refused([](auto& o, auto&) { o.weights.screen = -1; }, "weights: expected numbers of at least 0, found -1");
  refused([](auto& o, auto&) { o.weights.bootstrap_steps = -1; }, "bootstrap_steps: expected at least 0, found -1");
  refused([](auto& o, auto&) { o.crops.mirrored = 2; }, "picture crops: expected shares in [0, 1], found 0.1 and 2");
  refused([](auto& o, auto&) { o.crops.spread = 1; }, "picture crops: spread: expected a value in [0, 0.5], found 1");
  refused([](auto& o, auto&) { o.crops.least_scale = 2; }, "scale: expected 0 < least <= most, found 2 and 1.2");
  refused([](auto& o, auto&) { o.crops.least_cover = 0; }, "least_cover: expected a share in (0, 1], found 0");
  refused([](auto& o, auto&) { o.views.count = 0; }, "CLIP views: expected at least 1, found 0");
  refused([](auto& o, auto&) { o.views.least_cover = 1.5; },
          "CLIP views: least_cover: expected a share in (0, 1], found 1.5");
  refused([](auto& o, auto&) { o.views.grey = -1; }, "CLIP views: expected shares in [0, 1], found -1");
  refused([](auto& o, auto&) { o.views.spread = 1; }, "CLIP views: spread: expected a value in [0, 0.5], found 1");
  refused([](auto&, auto& t) { t.edited.clear(); }, "edited: expected what the edited picture shows, found nothing");
  refused([](auto&, auto& t) { t.source.clear(); }, "source: expected what the picture shows, found nothing");
  refused([](auto& o, auto&) { o.network.scales = 7; },
          "expected a shorter side whose smallest crop has at least 129 pixels for 7 scales, found 37 pixels of 72x56");
  refused([](auto& o, auto&) { o.checkpoint_every = 0; }, "checkpoint interval: expected at least 1 update, found 0");

  EditLayerNetwork network({.scales = 3, .channels = 8});
  network.initialise(1);
  CHECK_THROWS_WITH(network(at::zeros({1, 3, 8, 30})),
                    Contains("picture: expected [1, 3, H, W] of at least 9x9 for 3 scales, found [1, 3, 8, 30]"));
  CHECK_THROWS_WITH(guide.text_features({}), Contains("CLIP guide: texts: expected at least one, found none"));
  CHECK_THROWS_WITH(guide.features(at::zeros({1, 3, 7, 30})),
                    Contains("ClipModel: pixels: expected [B, 3, H, W] of at least 8x8, found [1, 3, 7, 30]"));
  const Text2LiveObjective objective(guide, golden_horse);
  CHECK_THROWS_WITH(objective({}, {}, {}, 0),
                    Contains("expected as many layers and draws as pictures, at least one, found 0, 0 and 0"));
}
