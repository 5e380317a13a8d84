#pragma once

/// \file
/// Finds the tensors that a pickle describes, wherever its file keeps their bytes.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/pickle.hpp"
#include "ip2p/io/pickled_tensor.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/utf8.hpp"

namespace ip2p::detail {

/// Finds the tensors of a pickle. What a pickle says of tensors is checked against the storages and never acted upon.
class PickledTensorFinder {
 public:
  /// A storage as the pickle describes it.
  struct Mention {
    std::string key;
    const PickledType* type = nullptr;
    std::uint64_t values = 0;  ///< Number of elements.
    std::uint64_t first = 0;   ///< Of a view of a storage: its first element.
    std::uint64_t viewed = 0;  ///< Of a view of a storage: number of its elements, otherwise `values`.
  };

  PickledTensorFinder(const Pickle& pickle, std::string_view file, PickledTensors& result)
      : pickle_(pickle), file_(file), result_(result) {}
  virtual ~PickledTensorFinder() = default;

  /// Fills `tensors`, `storages` and `root`.
  void find() {
    PickleRef root = pickle_.root();
    result_.root = words(root);
    const auto state = pickle_.find(root, "state_dict");
    if (pickle_.is_mapping(state) || is_module(state)) root = state;
    walk(root, {}, 0);
  }

  /// What `place` says of a storage, or nothing if it describes something else. Throws `Error` for a damaged one.
  [[nodiscard]] std::optional<Mention> mention(PickleRef place) const {
    const auto& value = pickle_[place];
    if (value.kind != PickleKind::persistent) return std::nullopt;
    const auto& parts = pickle_[value.arguments].items;
    if (parts.size() < 5 || parts.size() > 6 || text(parts[0]) != "storage") return std::nullopt;
    Mention result;
    const auto& type = pickle_[parts[1]];
    const auto name = type.kind == PickleKind::global && type.callable != no_pickle_value &&
                              pickle_[type.callable].text.starts_with("torch")
                          ? pickle_[type.arguments].text
                          : std::string_view{};
    const auto known = std::find_if(pickled_types.begin(), pickled_types.end(), [&](const PickledType& row) {
      return !row.storage.empty() && row.storage == name;
    });
    if (known == pickled_types.end()) {
      throw_error("{}: expected a storage of PyTorch, found {}", file_, pickle_.name_of(parts[1]));
    }
    result.type = &*known;
    const auto& key = pickle_[parts[2]];
    require((key.kind == PickleKind::text && key.text.size() <= 256) || key.kind == PickleKind::integer,
            "{}: is damaged: a storage has no name", file_);
    result.key = key.kind == PickleKind::text ? std::string(key.text) : std::to_string(key.integer);
    result.values = count(parts[4], "the size of a storage");
    require(result.values <= static_cast<std::uint64_t>(INT64_MAX) / known->bytes,
            "{}: is damaged: the storage '{}' is said to have {} values", file_, printable(result.key), result.values);
    result.viewed = result.values;
    if (parts.size() == 6 && pickle_[parts[5]].kind != PickleKind::none) {
      const auto& view = pickle_[parts[5]].items;
      require(view.size() == 3, "{}: is damaged: expected name, start and size of a part of the storage '{}'", file_,
              printable(result.key));
      result.first = count(view[1], "the start of a part of a storage");
      result.viewed = count(view[2], "the size of a part of a storage");
      require(lies_within(result.first, result.viewed, result.values),
              "{}: is damaged: a part of the storage '{}' is said to be [{}, {} + {}) of {} values", file_,
              printable(result.key), result.first, result.first, result.viewed, result.values);
    }
    return result;
  }

 protected:
  /// Where the storage lies. Throws `Error` if it is not in the file or of another size.
  virtual PickledStorage place(const Mention& mention) = 0;

  const Pickle& pickle_;
  std::string_view file_;

 private:
  /// A tensor that is larger than its storage, because it repeats elements, is read only up to this size.
  static constexpr std::uint64_t most_repeated_bytes = std::uint64_t{64} << 20;
  static constexpr std::size_t deepest = 40, most_visits = std::size_t{1} << 20,
                               most_name_bytes = std::size_t{16} << 20;

  [[nodiscard]] std::string_view text(PickleRef place) const {
    return pickle_[place].kind == PickleKind::text ? pickle_[place].text : std::string_view{};
  }

  [[nodiscard]] std::uint64_t count(PickleRef place, std::string_view what) const {
    const auto& value = pickle_[place];
    require(value.kind == PickleKind::integer && value.integer >= 0,
            "{}: is damaged: expected {} as a whole number of 0 or more", file_, what);
    return static_cast<std::uint64_t>(value.integer);
  }

  /// The kind of a value, for messages.
  [[nodiscard]] std::string words(PickleRef place) const {
    const auto& value = pickle_[place];
    if (pickle_.is_mapping(place)) {
      std::string keys;
      std::size_t shown = 0;
      for (const auto& [key, entry] : pickle_.entries(place)) {
        if (shown == 4) break;
        if (text(key).empty()) continue;
        keys += fmt::format("{}'{}'", shown++ == 0 ? "" : ", ", printable(text(key)));
      }
      return shown == 0 ? "a dictionary without names" : "a dictionary of " + keys + (shown == 4 ? ", ..." : "");
    }
    switch (value.kind) {
      case PickleKind::object:
        return "an object of " + pickle_.name_of(place);
      case PickleKind::list:
      case PickleKind::tuple:
        return fmt::format("a list of {} values", value.items.size());
      default:
        return "a single value";
    }
  }

  void visit(std::size_t values) {
    visits_ += values;
    require(visits_ <= most_visits, "{}: its pickle leads to more than {} values, the most that are read", file_,
            most_visits);
  }

  /// A whole `torch.nn.Module`: its tensors are in dictionaries of its state.
  [[nodiscard]] bool is_module(PickleRef place) {
    if (place == no_pickle_value || pickle_[place].kind != PickleKind::object) return false;
    const auto state = pickle_[place].state;
    if (!pickle_.is_mapping(state)) return false;
    visit(pickle_[state].items.size() / 2);
    return pickle_.is_mapping(pickle_.find(state, "_parameters"));
  }

  void walk(PickleRef place, const std::string& prefix, std::size_t depth) {
    if (depth >= deepest || std::find(path_.begin(), path_.end(), place) != path_.end()) return;
    path_.push_back(place);
    if (is_module(place)) {
      for (const auto* part : {"_parameters", "_buffers", "_modules"}) {
        walk(pickle_.find(pickle_[place].state, part), prefix, depth + 1);
      }
    }
    for (const auto& [key, value] : pickle_.entries(place)) {
      visit(1);
      if (pickle_[key].kind != PickleKind::text) continue;
      const bool inner = pickle_.is_mapping(value) || is_module(value);
      if (!inner && pickle_[value].kind != PickleKind::object) continue;
      name_bytes_ += prefix.size() + pickle_[key].text.size();
      require(name_bytes_ <= most_name_bytes,
              "{}: the names in its pickle take more than {} bytes, the most that are read", file_, most_name_bytes);
      const auto name = prefix + std::string(pickle_[key].text);
      if (inner) {
        walk(value, name + ".", depth + 1);
      } else if (auto tensor = tensor_of(value, name, 0)) {
        require(!first_invalid_utf8(name), "{}: the name '{}' of a tensor is not UTF-8", file_, printable(name));
        const bool added = result_.tensors.emplace(name, std::move(*tensor)).second;
        require(added, "{}: the tensor name '{}' is a duplicate", file_, printable(name));
      }
    }
    path_.pop_back();
  }

  /// The tensor that `place` would be, or nothing if it is another object.
  std::optional<PickledTensor> tensor_of(PickleRef place, const std::string& name, std::size_t depth) {
    const auto& value = pickle_[place];
    if (value.kind != PickleKind::object || value.arguments == no_pickle_value || depth > 8) return std::nullopt;
    const auto& arguments = pickle_[value.arguments].items;
    const auto callable = value.callable;
    const auto made_by = [&](const char* function) { return pickle_.is_global(callable, "torch._utils", function); };
    if (made_by("_rebuild_parameter") || made_by("_rebuild_parameter_with_state")) {
      return arguments.empty() ? std::nullopt : tensor_of(arguments[0], name, depth + 1);
    }
    if (pickle_.is_global(callable, "torch._tensor", "_rebuild_from_type_v2") && arguments.size() == 4) {
      return typed(arguments, name);
    }
    if (made_by("_rebuild_tensor") || made_by("_rebuild_tensor_v2") || made_by("_rebuild_tensor_v3")) {
      return rebuilt(arguments, made_by("_rebuild_tensor_v3"), name);
    }
    const auto& global = pickle_[callable];
    const bool other = global.kind == PickleKind::global && global.callable != no_pickle_value &&
                       pickle_[global.callable].text == "torch._utils" &&
                       pickle_[global.arguments].text.starts_with("_rebuild_");
    require(!other, "{}: tensor '{}' is of a kind that is not read ({}); expected a dense one", file_, printable(name),
            other ? pickle_.name_of(callable) : std::string());
    return std::nullopt;
  }

  /// \param arguments of _rebuild_from_type_v2: how the tensor is rebuilt, its class, the arguments of the former, and
  ///   what Python code had noted in it
  std::optional<PickledTensor> typed(const std::vector<PickleRef>& arguments, const std::string& name) {
    const bool plain = pickle_.is_global(arguments[1], "torch", "Tensor") ||
                       pickle_.is_global(arguments[1], "torch._tensor", "Tensor") ||
                       pickle_.is_global(arguments[1], "torch.nn.parameter", "Parameter") ||
                       pickle_.is_global(arguments[1], "torch.nn.parameter", "Buffer");
    const bool second = pickle_.is_global(arguments[0], "torch._utils", "_rebuild_tensor_v2");
    const bool third = pickle_.is_global(arguments[0], "torch._utils", "_rebuild_tensor_v3");
    require(plain && (second || third),
            "{}: tensor '{}' is of a kind that is not read ({} by {}); expected a dense one", file_, printable(name),
            pickle_.name_of(arguments[1]), pickle_.name_of(arguments[0]));
    return rebuilt(pickle_[arguments[2]].items, third, name);
  }

  /// \param arguments storage, first element, sizes, strides, and then what does not matter here, except for the dtype
  ///   of an untyped storage and marks for values that are to be conjugated or negated
  PickledTensor rebuilt(const std::vector<PickleRef>& arguments, bool untyped, const std::string& name) {
    const auto shown = printable(name);
    require(arguments.size() >= (untyped ? 7U : 4U), "{}: is damaged: tensor '{}' lacks its storage, sizes or strides",
            file_, shown);
    const auto found = mention(arguments[0]);
    require(found.has_value(), "{}: is damaged: tensor '{}' has no storage", file_, shown);
    const PickledType* type = untyped ? dtype(arguments[6]) : found->type;
    require(type != nullptr && !type->name.empty(), "{}: tensor '{}' is of the type {}, which is not read", file_,
            shown, untyped ? pickle_.name_of(arguments[6]) : std::string(found->type->storage));
    if (const std::size_t place = untyped ? 7 : 6; arguments.size() > place) require_plain(arguments[place], shown);

    PickledTensor tensor;
    tensor.type = type->name;
    tensor.element_bytes = type->bytes;
    tensor.shape = numbers(arguments[2], shown);
    tensor.strides = numbers(arguments[3], shown);
    require(tensor.shape.size() == tensor.strides.size() && tensor.shape.size() <= 64,
            "{}: is damaged: tensor '{}' has {} sizes and {} strides, expected as many, at most 64", file_, shown,
            tensor.shape.size(), tensor.strides.size());
    const std::uint64_t available = found->viewed * found->type->bytes / type->bytes;
    const std::uint64_t first = count(arguments[1], "the first element of a tensor");
    std::uint64_t last = first, elements = 1, span = type->bytes;
    bool fits = true;
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      const auto size = static_cast<std::uint64_t>(tensor.shape[i]);
      // As if no size were 0, so that LibTorch's sizes and strides fit as well.
      const auto wider = checked_mul(span, std::max<std::uint64_t>(size, 1));
      const auto reach =
          checked_mul(std::max<std::uint64_t>(size, 1) - 1, static_cast<std::uint64_t>(tensor.strides[i]));
      const auto end = reach ? checked_add(last, *reach) : std::nullopt;
      fits = fits && wider && *wider <= static_cast<std::uint64_t>(INT64_MAX) && end.has_value();
      if (!fits) break;
      span = *wider;
      last = *end;
      elements *= size;
    }
    require(
        fits && (elements == 0 ? first <= available : last < available),
        "{}: tensor '{}' of shape [{}] and strides [{}] from element {} on reaches out of its storage of {} elements",
        file_, shown, fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "), first, available);
    require(elements <= available || span <= most_repeated_bytes,
            "{}: tensor '{}' of shape [{}] repeats the {} elements of its storage, and takes more than {} bytes", file_,
            shown, fmt::join(tensor.shape, ", "), available, most_repeated_bytes);
    tensor.storage = storage(*found);
    tensor.begin =
        result_.storages[tensor.storage].place.begin + found->first * found->type->bytes + first * type->bytes;
    tensor.span = elements == 0 ? 0 : (last - first + 1) * type->bytes;
    return tensor;
  }

  [[nodiscard]] const PickledType* dtype(PickleRef place) const {
    const auto known = std::find_if(pickled_types.begin(), pickled_types.end(), [&](const PickledType& row) {
      return !row.dtype.empty() && pickle_.is_global(place, "torch", row.dtype);
    });
    return known == pickled_types.end() ? nullptr : &*known;
  }

  /// Throws `Error` for a tensor whose values are yet to be conjugated or negated.
  void require_plain(PickleRef marks, const std::string& shown) const {
    bool plain = pickle_[marks].items.size() <= 16;
    if (plain) {
      for (const auto& [key, value] : pickle_.entries(marks)) plain = plain && pickle_[value].integer == 0;
    }
    require(plain, "{}: tensor '{}' is a conjugated or negated view, which is not read", file_, shown);
  }

  /// Whole numbers of 0 or more in a tuple or a torch.Size.
  [[nodiscard]] std::vector<std::int64_t> numbers(PickleRef place, const std::string& shown) const {
    const auto* value = &pickle_[place];
    if (value->kind == PickleKind::object && pickle_.is_global(value->callable, "torch", "Size") &&
        pickle_[value->arguments].items.size() == 1) {
      value = &pickle_[pickle_[value->arguments].items[0]];
    }
    require((value->kind == PickleKind::tuple || value->kind == PickleKind::list) && value->items.size() <= 64,
            "{}: is damaged: tensor '{}' has no list of at most 64 sizes or strides", file_, shown);
    std::vector<std::int64_t> result;
    for (const auto item : value->items) {
      result.push_back(static_cast<std::int64_t>(count(item, "the sizes and strides of a tensor")));
    }
    return result;
  }

  /// The place of a storage among those that are used.
  std::size_t storage(const Mention& found) {
    if (const auto known = storages_.find(found.key); known != storages_.end()) {
      require(known->second.second == found.values * found.type->bytes,
              "{}: is damaged: the storage '{}' is said to have {} bytes and {} bytes", file_, printable(found.key),
              known->second.second, found.values * found.type->bytes);
      return known->second.first;
    }
    result_.storages.push_back(place(found));
    storages_.emplace(found.key, std::pair(result_.storages.size() - 1, found.values * found.type->bytes));
    return result_.storages.size() - 1;
  }

  PickledTensors& result_;
  std::map<std::string, std::pair<std::size_t, std::uint64_t>, std::less<>> storages_;  // place and bytes by key
  std::vector<PickleRef> path_;
  std::size_t visits_ = 0, name_bytes_ = 0;
};

}  // namespace ip2p::detail
