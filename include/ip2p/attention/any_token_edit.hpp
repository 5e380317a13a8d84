#pragma once

/// \file
/// A type-erased edit of text cross-attention, for choosing one at run time.

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "ip2p/attention/token_edit.hpp"

namespace ip2p {

/// Holds any `TokenEdit`, and is one itself. Copies share the edit held, which never changes.
class AnyTokenEdit {
 public:
  /// Holds `edit`. Implicit, so that any edit can be passed where an `AnyTokenEdit` is expected.
  template <class Edit>
  requires(!std::same_as<std::remove_cvref_t<Edit>, AnyTokenEdit>)
      AnyTokenEdit(Edit edit)  // NOLINT(google-explicit-constructor)
      : held_(std::make_shared<const Held<Edit>>(std::move(edit))) {
    require_token_edit<Edit>();
  }

  /// Edited images a group, as the edit answers.
  [[nodiscard]] std::int64_t destinations() const { return held_->destinations(); }
  /// Whether the weights do not depend on the step.
  [[nodiscard]] bool same_at_every_step() const { return held_->same_at_every_step(); }
  /// How the map of an edited image is made, as the edit answers.
  [[nodiscard]] TokenWeights weights(std::int64_t destination, const Step& step) const {
    return held_->weights(destination, step);
  }

 private:
  struct Interface {
    virtual ~Interface() = default;
    [[nodiscard]] virtual std::int64_t destinations() const = 0;
    [[nodiscard]] virtual bool same_at_every_step() const = 0;
    [[nodiscard]] virtual TokenWeights weights(std::int64_t destination, const Step& step) const = 0;
  };

  template <class Edit>
  struct Held final : Interface {
    explicit Held(Edit given) : edit(std::move(given)) {}
    [[nodiscard]] std::int64_t destinations() const override { return edit.destinations(); }
    [[nodiscard]] bool same_at_every_step() const override { return ip2p::same_at_every_step(edit); }
    [[nodiscard]] TokenWeights weights(std::int64_t destination, const Step& step) const override {
      return edit.weights(destination, step);
    }
    Edit edit;
  };

  std::shared_ptr<const Interface> held_;
};
static_assert(TokenEdit<AnyTokenEdit>);

}  // namespace ip2p
