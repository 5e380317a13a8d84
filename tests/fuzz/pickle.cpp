// A pickle or an archive of PyTorch (.ckpt, .pt, .bin) is refused with an Error, or each tensor found lies within its
// storage and each storage within the file. The mutator keeps the sum of an archive's pickle right.

#include "fuzz/pickle.hpp"

namespace fuzz = ip2p::testing::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::pickle_outcome(fuzz::text_of(data, size));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 8 == 0) return size;  // a wrong sum, now and then
  std::string bytes(fuzz::text_of(data, size));
  fuzz::mend_sum(bytes);
  return fuzz::put_back(bytes, data, size, most);
}
