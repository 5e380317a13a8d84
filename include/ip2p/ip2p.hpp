#pragma once

/// \file
/// Everything, for applications. Library headers never include this one.

#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/exif.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/image_format.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/io/jpeg.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/png.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/io/resample_passes.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/safetensors_header.hpp"
#include "ip2p/io/webp.hpp"
#include "ip2p/io/weights.hpp"

#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/karras_sigmas.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"

#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

#include "ip2p/guidance/concepts.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/guidance/text_guidance.hpp"

#include "ip2p/attention/concepts.hpp"
#include "ip2p/attention/plain.hpp"

#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/finite_probe.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/nn/transformer.hpp"

#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/byte_pairs.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/text/clip_vocabulary.hpp"
#include "ip2p/text/concepts.hpp"
#include "ip2p/text/unicode.hpp"
#include "ip2p/text/unicode_tables.hpp"

#include "ip2p/codec/concepts.hpp"
#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/codec/tiled.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"

#include "ip2p/unet/blocks.hpp"
#include "ip2p/unet/config.hpp"
#include "ip2p/unet/unet.hpp"

#include "ip2p/pipeline/load.hpp"

#include "ip2p/version.hpp"
