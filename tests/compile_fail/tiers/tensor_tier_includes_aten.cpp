// expect-error: _sobol_engine_ff_.* redeclared as different kind of entity
// The guard that tests/headers compiles the tensor tier with refuses ATen's whole operator set.
#include <ATen/core/Tensor.h>
#include <ATen/ops/exp.h>

#ifndef IP2P_CORRECTED
#include <ATen/ATen.h>
#endif

#include "../../headers/tensor_tier_guard.inc"

at::Tensor grown(const at::Tensor& x) { return at::exp(x); }
