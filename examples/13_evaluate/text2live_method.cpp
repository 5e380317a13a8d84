#include "text2live_method.hpp"

#include "ip2p/core/error.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/text2live/text2live.hpp"

namespace evaluate {

at::Tensor layer_over(const ip2p::PreparedEdit& edit, const ip2p::EditSettings& settings, const ip2p::Clip& clip,
                      const std::stop_token& stop) {
  ip2p::Text2LiveOptions options{.steps = settings.count("steps"), .seed = edit.seed};
  options.network.scales = settings.count("scales");
  options.network.channels = settings.count("channels");
  options.views.count = settings.count("views");
  const auto photograph = ip2p::tensor_to_images(edit.photograph, ip2p::Rounding::nearest).front();
  ip2p::Text2Live<> layered(clip, photograph, {.edited = edit.words.output, .source = edit.words.input}, options);
  if (!layered.run({.stop = stop})) throw ip2p::Cancelled("cancelled within an edit");
  return layered.layer().over(layered.picture()).mul(2).sub(1).to(at::kCPU, at::kFloat);
}

}  // namespace evaluate
