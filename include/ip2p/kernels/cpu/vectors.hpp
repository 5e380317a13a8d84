#pragma once

/// \file
/// Registers of fp32 numbers for the vector code of the CPU: loads, stores, transposition and functions, at every level
/// of instructions (kernels/cpu/levels.hpp). For the headers that compile bodies.

#include <cstdint>
#include <utility>

#include "ip2p/kernels/cpu/elements.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_KERNEL_DEFINITIONS)
/// Compiled for every level below; undefined again there.
#define IP2P_BODY "ip2p/kernels/cpu/vectors.inc"
#include "ip2p/kernels/cpu/each_level.inc"
#endif
