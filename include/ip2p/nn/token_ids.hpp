#pragma once

/// \file
/// Checks the token ids that a text model is given.

#include <cstdint>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p::detail {

/// Throws `Error` naming `model` unless `ids` are int64 [B, T] on the CPU with B >= 1 and 1 <= T <= `most`, each in
/// [0, vocabulary).
///
/// They must be on the CPU, where tokenizers make them, because reading them from an accelerator would wait for all of
/// its work. Unread they cannot stay: an id out of range reads foreign memory, or ends a GPU's context.
inline void require_token_ids(const at::Tensor& ids, std::int64_t most, std::int64_t vocabulary,
                              std::string_view model) {
  require(ids.defined() && ids.dim() == 2 && ids.scalar_type() == at::kLong && ids.size(0) > 0 && ids.size(1) > 0 &&
              ids.size(1) <= most,
          "{}: ids: expected int64 [B, 1 to {}], found {}", model, most, tensor_text(ids));
  require(ids.device().is_cpu(), "{}: ids: expected them on the CPU, where they can be checked, found them on {}",
          model, ids.device().str());
  const auto rows = ids.contiguous();
  const auto* id = rows.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < rows.numel(); ++i) {
    require(id[i] >= 0 && id[i] < vocabulary, "{}: ids: expected ids from 0 to {}, found {} in text {}, token {}",
            model, vocabulary - 1, id[i], i / rows.size(1), i % rows.size(1));
  }
}

}  // namespace ip2p::detail
