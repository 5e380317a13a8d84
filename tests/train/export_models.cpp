// Writes a small model as a folder and as a single file, with its outputs for fixed inputs, for
// tests/parity/export_in_diffusers.py:
//
//   export_models TOKENIZER OUT
//
// OUT/folder, OUT/single.safetensors, OUT/expected.safetensors

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>

#include <cstdio>
#include <filesystem>

#include "ip2p/core/random.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/train/export.hpp"

int main(int argc, char** argv) {
  try {
    ip2p::require(argc == 3, "expected the folders of a tokenizer and of the output, found {} arguments", argc - 1);
    const std::filesystem::path out = argv[2];
    ip2p::UNetConfig config;
    config.block_out_channels = {32, 64, 64};
    config.cross_attention = {true, true, false};
    config.cross_attention_dim = 64;
    config.heads = {8, 8, 8};
    config.transformer_layers = {1, 1, 1};
    const ip2p::UNet unet(config);
    ip2p::KlAutoencoderConfig codec_config;
    codec_config.block_out_channels = {32, 64};
    const ip2p::KlAutoencoder codec(codec_config);
    ip2p::ClipTextConfig text_config;
    text_config.hidden_size = 64;
    text_config.intermediate_size = 128;
    text_config.num_hidden_layers = 2;
    text_config.num_attention_heads = 1;
    const ip2p::ClipTextModel text(text_config);
    ip2p::initialise(unet.module(), 1);
    ip2p::initialise(codec.module(), 2);
    ip2p::initialise(text.module(), 3);

    ip2p::ExportOptions options;
    options.dtype = at::kFloat;
    options.tokenizer = argv[1];
    ip2p::save_model(out / "folder", unet, codec, text, options);
    ip2p::save_single_file(out / "single.safetensors", unet, codec, text, options);

    const at::NoGradGuard no_grad;
    const auto x = ip2p::CounterNoise(5).normal({2, 8, 16, 16}, 0);
    const auto context = ip2p::CounterNoise(6).normal({2, 7, 64}, 0);
    const auto latents = ip2p::CounterNoise(7).normal({1, 4, 8, 8}, 0);
    const auto ids = at::arange(77, at::kLong).mul(600).view({1, 77});
    const auto timestep = at::full({2}, 437.0);
    const auto files = ip2p::ModelFiles::open(out / "single.safetensors");
    ip2p::write_safetensors(out / "expected.safetensors",
                            {{"x", x},
                             {"timestep", timestep},
                             {"context", context},
                             {"latents", latents},
                             {"ids", ids},
                             {"unet", ip2p::load<ip2p::UNet>(files)(x, timestep, context)},
                             {"vae", ip2p::load<ip2p::KlAutoencoder>(files).decode(latents)},
                             {"text", ip2p::load<ip2p::ClipTextModel>(files)(ids)}});
    return 0;
  } catch (const std::exception& error) {
    std::fputs(fmt::format("{}\n", error.what()).c_str(), stderr);
    return 1;
  }
}
