#pragma once

/// \file
/// Fields of a form, taken in piece by piece and bounded.

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace studio {

/// A field that a form may have.
struct FieldRule {
  std::string name;
  std::size_t most_bytes = 0;
  bool required = false;
  std::string also = {};  ///< Another name for it, such as "image[]".
};

/// A form that is being sent. What it may not have is refused as soon as it begins.
class Form {
 public:
  Form() = default;
  explicit Form(std::vector<FieldRule> rules) : rules_(std::move(rules)) {}

  /// The next field begins. \throws Fault for a field that is not known or was there already
  void begin(std::string_view name);
  /// A piece of it. \throws Fault for a field that is too long
  void add(std::string_view bytes);
  /// The form is whole. \throws Fault for a field that is missing
  void finish() const;

  /// The field's content; nothing for one that was not sent.
  [[nodiscard]] std::optional<std::string_view> find(const std::string& name) const;

 private:
  std::vector<FieldRule> rules_;
  std::map<std::string, std::string> fields_;
  std::size_t rule_ = 0;  // of the field that is being sent
};

}  // namespace studio
