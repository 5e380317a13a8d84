#include "form.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "fault.hpp"
#include "ip2p/io/printable.hpp"

namespace studio {

void Form::begin(std::string_view name) {
  const auto rule = std::find_if(rules_.begin(), rules_.end(), [&](const FieldRule& candidate) {
    return candidate.name == name || (!candidate.also.empty() && candidate.also == name);
  });
  if (rule == rules_.end()) {
    std::vector<std::string> known;
    for (const auto& one : rules_) known.push_back(one.name);
    const auto shown = ip2p::detail::printable(name);
    throw Fault(400, "unknown_field",
                fmt::format("there is no field '{}'; known are {}", shown, fmt::join(known, ", ")), shown);
  }
  if (!fields_.emplace(rule->name, std::string()).second) {
    throw Fault(400, "wrong_value", fmt::format("{}: expected one, found several", rule->name), rule->name);
  }
  rule_ = static_cast<std::size_t>(rule - rules_.begin());
}

void Form::add(std::string_view bytes) {
  const auto& rule = rules_.at(rule_);
  auto& field = fields_.at(rule.name);
  if (bytes.size() > rule.most_bytes - field.size()) {
    throw Fault(413, "too_large", fmt::format("{}: expected at most {} bytes", rule.name, rule.most_bytes), rule.name);
  }
  field += bytes;
}

void Form::finish() const {
  for (const auto& rule : rules_) {
    if (!rule.required || fields_.contains(rule.name)) continue;
    throw Fault(400, "missing_field", fmt::format("{}: this field is missing", rule.name), rule.name);
  }
}

std::optional<std::string_view> Form::find(const std::string& name) const {
  const auto found = fields_.find(name);
  if (found == fields_.end()) return {};
  return found->second;
}

}  // namespace studio
