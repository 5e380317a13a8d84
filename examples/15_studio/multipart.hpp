#pragma once

/// \file
/// Reads bodies of the type multipart/form-data.

#include <cstddef>
#include <string>
#include <string_view>

#include "form.hpp"

namespace studio {

/// The boundary that a header Content-Type names.
/// \throws Fault for another type than multipart/form-data, and for a boundary that RFC 2046 does not allow
std::string boundary_of(std::string_view content_type);

/// Splits a body into the fields of a form, as it comes in. Of a field's headers, only its name is looked at.
class Multipart {
 public:
  /// \param form takes the fields, and outlives this
  Multipart(const std::string& boundary, Form& form) : border_("\r\n--" + boundary), form_(form) {}

  /// The next piece of the body. \throws Fault for what is no form, and what the form does not take
  void add(std::string_view piece);

  /// The body has ended. \throws Fault where its last border is missing
  void finish() const;

 private:
  /// What comes next: bytes before the first field, headers, content, what follows a border, bytes after the last one.
  enum class Part { preamble, headers, content, border, epilogue };

  bool advance();
  bool read_content();
  bool read_border();
  bool read_headers();
  [[nodiscard]] std::string_view rest() const { return std::string_view(bytes_).substr(at_); }

  std::string border_;
  Form& form_;
  Part part_ = Part::preamble;
  std::string bytes_ = "\r\n";  // so that the first border, which begins the body, looks like the others
  std::size_t at_ = 0;          // where those begin that were not read yet
};

}  // namespace studio
