// What the units of our own programs parse first (ip2p_precompile() in CMakeLists.txt): dependencies alone, so that a
// header of the library is still compiled where it is included.
#pragma once

#define AT_PER_OPERATOR_HEADERS
#include <ATen/TensorOperators.h>
#undef AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <fmt/ranges.h>
