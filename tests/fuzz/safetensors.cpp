// A safetensors file is refused with an Error, or each tensor lies within the file and has the bytes that its shape and
// dtype take; mapped and copied, it reads the same; and what was read, written again, reads the same. The mutator
// changes the JSON of the header and keeps its length right.

#include <ATen/core/Tensor.h>

#include <map>

#include "fuzz/harness.hpp"
#include "fuzz/safetensors.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), static_cast<std::size_t>(tensor.nbytes())};
}

/// What can be read of a file by name; a tensor may be refused for its values alone.
std::map<std::string, at::Tensor> tensors_of(const ip2p::SafetensorsFile& file) {
  std::map<std::string, at::Tensor> tensors;
  std::uint64_t place = 0;
  for (const auto& [name, info] : file.tensors()) {
    fuzz::expect(info.begin <= info.end && info.end <= file.bytes(), "a tensor outside of the file");
    place += info.end - info.begin;
    fuzz::reads([&, &name = name, &info = info] {
      const auto tensor = file.tensor(name);
      fuzz::expect(tensor.nbytes() == info.end - info.begin, "a tensor of another size than its offsets");
      fuzz::expect(tensor.sizes() == at::IntArrayRef(info.shape), "a tensor of another shape");
      tensors.emplace(name, tensor);
    });
  }
  fuzz::expect(place <= file.bytes(), "tensors overlap");
  return tensors;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::ScratchFolder scratch;
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  std::map<std::string, at::Tensor> tensors;
  if (!fuzz::reads([&] { tensors = tensors_of(ip2p::SafetensorsFile::open(file.path())); })) return -1;
  const auto mapped = tensors_of(
      ip2p::SafetensorsFile::open(file.path(), {.access = ip2p::WeightAccess::mapped, .check_finite = true}));
  fuzz::expect(mapped.size() <= tensors.size(), "a check of the values that accepts more");
  for (const auto& [name, tensor] : mapped) {
    fuzz::expect(bytes_of(tensor) == bytes_of(tensors.at(name)), "mapped, a tensor reads otherwise");
  }
  fuzz::must_read("what was read cannot be written and read again", [&] {
    ip2p::write_safetensors(scratch.path() / "again", tensors);
    const auto again = tensors_of(ip2p::SafetensorsFile::open(scratch.path() / "again"));
    fuzz::expect(again.size() == tensors.size(), "written again, there are fewer tensors");
    for (const auto& [name, tensor] : tensors) {
      fuzz::expect(again.at(name).scalar_type() == tensor.scalar_type() && again.at(name).sizes() == tensor.sizes() &&
                       bytes_of(again.at(name)) == bytes_of(tensor),
                   "written again, a tensor reads otherwise");
    }
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return fuzz::mutate_safetensors(data, size, most, seed);
}
