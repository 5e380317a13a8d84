// Text2LIVE as a method of the comparison. A unit of its own, because training is much to compile.
#include <fmt/format.h>

#include "ip2p/core/error.hpp"
#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/text2live/text2live.hpp"
#include "methods.hpp"

namespace evaluate {

ip2p::EditMethod text2live(Workshop& shop) {
  return [&shop](const ip2p::PreparedEdit& edit, const ip2p::EditSettings& s) {
    ip2p::Text2LiveOptions options{.steps = s.count("steps"), .seed = edit.seed};
    options.network.scales = s.count("scales");
    options.network.channels = s.count("channels");
    options.views.count = s.count("views");
    const auto photograph = ip2p::tensor_to_images(edit.photograph, ip2p::Rounding::nearest).front();
    ip2p::Text2Live<> layered(shop.guide(s.text("clip")), photograph,
                              {.edited = edit.words.output, .source = edit.words.input}, options);
    if (!layered.run({.stop = shop.stop})) throw ip2p::Cancelled("cancelled within an edit");
    return layered.layer().over(layered.picture()).mul(2).sub(1).to(at::kCPU, at::kFloat);
  };
}

}  // namespace evaluate
