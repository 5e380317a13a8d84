// A LoRA's safetensors file is refused with an Error, or each of its adapters has a component, a rank of at least 1, a
// finite strength, and shapes that fit together. A key of any name is read or is no LoRA's. The mutator keeps the
// length of the header right.

#include <cmath>

#include "fuzz/harness.hpp"
#include "fuzz/safetensors.hpp"
#include "ip2p/io/lora_file.hpp"

namespace fuzz = ip2p::testing::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  fuzz::reads([&] {
    const auto opened = ip2p::SafetensorsFile::open(file.path());
    for (const auto& name : opened.names()) {
      const auto key = ip2p::detail::parse_lora_key(name);
      if (!key) continue;
      fuzz::expect(key->component == "unet" || key->component == "text_encoder", "a component that there is not");
      for (const std::int64_t layers : {1, 2}) {
        fuzz::reads([&] { static_cast<void>(ip2p::detail::lora_module_in(key->module, layers)); });
      }
    }
    const auto lora = ip2p::LoraFile::open(file.path());
    fuzz::expect(!lora.layers().empty(), "a LoRA without adapters");
    for (const auto& layer : lora.layers()) {
      fuzz::expect(layer.rank >= 1 && layer.down.shape.front() == layer.rank && layer.up.shape[1] == layer.rank,
                   "shapes that do not fit together");
      fuzz::expect(std::isfinite(layer.strength), "a strength that is not finite");
      fuzz::expect(layer.tensors.size() >= 2, "an adapter without its tensors");
    }
    fuzz::expect(lora.part("unet").layers().size() + lora.part("text_encoder").layers().size() == lora.layers().size(),
                 "an adapter of no component");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return fuzz::mutate_safetensors(data, size, most, seed);
}
