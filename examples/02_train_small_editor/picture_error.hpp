#pragma once

/// \file
/// How far decoded pictures are from what they should be.

#include <ATen/core/Tensor.h>

namespace small_editor {

/// The mean absolute error plus the mean of each picture's root mean square, which counts pictures more alike than the
/// mean square over all of them. \param error of pictures [B,3,H,W]  \return a scalar
inline at::Tensor picture_error(const at::Tensor& error) {
  return error.abs().mean() + (error.square().mean({1, 2, 3}) + 1e-4).sqrt().mean();
}

}  // namespace small_editor
