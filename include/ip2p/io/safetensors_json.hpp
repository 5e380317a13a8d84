#pragma once

/// \file
/// The JSON of a safetensors header, read as a stream.

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/io/printable.hpp"

namespace ip2p::detail {

/// Streaming reader of the header's JSON: no tree is built, so a header of 100 MB cannot take gigabytes, and duplicate
/// names, which JSON parsers commonly swallow, are seen.
class SafetensorsJson : public nlohmann::json_sax<nlohmann::json> {
 public:
  /// The tensors with the dtype still as text, for the range checks that follow.
  struct Entry {
    std::string name, dtype;
    std::vector<std::uint64_t> shape, offsets;
    bool has_dtype = false, has_shape = false, has_offsets = false;
  };

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string message;  ///< why parsing stopped

  bool null() override {
    if (skipping()) return value_skipped();
    if (place_ == Place::names && name_ == "__metadata__") return true;  // the reference reads null as "none"
    return wrong("null");
  }
  bool boolean(bool) override { return skipping() ? value_skipped() : wrong("a boolean"); }
  bool number_integer(std::int64_t value) override {
    return skipping() ? value_skipped() : wrong(fmt::format("the negative number {}", value));
  }
  bool number_float(double, const std::string& text) override {
    return skipping() ? value_skipped() : wrong(fmt::format("the number {}", text));
  }
  bool number_unsigned(std::uint64_t value) override {
    if (skipping()) return value_skipped();
    if (place_ != Place::list) return wrong(fmt::format("the number {}", value));
    auto& list = field_ == "shape" ? entries.back().shape : entries.back().offsets;
    const std::size_t limit = field_ == "shape" ? 64 : 2;
    if (list.size() == limit) return stop(fmt::format("{} has more than {} elements", where(), limit));
    list.push_back(value);
    return true;
  }
  bool string(std::string& value) override {
    if (skipping()) return value_skipped();
    if (place_ == Place::metadata) {
      metadata[field_] = value;
      return true;
    }
    if (place_ != Place::tensor || field_ != "dtype") return wrong("a string");
    entries.back().dtype = value;
    return true;
  }
  bool binary(nlohmann::json::binary_t&) override { return wrong("binary data"); }
  bool start_object(std::size_t) override {
    if (skipping()) return deeper();
    if (place_ == Place::outside) {
      place_ = Place::names;
      return true;
    }
    if (place_ != Place::names) return wrong("an object");
    place_ = name_ == "__metadata__" ? Place::metadata : Place::tensor;
    if (place_ == Place::tensor) entries.push_back({.name = name_, .dtype = {}, .shape = {}, .offsets = {}});
    return true;
  }
  bool key(std::string& value) override {
    if (skip_depth_ > 0) return true;
    if (place_ == Place::names) {
      name_ = value;
      if (name_ != "__metadata__") return true;  // duplicates among tensors are found when the names are sorted
      if (std::exchange(has_metadata_, true)) return stop("the name '__metadata__' is a duplicate");
      return true;
    }
    field_ = value;
    if (place_ == Place::metadata) {
      return !metadata.contains(field_) || stop(fmt::format("{} is a duplicate", where()));
    }
    auto& entry = entries.back();
    bool* seen = field_ == "dtype"          ? &entry.has_dtype
                 : field_ == "shape"        ? &entry.has_shape
                 : field_ == "data_offsets" ? &entry.has_offsets
                                            : nullptr;
    skip_value_ = seen == nullptr;  // the reference ignores fields that it does not know
    return skip_value_ || !std::exchange(*seen, true) || stop(fmt::format("{} is a duplicate", where()));
  }
  bool end_object() override {
    if (skip_depth_ > 0) return shallower();
    if (place_ == Place::tensor) {
      const auto& entry = entries.back();
      const char* missing = !entry.has_dtype ? "dtype" : !entry.has_shape ? "shape" : "data_offsets";
      if (!entry.has_dtype || !entry.has_shape || !entry.has_offsets) {
        return stop(fmt::format("tensor '{}' lacks its {}", printable(entry.name), missing));
      }
    }
    place_ = place_ == Place::names ? Place::outside : Place::names;
    return true;
  }
  bool start_array(std::size_t) override {
    if (skipping()) return deeper();
    if (place_ != Place::tensor || field_ == "dtype") return wrong("an array");
    place_ = Place::list;
    return true;
  }
  bool end_array() override {
    if (skip_depth_ > 0) return shallower();
    if (field_ == "data_offsets" && entries.back().offsets.size() != 2) {
      return stop(fmt::format("{} has {} elements, expected 2", where(), entries.back().offsets.size()));
    }
    place_ = Place::tensor;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view why = error.what();
    // nlohmann's own text repeats the position and its error code before the reason.
    if (const auto colon = why.find(']'); colon != std::string_view::npos) why.remove_prefix(colon + 1);
    return stop(fmt::format("the header is not valid JSON at byte {}:{}", position, printable(why)));
  }

 private:
  enum class Place { outside, names, metadata, tensor, list };

  [[nodiscard]] bool skipping() const { return skip_value_ || skip_depth_ > 0; }
  bool value_skipped() {
    skip_value_ = skip_value_ && skip_depth_ > 0;
    return true;
  }
  bool deeper() {
    ++skip_depth_;
    return true;
  }
  bool shallower() {
    if (--skip_depth_ == 0) skip_value_ = false;
    return true;
  }
  [[nodiscard]] std::string where() const {
    if (place_ == Place::outside) return "the header";
    if (place_ == Place::names) return fmt::format("the entry '{}'", printable(name_));
    if (place_ == Place::metadata) return fmt::format("the metadata entry '{}'", printable(field_));
    return fmt::format("{} of tensor '{}'", printable(field_), printable(name_));
  }
  bool wrong(std::string_view found) {
    const char* expected = place_ == Place::outside || place_ == Place::names ? "an object"
                           : place_ == Place::metadata                        ? "a string"
                           : place_ == Place::list                            ? "whole numbers of 0 or more"
                           : field_ == "dtype"                                ? "a string"
                                                                              : "an array";
    return stop(fmt::format("{} must be {}, found {}", where(), expected, found));
  }
  bool stop(std::string why) {
    message = std::move(why);
    return false;
  }

  Place place_ = Place::outside;
  std::string name_, field_;
  bool has_metadata_ = false;
  bool skip_value_ = false;
  std::size_t skip_depth_ = 0;
};

}  // namespace ip2p::detail
