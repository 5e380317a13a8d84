#pragma once

/// \file
/// The type that guidance and attention share: which conditionings a prediction sees.

namespace ip2p {

/// One prediction of the network, described by the conditionings it sees. A conditioning that it does not see is
/// replaced by its null value (the embedding of the empty or negative prompt; a zero image latent). A model without an
/// image input ignores `image`.
struct Branch {
  bool text = true;  ///< Whether it sees the text.
  bool image = true;
  friend constexpr bool operator==(const Branch&, const Branch&) = default;
};

}  // namespace ip2p
