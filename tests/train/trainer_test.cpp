#include "ip2p/train/trainer.hpp"

#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/nn/module.h>

#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/train/conv_in.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/zero_branches.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"
#include "train/tiny_editor.hpp"

using namespace ip2p;
using ip2p::testing::ScratchDir;
using ip2p::testing::tiny_editor_config;

namespace {

using FewPairs = ip2p::testing::NumberedPairs<5>;
static_assert(PairSource<FewPairs>);

/// Turns texts into vectors without a model.
at::Tensor encode(std::span<const std::string> prompts) {
  std::vector<at::Tensor> rows;
  for (const auto& prompt : prompts) rows.push_back(at::full({3, 6}, 0.1 * static_cast<double>(prompt.size())));
  return at::stack(rows);
}

UNet tiny_unet(std::uint64_t seed = 3) {
  UNet unet(tiny_editor_config());
  initialise(unet.module(), seed);
  return unet;
}

DiffusionLossOptions prediction(std::int64_t batch = 4) {
  DiffusionLossOptions options;
  options.batch = batch;
  options.seed = 11;
  return options;
}

auto trainer(const UNet& unet, FewPairs& pairs, const std::filesystem::path& folder, std::int64_t threads = 1,
             std::int64_t workers = 0) {
  TrainingOptions options;
  options.folder = folder;
  options.checkpoint_every = 2;
  options.clip_norm = 1.0;
  options.threads = threads;
  options.prefetch.workers = workers;
  const DiffusionLoss loss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction());
  return Trainer(Parameters().add(unet), loss, WarmupCosine{1e-2, 2, 20, 0.1}, options);
}

/// A prediction that the library does not know by name.
template <class Base>
struct Own {
  [[nodiscard]] Preconditioning preconditioning(double sigma) const { return Base{}.preconditioning(sigma); }
};

/// One convolution of a noisy latent and its condition, and a bias from time and text.
struct OwnNetwork {
  struct Layers : torch::nn::Module {
    at::Tensor weight = register_parameter("weight", CounterNoise(5).normal({1, 4, 8, 3, 3}, 0)[0] * 0.1);
    at::Tensor bias = register_parameter("bias", at::zeros({4, 6}));
  };
  std::shared_ptr<Layers> layers = std::make_shared<Layers>();
  std::int64_t answered = 4;

  [[nodiscard]] std::int64_t in_channels() const { return 8; }
  [[nodiscard]] std::int64_t out_channels() const { return 4; }
  [[nodiscard]] at::Device device() const { return layers->weight.device(); }
  [[nodiscard]] Layers& module() const { return *layers; }
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context) const {
    const auto words = context.mean(1).matmul(layers->bias.t()) * (timesteps / 1000).unsqueeze(1);
    const auto answer = at::conv2d(x, layers->weight, {}, 1, 1) + words.unsqueeze(-1).unsqueeze(-1);
    return answer.narrow(1, 0, answered);
  }
};
static_assert(TrainableNetwork<OwnNetwork>);

}  // namespace

TEST_CASE("The order of an epoch is a permutation that depends only on seed and epoch", "[train]") {
  const auto order = epoch_order(5, 2, 100);
  CHECK(std::set<std::int64_t>(order.begin(), order.end()).size() == 100);
  CHECK(order == epoch_order(5, 2, 100));
  CHECK(order != epoch_order(5, 3, 100));
  CHECK(order != epoch_order(6, 2, 100));
  CHECK_THROWS_WITH(epoch_order(5, 0, 0), Catch::Contains("at least one pair"));
}

TEST_CASE("A noisy batch holds sqrt(a) z + sqrt(1-a) n beside the unscaled condition", "[train]") {
  FewPairs pairs;
  const DiscreteSchedule schedule;
  const DiffusionLoss loss(tiny_unet(), encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(), NoDropout{});
  const auto batch = loss.batch(3);
  REQUIRE(batch.input.sizes() == at::IntArrayRef({4, 8, 8, 8}));
  // Samples 12 ... 15 of the run: epochs 2 and 3 of five pairs.
  const auto second = epoch_order(11, 2, 5);
  const auto third = epoch_order(11, 3, 5);
  const std::array<std::int64_t, 4> expected{second[2], second[3], second[4], third[0]};
  const auto posterior = CounterNoise(11).normal({4, 4, 8, 8}, 6);
  for (std::int64_t b = 0; b < 4; ++b) {
    SampleRandom unused(0, 0, 0);
    const auto pair = pairs.get(expected[static_cast<std::size_t>(b)], unused);
    CHECK(batch.input[b].narrow(0, 4, 4).equal(pair.condition));
    const auto t = batch.timesteps[b].item<float>();
    CHECK(t == std::floor(t));
    REQUIRE((t >= 0 && t <= 999));
    const double alpha = schedule.alphas_cumprod()[static_cast<std::size_t>(t)];
    const auto target = (pair.target_mean + std::exp(-1.0) * posterior[b]) * 0.18215;
    const auto noisy = target * std::sqrt(alpha) + batch.wanted[b] * std::sqrt(1 - alpha);
    CHECK(at::allclose(batch.input[b].narrow(0, 0, 4), noisy, 1e-5, 1e-6));
  }
  const auto noise = batch.wanted.flatten();
  CHECK(noise.mean().item<double>() == Approx(0).margin(0.15));
  CHECK(noise.std().item<double>() == Approx(1).margin(0.1));
}

TEST_CASE("A UNet without an image input is trained on noisy latents alone, with captions", "[train]") {
  struct Captioned : FewPairs {
    EditPair get(std::int64_t i, SampleRandom& random) {
      auto pair = FewPairs::get(i, random);
      pair.condition = at::Tensor();
      return pair;
    }
  };
  Captioned captions;
  FewPairs pairs;
  UNet text_to_image(tiny_editor_config(4));
  initialise(text_to_image.module(), 3);
  const DiffusionLoss plain(text_to_image, encode, captions, UniformTimesteps{}, EpsPrediction{}, prediction(),
                            NoDropout{});
  const DiffusionLoss conditioned(tiny_unet(), encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(),
                                  NoDropout{});
  const auto batch = plain.batch(3);
  CHECK(batch.input.equal(conditioned.batch(3).input.narrow(1, 0, 4)));
  CHECK(batch.wanted.equal(conditioned.batch(3).wanted));

  TrainingOptions options;
  options.clip_norm = 1.0;
  Trainer run(Parameters().add(text_to_image), plain, ConstantRate{3e-3}, options);
  const double first = plain(0).item<double>();
  run.run(30);
  CHECK(plain(0).item<double>() < 0.8 * first);
}

TEST_CASE("The target depends on the prediction type; the noisy input is the same", "[train]") {
  FewPairs pairs;
  const auto batch_of = [&](auto asked) {
    return DiffusionLoss(tiny_unet(), encode, pairs, UniformTimesteps{}, asked, prediction(), NoDropout{}).batch(2);
  };
  const auto epsilon = batch_of(EpsPrediction{});
  const auto sample = batch_of(SamplePrediction{});
  const auto velocity = batch_of(VPrediction{});
  CHECK(batch_of(AnyPrediction{PredictionType::v_prediction}).wanted.equal(velocity.wanted));
  CHECK(epsilon.input.equal(sample.input));
  CHECK(epsilon.input.equal(velocity.input));
  const DiscreteSchedule schedule;
  const auto& alphas = schedule.alphas_cumprod();
  for (std::int64_t b = 0; b < 4; ++b) {
    const double alpha = alphas[static_cast<std::size_t>(epsilon.timesteps[b].item<float>())];
    const double a = std::sqrt(alpha), s = std::sqrt(1 - alpha);
    const auto noisy = epsilon.input[b].narrow(0, 0, 4);
    CHECK(at::allclose(a * sample.wanted[b] + s * epsilon.wanted[b], noisy, 1e-5, 1e-6));
    // x0 = a x - s v and noise = s x + a v (Salimans and Ho 2022).
    CHECK(at::allclose(a * noisy - s * velocity.wanted[b], sample.wanted[b], 1e-4, 1e-5));
    CHECK(at::allclose(s * noisy + a * velocity.wanted[b], epsilon.wanted[b], 1e-4, 1e-5));
  }
  // A user's own policy is used through its preconditioning alone and gives the same.
  const auto same = [](const NoisyBatch& own, const NoisyBatch& published) {
    CHECK(at::allclose(own.input, published.input, 1e-5, 1e-6));
    CHECK(at::allclose(own.wanted, published.wanted, 1e-4, 1e-5));
  };
  same(batch_of(Own<EpsPrediction>{}), epsilon);
  same(batch_of(Own<VPrediction>{}), velocity);
  same(batch_of(Own<SamplePrediction>{}), sample);
}

TEST_CASE("An EDM network is trained on inputs and targets of unit variance, over all noise levels", "[train]") {
  FewPairs pairs;
  const EdmPrediction edm{.sigma_data = 0.2};
  auto options = prediction(256);
  options.scaling_factor = edm.sigma_data / std::sqrt(1.0 + std::exp(-2.0));  // FewPairs' latents have that variance
  const auto unet = tiny_unet();
  const DiffusionLoss loss(unet, encode, pairs, LogNormalSigmas{}, edm, options, NoDropout{});
  const auto batch = loss.batch(0);
  // c_noise = ln(sigma) / 4 with ln(sigma) ~ N(-1.2, 1.2^2): Karras et al. 2022, table 1.
  CHECK(batch.timesteps.mean().item<double>() == Approx(-0.3).margin(0.06));
  CHECK(batch.timesteps.std().item<double>() == Approx(0.3).margin(0.04));
  CHECK(batch.input.narrow(1, 0, 4).square().mean().item<double>() == Approx(1).margin(0.1));
  CHECK(batch.wanted.square().mean().item<double>() == Approx(1).margin(0.1));
  // The target leads back to the clean latents: c_skip x + c_out F is the same for any level, so that the denoiser's
  // estimate is exact.
  for (std::int64_t b = 0; b < 8; ++b) {
    const double sigma = std::exp(4.0 * batch.timesteps[b].item<double>());
    const auto [c_in, c_skip, c_out] = edm.preconditioning(sigma);
    const auto x = batch.input[b].narrow(0, 0, 4) / c_in;
    const auto clean = c_skip * x + c_out * batch.wanted[b];
    const auto noise = (x - clean) / sigma;
    CHECK(noise.square().mean().item<double>() == Approx(1).margin(0.35));
    CHECK(clean.square().mean().item<double>() == Approx(0.04).epsilon(0.35));
  }
  Trainer run(Parameters().add(unet), loss, ConstantRate{3e-3});
  CHECK(std::isfinite(run.advance().loss));
  SampleRandom random(0, 0, 0);
  CHECK_THROWS_WITH((LogNormalSigmas{.deviation = 0.0}.draw(random)),
                    Catch::Contains("deviation > 0, found -1.2 and 0"));
}

TEST_CASE("A loss weight reaches the trainer, which minimises the weighted error", "[train]") {
  FewPairs pairs;
  const auto loss_with = [&](const UNet& unet, auto asked, auto weight) {
    return DiffusionLoss(unet, encode, pairs, UniformTimesteps{}, asked, prediction(), NoDropout{}, weight);
  };
  const auto unet = tiny_unet();
  const auto alphas = DiscreteSchedule().alphas_cumprod();
  const auto check = [&](auto asked, auto expected) {
    const auto loss = loss_with(unet, asked, MinSnrWeight{.gamma = 5.0});
    const auto batch = loss.batch(1);
    const at::NoGradGuard no_grad;
    const auto predicted = unet(batch.input, batch.timesteps, encode(batch.instructions));
    double sum = 0;
    for (std::int64_t b = 0; b < 4; ++b) {
      const double alpha = alphas[static_cast<std::size_t>(batch.timesteps[b].template item<float>())];
      const double weight = expected(alpha / (1 - alpha));
      CHECK(batch.weights[b].template item<double>() == Approx(weight).epsilon(1e-5));
      sum += weight * (predicted[b] - batch.wanted[b]).square().mean().template item<double>() / 4;
    }
    CHECK(loss(1).template item<double>() == Approx(sum).epsilon(1e-4));
    auto trained = tiny_unet();
    Trainer run(Parameters().add(trained), loss_with(trained, asked, MinSnrWeight{}), ConstantRate{1e-3});
    run.advance();
    CHECK(run.advance().loss > 1e-6);
  };
  check(EpsPrediction{}, [](double snr) { return std::min(snr, 5.0) / snr; });
  check(VPrediction{}, [](double snr) { return std::min(snr, 5.0) / (snr + 1); });
  check(SamplePrediction{}, [](double snr) { return std::min(snr, 5.0); });

  // Updates differ from those of the simple loss in the way that the weights demand: a weight of 0 makes none.
  const auto weights_after = [&](auto weight) {
    const auto trained = tiny_unet();
    TrainingOptions options;
    options.optimiser.weight_decay = 0.0;
    Trainer run(Parameters().add(trained), loss_with(trained, EpsPrediction{}, weight), ConstantRate{1e-3}, options);
    run.run(2);
    std::vector<at::Tensor> all;
    for (const auto& tensor : run.parameters().tensors) all.push_back(tensor.detach().flatten());
    return at::cat(all);
  };
  std::vector<at::Tensor> start;
  for (const auto& tensor : Parameters().add(tiny_unet()).tensors) start.push_back(tensor.detach().flatten());
  CHECK(weights_after([](double, const Preconditioning&) { return 0.0; }).equal(at::cat(start)));
  CHECK_FALSE(weights_after(MinSnrWeight{.gamma = 0.1}).equal(weights_after(UniformWeight{})));
  CHECK(weights_after([](double, const Preconditioning&) { return 1.0; }).equal(weights_after(UniformWeight{})));
  CHECK_THROWS_WITH(weights_after([](double, const Preconditioning&) { return -1.0; }),
                    Catch::Contains("loss weight: expected a finite weight >= 0") && Catch::Contains("found -1"));
}

TEST_CASE("A user's own network is trained, alone and with its text model", "[train]") {
  FewPairs pairs;
  const OwnNetwork network;
  const DiffusionLoss loss(network, encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(), NoDropout{});
  Trainer run(Parameters().add(network.module(), "own"), loss, ConstantRate{1e-2});
  CHECK(run.parameters().names.front() == "own.weight");
  std::vector<double> losses;
  run.run(60, [&](const TrainingProgress& progress) { losses.push_back(progress.loss); });
  CHECK(losses.back() < 0.7 * losses.front());

  OwnNetwork narrow;
  narrow.answered = 3;
  const DiffusionLoss wrong(narrow, encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction());
  CHECK_THROWS_WITH(wrong(0), Catch::Contains("network: expected a prediction of the shape [4, 4, 8, 8]") &&
                                  Catch::Contains("found [4, 3, 8, 8]"));
}

TEST_CASE("Fresh weights are drawn in fp32 on the CPU and copied, so that device and dtype do not change them",
          "[train]") {
  UNet narrow(tiny_editor_config());
  narrow.to(at::kCPU, at::kBFloat16);
  initialise(narrow.module(), 3);
  const auto expected = tiny_unet();
  for (const auto& [name, tensor] : narrow.module().named_parameters()) {
    INFO(name);
    CHECK(tensor.equal(expected.module().parameter(name).to(at::kBFloat16)));
  }
}

TEST_CASE("A run computes each epoch's order once, whatever needs it", "[train]") {
  const EpochOrders orders(5);
  const EpochOrders copy = orders;
  for (std::int64_t n = 0; n < 300; ++n) {
    CHECK(copy.item(n, 100) == epoch_order(5, n / 100, 100)[static_cast<std::size_t>(n % 100)]);
  }
  CHECK(orders.made() == 3);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (std::int64_t n = 250; n < 350; ++n) static_cast<void>(orders.item(n, 100));
      });
    }
  }
  CHECK(orders.made() == 4);
  CHECK_THROWS_WITH(orders.item(0, 0), Catch::Contains("at least one pair"));
}

TEST_CASE("Dropout empties instructions and zeroes conditions, and changes nothing else", "[train]") {
  FewPairs pairs;
  const DiffusionLoss plain(tiny_unet(), encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(200),
                            NoDropout{});
  const DiffusionLoss dropping(tiny_unet(), encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(200),
                               ConditioningDropout{.1, .1, .1});
  const auto a = plain.batch(0);
  const auto b = dropping.batch(0);
  CHECK(a.input.narrow(1, 0, 4).equal(b.input.narrow(1, 0, 4)));
  int text = 0, image = 0, both = 0;
  for (std::int64_t i = 0; i < 200; ++i) {
    const bool no_text = b.instructions[static_cast<std::size_t>(i)].empty();
    const bool no_image = b.input[i].narrow(0, 4, 4).count_nonzero().item<std::int64_t>() == 0;
    if (!no_image) CHECK(b.input[i].equal(a.input[i]));
    if (!no_text) CHECK(b.instructions[static_cast<std::size_t>(i)] == a.instructions[static_cast<std::size_t>(i)]);
    text += no_text ? 1 : 0;
    image += no_image ? 1 : 0;
    both += no_text && no_image ? 1 : 0;
  }
  CHECK(text == Approx(40).margin(18));
  CHECK(image == Approx(40).margin(18));
  CHECK(both == Approx(20).margin(13));
}

TEST_CASE("The parts of a batch make up the batch", "[train]") {
  FewPairs pairs;
  const DiffusionLoss loss(tiny_unet(), encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(),
                           ConditioningDropout{});
  const auto whole = loss.batch(1);
  const auto first = loss.batch(1, 0, 2);
  const auto second = loss.batch(1, 1, 2);
  CHECK(at::cat({first.input, second.input}).equal(whole.input));
  CHECK(at::cat({first.wanted, second.wanted}).equal(whole.wanted));
  CHECK(at::cat({first.timesteps, second.timesteps}).equal(whole.timesteps));
  CHECK_THROWS_WITH(loss.batch(1, 0, 3), Catch::Contains("multiple of 3 parts"));
}

TEST_CASE("With zeroed branches a UNet predicts 0, so that the first loss is the power of the noise", "[train]") {
  FewPairs pairs;
  const auto unet = tiny_unet();
  start_branches_at_zero(unet);
  const DiffusionLoss loss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(), NoDropout{});
  CHECK(loss(0).item<double>() == Approx(loss.batch(0).wanted.square().mean().item<double>()));
}

TEST_CASE("bf16 autocast gives the fp32 loss within bf16's precision", "[train]") {
  FewPairs pairs;
  const auto unet = tiny_unet();
  auto options = prediction();
  const double expected =
      DiffusionLoss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, options, NoDropout{})(0).item<double>();
  options.compute = at::kBFloat16;
  const auto loss = DiffusionLoss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, options, NoDropout{})(0);
  CHECK(loss.scalar_type() == at::kFloat);
  CHECK(loss.item<double>() == Approx(expected).epsilon(0.02));
  CHECK(loss.item<double>() != expected);
  CHECK_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
}

TEST_CASE("Training lowers the loss", "[train]") {
  FewPairs pairs;
  const auto unet = tiny_unet();
  auto run = trainer(unet, pairs, {});
  const auto mean_loss = [&] {
    const at::NoGradGuard no_grad;
    double sum = 0;
    for (std::int64_t step = 100; step < 110; ++step) sum += run.loss()(step).item<double>() / 10;
    return sum;
  };
  const double before = mean_loss();
  CHECK(run.run(20));
  CHECK(mean_loss() < 0.95 * before);
  // The averaged weights differ, and the trained ones come back afterwards.
  const double trained = mean_loss();
  double averaged = 0;
  run.with_average([&] { averaged = mean_loss(); });
  CHECK(averaged != trained);
  CHECK(mean_loss() == trained);
}

TEST_CASE("A resumed run ends with the same bits as one that was not interrupted", "[train]") {
  const ScratchDir scratch;
  FewPairs pairs;
  const auto once = tiny_unet();
  auto whole = trainer(once, pairs, scratch / "whole");
  whole.run(7);

  const auto interrupted = tiny_unet();
  {
    auto first = trainer(interrupted, pairs, scratch / "parts");
    std::stop_source stop;
    CHECK_FALSE(first.run(
        7,
        [&](const TrainingProgress& progress) {
          if (progress.step == 3) stop.request_stop();
        },
        stop.get_token()));
    CHECK(first.step() == 3);
  }
  const auto later = tiny_unet(1234);  // other weights, which the checkpoint replaces
  auto second = trainer(later, pairs, scratch / "parts");
  REQUIRE(second.resume());
  CHECK(second.step() == 3);
  CHECK(second.run(7));

  const auto expected = whole.snapshot();
  const auto found = second.snapshot();
  CHECK(expected.step == found.step);
  REQUIRE(expected.tensors.size() == found.tensors.size());
  for (const auto& [name, tensor] : expected.tensors) {
    INFO(name);
    CHECK(tensor.equal(found.tensors.at(name)));
  }
  const auto curve = LossCurve::read(scratch / "parts/loss.csv");
  const auto whole_curve = LossCurve::read(scratch / "whole/loss.csv");
  REQUIRE(curve.size() == 7);
  for (std::size_t i = 0; i < 7; ++i) CHECK(curve[i].loss == whole_curve[i].loss);
}

TEST_CASE("A checkpoint of other parameters is refused and changes nothing", "[train]") {
  const ScratchDir scratch;
  FewPairs pairs;
  const auto small = tiny_unet();
  trainer(small, pairs, scratch.path()).run(2);
  auto config = tiny_editor_config();
  config.cross_attention_dim = 5;
  UNet other(config);
  initialise(other.module(), 1);
  auto run = trainer(other, pairs, scratch.path());
  const auto before = run.snapshot().tensors.begin()->second.clone();
  CHECK_THROWS_WITH(run.resume(), Catch::Contains("checkpoint of step 2") && Catch::Contains("expected [32, 5]"));
  CHECK(run.snapshot().tensors.begin()->second.equal(before));
}

TEST_CASE("Threads that share an update compute the same gradient as one", "[train]") {
  FewPairs pairs;
  const auto unet = tiny_unet();
  const auto parameters = Parameters().add(unet);
  const DiffusionLoss loss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(), NoDropout{});
  const auto value = loss(0);
  value.backward();
  std::vector<at::Tensor> expected;
  for (auto& parameter : parameters.tensors) {
    expected.push_back(parameter.grad().clone());
    parameter.mutable_grad().reset();
  }

  const auto shared = [&] {
    return ip2p::detail::loss_by_threads(
        parameters, 2, [&](std::size_t i) { return loss(0, static_cast<std::int64_t>(i), 2); },
        [](const at::Tensor& loss) { return loss; });
  };
  const auto mean = shared();
  CHECK_FALSE(mean.requires_grad());
  CHECK(mean.item<double>() == Approx(value.item<double>()).epsilon(1e-5));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    INFO(parameters.names[i]);
    CHECK(at::allclose(parameters.tensors[i].grad(), expected[i], 1e-3, 1e-5));
  }
  shared();  // adds, as a second backward pass would
  CHECK(at::allclose(parameters.tensors[0].grad(), 2 * expected[0], 1e-3, 1e-5));

  auto trained = trainer(unet, pairs, {}, 2);
  double first = 0, last = 0;
  trained.run(15, [&](const TrainingProgress& progress) { (progress.step == 1 ? first : last) = progress.loss; });
  CHECK(last < first);
  CHECK_THROWS_WITH(trainer(unet, pairs, {}, 0), Catch::Contains("training threads: expected at least 1, found 0"));
}

TEST_CASE("Batches prepared ahead are the same as without, with threads and across an interruption", "[train]") {
  FewPairs pairs;
  const auto weights_after = [&](std::int64_t threads, std::int64_t workers, std::int64_t half) {
    const auto unet = tiny_unet();
    auto run = trainer(unet, pairs, {}, threads, workers);
    if (half > 0) run.run(half);
    run.run(6);
    std::vector<at::Tensor> weights;
    for (const auto& tensor : run.parameters().tensors) weights.push_back(tensor.detach().flatten());
    return at::cat(weights);
  };
  const auto once = weights_after(1, 0, 0);
  CHECK(weights_after(1, 2, 0).equal(once));
  CHECK(weights_after(1, 2, 3).equal(once));
  const auto shared = weights_after(2, 0, 0);
  CHECK(weights_after(2, 2, 3).equal(shared));
  CHECK_FALSE(shared.equal(at::zeros_like(shared)));

  const auto weight = at::full({3}, 2.0).set_requires_grad(true);
  const auto loss = [&](std::int64_t) { return weight.sum(); };
  CHECK_THROWS_WITH(
      Trainer(Parameters{{"weight"}, {weight}}, loss, ConstantRate{}, TrainingOptions{.prefetch = {.workers = 2}}),
      Catch::Contains("prefetch: expected a loss with `batch(step, part, parts)`") && Catch::Contains("2 workers"));
}

TEST_CASE("A loss that computes in fp16 is scaled, by threads too", "[train]") {
  FewPairs pairs;
  const auto half = prediction();
  auto narrow = half;
  narrow.compute = at::kHalf;
  const auto unet = tiny_unet();
  const auto loss_of = [&](const DiffusionLossOptions& options) {
    return DiffusionLoss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, options);
  };
  CHECK(Trainer(Parameters().add(unet), loss_of(half)).advance().scale == 1.0);
  CHECK(Trainer(Parameters().add(unet), loss_of(narrow)).advance().scale == 65536.0);

  // Scales are powers of two, so they cancel exactly in the gradients.
  const auto weights_after = [&](bool scaled) {
    const auto trained = tiny_unet();
    const DiffusionLoss loss(trained, encode, pairs, UniformTimesteps{}, EpsPrediction{}, half);
    TrainingOptions options;
    options.threads = 2;
    if (scaled) options.loss_scaler = LossScalerOptions{.initial_scale = 16.0};
    Trainer run(Parameters().add(trained), loss, ConstantRate{1e-3}, options);
    run.run(2);
    return run.parameters().tensors.front().detach().clone();
  };
  CHECK(at::allclose(weights_after(true), weights_after(false), 0, 1e-6));
}

TEST_CASE("A batch computed in parts makes the same update as the whole batch", "[train]") {
  FewPairs pairs;
  const auto weights_after = [&](std::int64_t accumulate, std::int64_t threads) {
    const auto unet = tiny_unet();
    TrainingOptions options;
    options.accumulate = accumulate;
    options.optimiser.eps = 1e-3;  // gradients that are only rounding errors must not make a step
    options.threads = threads;
    const DiffusionLoss loss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, prediction(), NoDropout{});
    Trainer run(Parameters().add(unet), loss, ConstantRate{1e-2}, options);
    run.run(3);
    std::vector<at::Tensor> weights;
    for (const auto& tensor : run.parameters().tensors) weights.push_back(tensor.detach().flatten());
    return at::cat(weights);
  };
  const auto whole = weights_after(1, 1);
  CHECK(at::allclose(weights_after(2, 1), whole, 0, 1e-5));
  CHECK(at::allclose(weights_after(2, 2), whole, 0, 1e-5));

  auto weight = at::full({3}, 2.0).set_requires_grad(true);
  TrainingOptions options;
  options.accumulate = 2;
  const auto unsplit = [&](std::int64_t) { return weight.sum(); };
  Trainer run(Parameters{{"weight"}, {weight}}, unsplit, ConstantRate{0.1}, options);
  CHECK_THROWS_WITH(run.advance(), Catch::Contains("batch in 2 parts") && Catch::Contains("the step alone"));
  options.accumulate = 0;
  CHECK_THROWS_WITH(Trainer(Parameters{{"weight"}, {weight}}, unsplit, ConstantRate{0.1}, options),
                    Catch::Contains("at least 1 part, found 0"));
}

TEST_CASE("A loss that is not finite leaves weights and averages alone, and several in a row end the run", "[train]") {
  auto weight = at::full({3}, 2.0).set_requires_grad(true);
  Parameters parameters{{"weight"}, {weight}};
  TrainingOptions options;
  options.largest_bad_streak = 3;
  bool bad = true;
  const auto loss = [&](std::int64_t) {
    return bad ? weight.sum() * std::numeric_limits<double>::quiet_NaN() : weight.square().sum();
  };
  Trainer run(parameters, loss, ConstantRate{0.1}, options);
  run.advance();
  run.advance();
  CHECK(weight.equal(at::full({3}, 2.0)));
  CHECK(run.average().average()[0].equal(at::full({3}, 2.0)));
  CHECK(run.average().updates() == 0);
  bad = false;
  run.advance();  // a good one resets the count
  bad = true;
  CHECK_FALSE(weight.equal(at::full({3}, 2.0)));
  run.advance();
  run.advance();
  CHECK_THROWS_WITH(run.advance(), Catch::Contains("not finite 3 times in a row"));
}

TEST_CASE("Widening conv_in keeps weights and bias and ignores the new channels at first", "[train]") {
  UNet old(tiny_editor_config(4));
  initialise(old.module(), 5);
  Weights weights;
  for (const auto& [name, tensor] : state_of(old.module())) {
    weights[name] = {tensor.sizes().vec(), tensor.scalar_type(), [tensor] { return tensor; }};
  }
  UNet wide(tiny_editor_config(8));
  load_weights(wide.module(), widen_conv_in(weights, 8), "widened");
  const auto& conv = *wide.module().conv_in;
  CHECK(conv.weight.narrow(1, 0, 4).equal(old.module().conv_in->weight));
  CHECK(conv.weight.narrow(1, 4, 4).count_nonzero().item<std::int64_t>() == 0);
  CHECK(conv.bias.equal(old.module().conv_in->bias));
  CHECK(conv.bias.count_nonzero().item<std::int64_t>() > 0);

  const at::NoGradGuard no_grad;
  const auto noisy = CounterNoise(1).normal({2, 4, 8, 8}, 0);
  const auto photo = CounterNoise(2).normal({2, 4, 8, 8}, 0);
  const auto context = CounterNoise(3).normal({2, 3, 6}, 0);
  const auto t = at::full({2}, 500.0);
  CHECK(at::allclose(wide(at::cat({noisy, photo}, 1), t, context), old(noisy, t, context), 1e-5, 1e-6));

  CHECK_THROWS_WITH(widen_conv_in(weights, 3), Catch::Contains("at most 3"));
  weights.erase("conv_in.weight");
  CHECK_THROWS_WITH(widen_conv_in(weights, 8), Catch::Contains("conv_in.weight"));
}
