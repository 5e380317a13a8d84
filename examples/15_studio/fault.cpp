#include "fault.hpp"

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"

namespace studio {

/// OpenAI's name for the kind of error.
static const char* type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

nlohmann::ordered_json Fault::json() const {
  nlohmann::ordered_json json{{"message", what()}, {"type", type_of(status_)}, {"param", nullptr}, {"code", code_}};
  if (param_) json["param"] = *param_;
  return json;
}

Fault wrong_value(const std::string& param, const std::string& message) {
  return {400, "wrong_value", param + ": " + message, param};
}

Fault not_found(const std::string& message) { return {404, "not_found", message}; }

Fault fault_of(const std::exception_ptr& problem) {
  try {
    std::rethrow_exception(problem);
  } catch (const Fault& fault) {
    return fault;
  } catch (const ip2p::OutOfMemory& error) {
    return {500, "out_of_memory", error.what()};
  } catch (const std::bad_alloc&) {
    return {500, "out_of_memory", "not enough memory for this request"};
  } catch (const ip2p::Error& error) {
    return {500, "failed", error.what()};
  } catch (const c10::Error& error) {
    return {500, "failed", error.what_without_backtrace()};
  } catch (const std::exception& error) {
    return {500, "failed", error.what()};
  } catch (...) {
    return {500, "failed", "an unknown error"};
  }
}

}  // namespace studio
