// Every shipped type keeps the laws of its role. Samplers, schedules, guidance, attention, filters, optimisers and
// communicators are checked in their own tests.

#include <cmath>

#include "data/made_pairs.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/codec/tiled.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/core/shared_noise.hpp"
#include "ip2p/data/cached_pairs.hpp"
#include "ip2p/data/encoded_pairs.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/testing/check_codec.hpp"
#include "ip2p/testing/check_dropout.hpp"
#include "ip2p/testing/check_learning_rate.hpp"
#include "ip2p/testing/check_loss_weight.hpp"
#include "ip2p/testing/check_network.hpp"
#include "ip2p/testing/check_noise.hpp"
#include "ip2p/testing/check_pair_source.hpp"
#include "ip2p/testing/check_prediction.hpp"
#include "ip2p/testing/check_text_encoder.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/train/any_learning_rate.hpp"
#include "ip2p/train/exponential_decay.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;

namespace {

ModelFiles small_model() { return ModelFiles::open(testing::fixture("pipeline/fixtures/tiny-ip2p")); }

}  // namespace

TEST_CASE("The shipped codecs keep the laws", "[testing]") {
  testing::check_codec(IdentityCodec{}, {.round_trip = 0.0});
  const auto kl = load<KlAutoencoder>(small_model());
  testing::check_codec(kl);
  testing::check_codec(load<TinyAutoencoder>(ModelFiles::open(testing::fixture("codec/fixtures/tiny-autoencoder"))));
  testing::check_codec(load<DcAutoencoder>(ModelFiles::open(testing::fixture("codec/fixtures/dc-autoencoder"))));
  testing::check_codec(OnDemand<DcAutoencoder>(ModelFiles::open(testing::fixture("codec/fixtures/dc-autoencoder"))));
  testing::check_codec(Tiled(IdentityCodec{}, 4, 1), {.round_trip = 1e-6});
  testing::check_codec(Tiled(kl, 4, 2));
  testing::check_codec(OnDemand<KlAutoencoder>(small_model()));
}

TEST_CASE("The shipped text encoders keep the laws", "[testing]") {
  const auto clip = load<ClipTextEncoder>(small_model());
  testing::check_text_encoder(clip);
  testing::check_text_encoder(CachedTextEncoder(clip));
  testing::check_text_encoder(OnDemand<ClipTextEncoder>(small_model()));
}

TEST_CASE("UNet keeps the laws of a network", "[testing]") {
  for (const bool inference : {true, false}) {
    const auto unet = load<UNet>(small_model(), {.inference = inference});
    testing::check_network(unet, {.context_width = unet.config().cross_attention_dim});
  }
}

TEST_CASE("The shipped predictions keep the laws and say what networks are trained to return", "[testing]") {
  const auto noise = [](const at::Tensor&, const at::Tensor& drawn, double) { return drawn; };
  const auto clean = [](const at::Tensor& x0, const at::Tensor&, double) { return x0; };
  // v = alpha noise - sqrt(1 - alpha^2) x0, with alpha = 1 / sqrt(1 + sigma^2).
  const auto velocity = [](const at::Tensor& x0, const at::Tensor& drawn, double sigma) {
    return drawn.sub(x0, sigma).div(std::sqrt(1.0 + sigma * sigma));
  };
  testing::check_prediction(EpsPrediction{}, noise);
  testing::check_prediction(VPrediction{}, velocity);
  testing::check_prediction(SamplePrediction{}, clean);
  testing::check_prediction(AnyPrediction{PredictionType::epsilon}, noise);
  testing::check_prediction(AnyPrediction{PredictionType::v_prediction}, velocity);
  testing::check_prediction(AnyPrediction{PredictionType::sample}, clean);
  // The target of Karras et al. 2022 has unit variance for data of deviation sigma_data.
  for (const double deviation : {0.5, 1.0, 3.0}) {
    testing::check_prediction(
        EdmPrediction{deviation}, [&](const at::Tensor& x0, const at::Tensor& drawn, double sigma) {
          return x0.mul(sigma / deviation).sub(drawn, deviation).div(std::hypot(sigma, deviation));
        });
  }
}

TEST_CASE("The shipped learning rates, dropouts and loss weights keep the laws", "[testing]") {
  for (const auto name : AnyLearningRate::names()) {
    testing::check_learning_rate(AnyLearningRate::named(name, {.peak = 1e-3, .warmup = 100, .steps = 1500}));
  }
  testing::check_learning_rate(ConstantRate{});
  testing::check_learning_rate(WarmupConstant{});
  testing::check_learning_rate(LinearDecay{});
  testing::check_learning_rate(CosineDecay{});
  testing::check_learning_rate(CosineRestarts{.cycles = 3});
  testing::check_learning_rate(PolynomialDecay{});
  testing::check_learning_rate(WarmupCosine{});
  testing::check_learning_rate(ExponentialDecay{});
  testing::check_dropout(ConditioningDropout{}, {.text = 0.05, .both = 0.05, .image = 0.05});
  testing::check_dropout(ConditioningDropout{.text = 0.2, .both = 0.0, .image = 0.8}, {.text = 0.2, .image = 0.8});
  testing::check_dropout(NoDropout{}, {});
  testing::check_loss_weight(UniformWeight{});
  testing::check_loss_weight(MinSnrWeight{});
  testing::check_loss_weight(MinSnrWeight{.gamma = 1.0});
}

TEST_CASE("The shipped pair sources keep the laws", "[testing]") {
  const testing::ScratchDir scratch;
  testing::write_pair_folder(scratch / "set", 3);
  const auto folder = PairFolder::open(scratch / "set", {.split = PairSplit::all});
  const auto codec = load<KlAutoencoder>(small_model());
  EncodedPairs encoded(folder, codec, {.smallest = 32, .largest = 40, .crop = 32});
  testing::check_pair_source(encoded);
  CachedPairs cached(folder, codec, {.folder = scratch / "cache", .codec = "small", .crop = 32});
  testing::check_pair_source(cached);
  testing::check_pair_source(cached);  // this time from disk
}

TEST_CASE("Noise that a group shares keeps the laws", "[testing]") {
  testing::check_noise(SharedNoise(CounterNoise(3), 2), 4, 2);
  testing::check_noise(SharedNoise(TorchNoise(3), 3), 3, 3);
}
