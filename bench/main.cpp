#include <benchmark/benchmark.h>

#include "ip2p/core/freed_memory.hpp"

int main(int argc, char** argv) {
  ip2p::set_freed_memory(ip2p::FreedMemory::kept);  // as the example programs do
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
