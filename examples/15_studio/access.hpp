#pragma once

/// \file
/// Decides which requests are allowed.

#include <string>
#include <string_view>
#include <vector>

#include "http.hpp"

namespace studio {

/// Checks where a request comes from and what it may do.
class Access {
 public:
  /// \param token empty where none is asked for  \param hosts names by which the service is known beside those of this
  /// machine for itself; "0.0.0.0" or "::" stands for any
  Access(std::string token, std::vector<std::string> hosts);

  /// Refuses pages of other sites, even those whose name was made to lead here (DNS rebinding): browsers say in Host
  /// and Origin for whom they ask. \throws Fault
  void check_origin(const Request& request) const;

  /// \throws Fault without the token, if there is one
  void check_token(const Request& request) const;

  /// The name under which the queue takes turns. \throws Fault for an X-Client of another form
  [[nodiscard]] static std::string client(const Request& request);

 private:
  std::string token_;
  std::vector<std::string> hosts_;
  bool any_ = false;
};

/// Whether both are equal, in a time that does not tell where they differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

/// Whether an address reaches this machine alone.
bool is_loopback(std::string_view host);

}  // namespace studio
