#pragma once

/// \file
/// Starts an editor from one that was trained before, over another autoencoder.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/ones.h>

#include <cstdint>

#include "ip2p/codec/any_codec.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/unet/unet.hpp"
#include "principal_start.hpp"
#include "start_at_condition.hpp"
#include "widening.hpp"

namespace small_editor {

/// Copies the weights of `from` to `to`, a UNet that differs in the latents and perhaps is wider at its finest
/// resolution (`Widening`), and lets the condition through (`let_condition_through`). What `conv_in` read of the old
/// latents it reads of the new ones by the linear map from them to the old ones that fits best. \param now, before the
/// autoencoders of `to` and `from`  \param images [B,3,H,W] in [-1,1] to fit the map to \throws Error when the UNets
/// differ in more
inline void start_at_editor(const ip2p::UNet& to, const ip2p::UNet& from, const ip2p::AnyCodec& now,
                            const ip2p::AnyCodec& before, const at::Tensor& images) {
  const at::NoGradGuard no_grad;
  const auto source = from.module().named_parameters();
  const auto target = to.module().named_parameters();
  ip2p::require(source.size() == target.size(), "start_at_editor: expected a UNet of {} parameters, found {}",
                target.size(), source.size());
  const Widening widening(from.module().config, to.module().config);
  for (std::size_t i = 0; i < source.size(); ++i) {
    const auto& [name, values] = source[i];
    if (name == "conv_in.weight" || name.starts_with("conv_out.")) continue;
    ip2p::require(name == target[i].first && widening.explains(values.sizes(), target[i].second.sizes()),
                  "start_at_editor: expected a parameter '{}' {}, found '{}' {}", target[i].first,
                  ip2p::shape_text(target[i].second.sizes()), name, ip2p::shape_text(values.sizes()));
    if (name == "time_embedding.linear_1.weight") {
      widening.copy_frequencies(values, target[i].second);
    } else {
      widening.copy(values, target[i].second);
    }
  }
  const auto x = detail::pixel_rows(now.encode(images));
  const auto map = detail::least_squares(at::cat({x, at::ones({x.size(0), 1}, x.options())}, 1),
                                         detail::pixel_rows(before.encode(images)))
                       .to(at::kFloat);  // [new latents + 1, old latents]; the last row is a constant
  const auto latents = now.latent_channels(), old = before.latent_channels();
  const auto linear = map.narrow(0, 0, latents);
  const auto through = [&](const at::Tensor& weight) { return at::einsum("okyx,ck->ocyx", {weight, linear}); };
  const auto& was = from.module().conv_in->weight;
  auto& in = *to.module().conv_in;
  const double scales = before.scaling_factor() / now.scaling_factor();  // the noisy latents are scaled
  const auto rows = widening.places(was.size(0), in.weight.size(0));
  in.weight.index_copy_(0, rows,
                        at::cat({through(was.narrow(1, 0, old)) * scales, through(was.narrow(1, old, old))}, 1));
  in.bias.index_add_(0, rows, at::einsum("okyx,k->o", {was.narrow(1, old, old), map[latents]}));
  let_condition_through(to, now.scaling_factor());
}

}  // namespace small_editor
