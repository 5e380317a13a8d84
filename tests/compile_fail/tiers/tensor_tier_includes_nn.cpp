// expect-error: _sobol_engine_ff_.* redeclared as different kind of entity
// corrected-by: tests/headers, where the guard stands after the headers of the tensor tier
// The guard with which tests/headers compiles the tensor tier refuses torch::nn.
#include <ATen/core/Tensor.h>
#include <ATen/ops/exp.h>
#include <torch/nn/module.h>

#include "../../headers/tensor_tier_guard.inc"

at::Tensor grown(const at::Tensor& x) { return at::exp(x); }
