#pragma once

/// \file
/// Buffers that stay in place, into which the inputs of a recording are copied.

#include <ATen/ops/empty.h>
#include <c10/core/StorageImpl.h>
#include <c10/util/intrusive_ptr.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/core/tensor.hpp"

namespace ip2p::detail {

/// Appends the bytes of a value to a key.
template <class Value>
void add_to_key(std::string& key, const Value& value) {
  static_assert(std::is_trivially_copyable_v<Value>);
  key.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// How the inputs of an evaluation lie in memory. Inputs that share a storage (keys and values of one projection, time
/// projections of one step) form a group, which one flat copy moves.
class InputLayout {
 public:
  /// A part of a storage that holds some of the inputs.
  struct Group {
    std::vector<std::size_t> members;  ///< Indices of the inputs.
    std::int64_t first = 0, end = 0;   ///< Range of the storage, in elements.
    std::int64_t used = 0;             ///< Sum of the members' elements.
    std::int64_t pad = 0;              ///< Elements by which the range misses an alignment of 64 bytes.
    bool constant = false;             ///< Its values change only when it is another range.
  };

  /// \param inputs all defined, with storages  \param constant number of inputs at the end that are never written to
  InputLayout(const std::vector<at::Tensor>& inputs, std::size_t constant) {
    for (std::size_t i = 0; i < inputs.size(); ++i) add(inputs, i, i + constant >= inputs.size());
    for (auto& group : groups_) {
      const auto& input = inputs[group.members.front()];
      const auto size = static_cast<std::int64_t>(input.element_size());
      const auto start =
          reinterpret_cast<std::uintptr_t>(input.storage().data()) + static_cast<std::uintptr_t>(group.first * size);
      group.pad = static_cast<std::int64_t>(start % 64) / size;
    }
  }

  [[nodiscard]] const std::vector<Group>& groups() const { return groups_; }

  /// Equal keys: equal shapes, strides, dtypes, devices, alignment and sharing of storages.
  [[nodiscard]] std::string key(const std::vector<at::Tensor>& inputs) const {
    std::string key;
    for (const auto& group : groups_) {
      const auto& options = inputs[group.members.front()];
      add_to_key(key, options.scalar_type());
      add_to_key(key, options.device());
      add_to_key(key, group.pad);
      add_to_key(key, group.constant);
      for (const auto i : group.members) {
        add_to_key(key, i);
        add_to_key(key, inputs[i].dim());
        add_to_key(key, inputs[i].storage_offset() - group.first);
        for (const auto size : inputs[i].sizes()) add_to_key(key, size);
        for (const auto stride : inputs[i].strides()) add_to_key(key, stride);
      }
    }
    return key;
  }

 private:
  void add(const std::vector<at::Tensor>& inputs, std::size_t i, bool constant) {
    const auto& input = inputs[i];
    std::int64_t extent = input.numel() == 0 ? 0 : 1;
    for (std::int64_t axis = 0; extent > 0 && axis < input.dim(); ++axis) {
      extent += (input.size(axis) - 1) * input.stride(axis);
    }
    Group own{.members = {i},
              .first = input.storage_offset(),
              .end = input.storage_offset() + extent,
              .used = input.numel(),
              .constant = constant};
    for (auto& group : groups_) {
      const auto& other = inputs[group.members.front()];
      if (group.constant != constant || other.scalar_type() != input.scalar_type() ||
          !other.storage().is_alias_of(input.storage())) {
        continue;
      }
      const auto first = std::min(group.first, own.first);
      const auto end = std::max(group.end, own.end);
      // Two distant parts of a large storage are better copied apart; a few kilobytes between them cost nothing.
      if (end - first > 2 * (group.used + own.used) + 4096) continue;
      group.members.push_back(i);
      group.first = first;
      group.end = end;
      group.used += own.used;
      return;
    }
    groups_.push_back(std::move(own));
  }

  std::vector<Group> groups_;
};

/// Buffers for inputs of one layout.
class StaticInputs {
 public:
  StaticInputs(const std::vector<at::Tensor>& inputs, const InputLayout& layout) : tensors_(inputs.size()) {
    for (const auto& group : layout.groups()) {
      const auto buffer = at::empty({group.pad + group.end - group.first}, inputs[group.members.front()].options());
      buffers_.push_back({buffer.narrow(0, group.pad, group.end - group.first), {}});
      for (const auto i : group.members) {
        const auto& input = inputs[i];
        tensors_[i] =
            buffer.as_strided(input.sizes(), input.strides(), group.pad + input.storage_offset() - group.first);
      }
    }
  }

  /// The inputs' stand-ins: the same layout, always at the same place.
  [[nodiscard]] const std::vector<at::Tensor>& tensors() const { return tensors_; }

  /// Copies values in; constant groups only if they are not those of the last call.
  /// \param inputs of this layout  \return number of copies made
  std::size_t fill(const std::vector<at::Tensor>& inputs, const InputLayout& layout) {
    std::size_t copies = 0;
    for (std::size_t g = 0; g < buffers_.size(); ++g) {
      const auto& group = layout.groups()[g];
      const auto& source = inputs[group.members.front()];
      auto& buffer = buffers_[g];
      if (group.constant && buffer.holds && buffer.holds->is(source, group.first)) continue;
      buffer.values.copy_(source.as_strided({group.end - group.first}, {1}, group.first));
      ++copies;
      if (group.constant) buffer.holds.emplace(source, group.first);
    }
    return copies;
  }

 private:
  /// Where values came from. The weak reference keeps the address of the storage from being used for another.
  struct Origin {
    Origin(const at::Tensor& tensor, std::int64_t first_)
        : storage(tensor.storage().getWeakStorageImpl()), first(first_) {}
    [[nodiscard]] bool is(const at::Tensor& tensor, std::int64_t other) const {
      return first == other && storage._unsafe_get_target() == tensor.storage().unsafeGetStorageImpl();
    }
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
    std::int64_t first;
  };
  struct Buffer {
    at::Tensor values;  ///< Flat.
    std::optional<Origin> holds;
  };

  std::vector<Buffer> buffers_;
  std::vector<at::Tensor> tensors_;
};

}  // namespace ip2p::detail
