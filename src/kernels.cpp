// The vector code of the CPU at every level of instructions.
#define IP2P_KERNEL_DEFINITIONS
#include "ip2p/kernels/cpu/attention.hpp"
#include "ip2p/kernels/cpu/fused.hpp"
#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/kernels/cpu/linear.hpp"
#include "ip2p/kernels/cpu/winograd.hpp"

namespace ip2p::detail::cpu {
template const Passes<float>& passes_at(CpuLevel level);
template const Passes<Bf16>& passes_at(CpuLevel level);
template const WinogradPasses& winograd_passes<2>(CpuLevel level);
template const WinogradPasses& winograd_passes<4>(CpuLevel level);
}  // namespace ip2p::detail::cpu
