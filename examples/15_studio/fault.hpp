#pragma once

/// \file
/// Why a request is refused or a job has failed, in the shape of OpenAI's errors.

#include <exception>
#include <optional>
#include <stdexcept>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace studio {

/// What was wrong. `what()` is one sentence, which may be shown as it is.
class Fault : public std::runtime_error {
 public:
  /// \param status of HTTP  \param code for programs, such as "wrong_value"  \param param the field, if one is to blame
  Fault(int status, std::string code, const std::string& message, std::optional<std::string> param = {})
      : std::runtime_error(message), status_(status), code_(std::move(code)), param_(std::move(param)) {}

  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] const std::string& code() const { return code_; }
  [[nodiscard]] const std::optional<std::string>& param() const { return param_; }

  /// {message, type, param, code}.
  [[nodiscard]] nlohmann::ordered_json json() const;

 private:
  int status_;
  std::string code_;
  std::optional<std::string> param_;
};

/// A field with a value that it may not have. \param param the field
Fault wrong_value(const std::string& param, const std::string& message);

/// Nothing of that name exists.
Fault not_found(const std::string& message);

/// What the client is told of an exception: sentences of the library, and nothing of what lies beneath.
Fault fault_of(const std::exception_ptr& problem);

}  // namespace studio
