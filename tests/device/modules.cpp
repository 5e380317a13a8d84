// Every module on the device against the CPU.

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/check.hpp"
#include "device/models.hpp"
#include "ip2p/attention/plain.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/evaluate/lpips.hpp"
#include "ip2p/language/gpt2.hpp"
#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/fp8.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/vision/clip_model.hpp"

namespace ip2p::device_check {

namespace {

at::Tensor noise(std::uint64_t seed, std::vector<std::int64_t> shape) { return CounterNoise(seed).normal(shape, 0); }

/// What a call of `work` takes, of twenty after one another.
double microseconds(at::Device device, const std::function<void()>& work) {
  return 1e6 / 20.0 * median_seconds(device, 5, [&] {
           for (int i = 0; i < 20; ++i) work();
         });
}

/// Token ids [rows, tokens] below `limit`, never the last one.
at::Tensor some_ids(std::int64_t rows, std::int64_t tokens, std::int64_t limit) {
  return at::arange(rows * tokens, at::kLong).mul_(7919).remainder_(limit - 1).view({rows, tokens});
}

/// Rounding errors in 16 bits grow with the depth of a network: what diffusers' own bf16 differs from its fp32 by is
/// several times what one layer does.
constexpr double deep = 4.0;

void attention(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const std::int64_t pixels = settings.small ? 48 : 256;
  for (const std::int64_t head : {40, 80, 160, 512}) {
    for (const bool cross : {false, true}) {
      const auto q = noise(1, {2, 2, pixels, head}), k = noise(2, {2, 2, cross ? 77 : pixels, head}),
                 v = noise(3, {2, 2, cross ? 77 : pixels, head});
      parity(report, settings, fmt::format("{}-attention, head size {}", cross ? "cross" : "self", head),
             [&](const Place& place) {
               const auto put = [&](const at::Tensor& t) { return t.to(place.device, place.dtype); };
               return PlainAttention{}({.cross = cross, .layer = 0, .height = 1, .width = pixels, .step = {}}, put(q),
                                       put(k), put(v));
             });
    }
  }
}

void unet(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const auto plain = seeded<UNet>(checked_unet(settings.small, 8), 1);
  const std::int64_t side = settings.small ? 8 : 24;
  const auto context = noise(3, {3, 77, 64});
  const auto times = at::tensor({999.0F, 437.25F, 0.5F});
  const auto x = noise(2, {3, 8, side, side});
  parity(
      report, settings, "UNet", [&](const Place& place) { return placed(plain, place)(x, times, context); },
      every_dtype, deep);
  const auto odd = noise(4, {1, 8, 9, 13});
  parity(
      report, settings, "UNet, odd sides",
      [&](const Place& place) { return placed(plain, place)(odd, times.narrow(0, 0, 1), context.narrow(0, 0, 1)); },
      every_dtype, deep);
  parity(
      report, settings, "UNet, rows shared by branches",
      [&](const Place& place) {
        const auto model = placed(plain, place);
        const auto rows = at::tensor({std::int64_t{0}, std::int64_t{0}, std::int64_t{1}}, at::kLong).to(place.device);
        return model(x.narrow(0, 0, 2), model.project_time(times.narrow(0, 1, 1)), model.project_context(context),
                     PlainAttention{}, {}, rows);
      },
      every_dtype, deep);
}

void codecs(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const auto kl = seeded<KlAutoencoder>(checked_codec(settings.small), 5);
  const std::int64_t side = settings.small ? 32 : 128;
  const auto pictures = noise(6, {2, 3, side, side}).clamp(-1, 1);
  const auto latents = noise(7, {2, 4, side / 8, side / 8});
  parity(
      report, settings, "KlAutoencoder, encoder",
      [&](const Place& place) {
        const auto moments = placed(kl, place).encode_moments(pictures);
        return joined({moments.mean, moments.logvar});
      },
      every_dtype, deep);
  parity(
      report, settings, "KlAutoencoder, decoder", [&](const Place& place) { return placed(kl, place).decode(latents); },
      every_dtype, deep);
  TinyAutoencoderConfig config;
  if (settings.small) config.channels = 16;
  const auto tiny = seeded<TinyAutoencoder>(config, 8);
  parity(
      report, settings, "TinyAutoencoder, encoder",
      [&](const Place& place) { return placed(tiny, place).encode(pictures); }, every_dtype, deep);
  parity(
      report, settings, "TinyAutoencoder, decoder",
      [&](const Place& place) { return placed(tiny, place).decode(latents); }, every_dtype, deep);
  DcAutoencoderConfig compression;
  compression.encoder_block_out_channels = compression.decoder_block_out_channels = {16, 32, 64, 128};
  compression.encoder_layers_per_block = {0, 1, 1, 1};
  compression.decoder_layers_per_block = {0, 1, 2, 1};
  const auto dc = seeded<DcAutoencoder>(compression, 9);
  parity(
      report, settings, "DcAutoencoder, encoder",
      [&](const Place& place) { return placed(dc, place).encode(pictures); }, every_dtype, deep);
  const auto compressed = noise(10, {2, compression.latent_channels, side / 8, side / 8});
  parity(
      report, settings, "DcAutoencoder, decoder",
      [&](const Place& place) { return placed(dc, place).decode(compressed); }, every_dtype, deep);
}

void texts_and_pictures(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  auto text = checked_text();
  if (!settings.small) {
    text.hidden_size = 768;
    text.intermediate_size = 3072;
    text.num_attention_heads = 12;
  }
  for (const auto* act : {"quick_gelu", "gelu"}) {
    text.hidden_act = act;
    const auto model = seeded<ClipTextModel>(text, 9);
    const auto ids = some_ids(2, 77, text.vocab_size);
    parity(
        report, settings, fmt::format("ClipTextModel, {}", act),
        [&](const Place& place) { return placed(model, place)(ids); }, every_dtype, deep);
  }
  ClipConfig config;
  config.text = checked_text();
  config.projection_dim = 32;
  config.vision = {.hidden_size = 64,
                   .intermediate_size = 128,
                   .num_hidden_layers = 2,
                   .num_attention_heads = 2,
                   .image_size = 32,
                   .patch_size = 8};
  if (!settings.small) config.vision = {.num_hidden_layers = 4};
  ClipModel clip(config);
  clip.initialise(10);
  const auto side = config.vision.image_size;
  const auto pixels = noise(11, {2, 3, side, side});
  auto ids = some_ids(2, 77, config.text.vocab_size);
  ids.select(1, 76).fill_(config.eos_token_id);
  parity(
      report, settings, "ClipModel, pictures",
      [&](const Place& place) { return placed(clip, place).project_images(pixels); }, every_dtype, deep);
  parity(
      report, settings, "ClipModel, texts", [&](const Place& place) { return placed(clip, place).project_texts(ids); },
      every_dtype, deep);
}

void language(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  Gpt2Config config;
  config.vocab_size = settings.small ? 512 : 50257;
  config.n_positions = 64;
  config.n_layer = settings.small ? 2 : 4;
  if (settings.small) {
    config.n_embd = 64;
    config.n_head = 2;
  }
  const auto model = seeded<Gpt2>(config, 12);
  const auto ids = some_ids(2, 24, config.vocab_size);
  parity(
      report, settings, "Gpt2, whole texts", [&](const Place& place) { return placed(model, place)(ids); }, every_dtype,
      deep);
  parity(
      report, settings, "Gpt2, word by word, one text padded",
      [&](const Place& place) {
        const auto here = placed(model, place);
        auto cache = here.start(24, {0, 3});
        const auto first = here.next(ids.narrow(1, 0, 20), cache);
        return joined({first, here.next(ids.narrow(1, 20, 1), cache), here.next(ids.narrow(1, 21, 1), cache)});
      },
      every_dtype, deep);
}

/// `Lpips` has no configuration: the network is its only choice.
void lpips(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const auto a = noise(13, {2, 3, 64, 64}).clamp(-1, 1), b = noise(14, {2, 3, 64, 64}).clamp(-1, 1);
  for (const auto network : {LpipsNetwork::alexnet, LpipsNetwork::vgg16}) {
    const auto* name = network == LpipsNetwork::alexnet ? "Lpips, AlexNet" : "Lpips, VGG-16";
    if (settings.small && network == LpipsNetwork::vgg16) {
      report.skip(name, "takes the same layers as AlexNet, and too long at this size");
      continue;
    }
    Lpips plain(network);
    initialise(plain.module(), 15);
    for (const auto& layer : plain.module().weights) layer->weight.abs_();  // as the trained ones are
    parity(
        report, settings, name,
        [&](const Place& place) {
          Lpips here(network);
          const auto from = plain.module().parameters(), to = here.module().parameters();
          for (std::size_t i = 0; i < from.size(); ++i) to[i].copy_(from[i]);
          if (!place.reference) here.freeze();
          here.to(place.device, place.dtype);
          return here(a, b);
        },
        every_dtype, deep);
  }
}

/// Linear layers in 8 bits: what they cost in precision, and save in time.
void fp8(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const Place place{.device = settings.device, .dtype = settings.device.is_cpu() ? at::kFloat : at::kBFloat16};
  const auto plain = seeded<UNet>(checked_unet(settings.small, 8), 1);
  const auto side = settings.small ? 8 : 32;
  const auto x = noise(2, {2, 8, side, side}), context = noise(3, {2, 77, 64});
  const auto times = at::tensor({437.0F});
  const auto exact = placed(plain, {.reference = true})(x, times, context);
  const auto model = placed(plain, place);
  try {
    report.measure("layers of a UNet that suit", static_cast<double>(use_fp8(model)), "");
  } catch (const Error& reason) {
    report.skip("linear layers in 8 bits", reason.what());
    return;
  }
  // A product errs by 4 %; what is added to it, the rest of a block, does not.
  report.compare("UNet with linear layers in 8 bits", relative_error(model(x, times, context), exact), 0.1);
  drop_fp8(model);
  report.compare("UNet after they are dropped", relative_error(model(x, times, context), exact),
                 8.0 * limit_of(place.dtype));

  struct Shape {
    std::int64_t rows, in, out;
  };
  const std::vector<Shape> shapes =
      settings.small
          ? std::vector<Shape>{{16, 32, 64}}
          : std::vector<Shape>{{12288, 320, 2560}, {12288, 1280, 320}, {3072, 640, 5120}, {768, 1280, 10240}};
  // Small numbers, whose scale a GPU would not have in fp16.
  const auto dim = noise(4, {16, 32}).mul(1e-3).to(place.device, at::kHalf);
  const auto square = noise(5, {64, 32}).to(place.device, at::kHalf);
  report.compare("small numbers in fp16",
                 relative_error(detail::fp8_linear(dim, detail::to_fp8(square), {}), at::linear(dim, square)), 0.05);
  for (const auto& shape : shapes) {
    const auto rows = noise(4, {shape.rows, shape.in}).to(place.device, place.dtype);
    const auto weight = noise(5, {shape.out, shape.in}).to(place.device, place.dtype);
    const auto in_8_bits = detail::to_fp8(weight);
    const auto name = fmt::format("[{}, {}] to {}", shape.rows, shape.in, shape.out);
    report.compare(name, relative_error(detail::fp8_linear(rows, in_8_bits, {}), at::linear(rows, weight)), 0.05);
    report.measure(fmt::format("{}, {}", name, dtype_name(place.dtype)),
                   microseconds(settings.device, [&] { (void)at::linear(rows, weight); }), "us");
    report.measure(name + ", 8 bits",
                   microseconds(settings.device, [&] { (void)detail::fp8_linear(rows, in_8_bits, {}); }), "us");
  }
}

/// The two forms of the UNet's and the decoder's enlargements, and what runs with cuDNN's benchmark take.
void enlargements(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  struct Shape {
    std::int64_t rows, channels, side;
  };
  const std::vector<Shape> shapes =
      settings.small ? std::vector<Shape>{{2, 16, 6}}
                     : std::vector<Shape>{{3, 1280, 8}, {3, 1280, 16}, {3, 640, 32}, {1, 512, 64}, {1, 256, 256}};
  auto& context = at::globalContext();
  const bool before = context.benchmarkCuDNN();
  for (const auto& shape : shapes) {
    const auto name = fmt::format("[{0},{1},{2},{2}]", shape.rows, shape.channels, shape.side);
    report.attempt(name, [&] {
      const auto layer = std::make_shared<Upsample>(shape.channels);
      initialise(*layer, 3);
      const auto x = noise(6, {shape.rows, shape.channels, shape.side, shape.side});
      const auto expected = (*layer)(x, 2 * shape.side, 2 * shape.side);
      const auto dtype = best_dtype(settings.device);
      for (auto& weight : layer->parameters()) weight.set_data(weight.to(settings.device, dtype));
      const auto placed = x.to(settings.device, dtype).contiguous(at::MemoryFormat::ChannelsLast);
      const auto form = [&](const char* what, bool frozen, bool benchmark) {
        context.setBenchmarkCuDNN(benchmark);
        if (frozen) layer->freeze();
        const auto enlarge = [&] { return (*layer)(placed, 2 * shape.side, 2 * shape.side); };
        report.compare(name + ", " + what, relative_error(enlarge(), expected), limit_of(dtype));
        report.measure(name + ", " + what, microseconds(settings.device, [&] { (void)enlarge(); }), "us");
      };
      layer->conv->freeze();
      form("enlarged", false, true);
      form("in phases", true, false);
      form("the faster", true, true);
    });
  }
  context.setBenchmarkCuDNN(before);
}

}  // namespace

std::vector<Part> module_steps() {
  return {{"attention", false, attention},
          {"unet", false, unet},
          {"enlargements", false, enlargements},
          {"codecs", false, codecs},
          {"clip", false, texts_and_pictures},
          {"language", false, language},
          {"lpips", false, lpips},
          {"fp8", false, fp8}};
}

}  // namespace ip2p::device_check
