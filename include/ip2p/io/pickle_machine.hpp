#pragma once

/// \file
/// Reads Python's pickles. Nothing of a pickle is run: where Python would import a name, call it or set an object's
/// state, the reader notes what was written, and no more.

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/pickle.hpp"

namespace ip2p::detail {

/// Longest pickle that is read, in bytes. That of a model of 10,000 tensors has about 2 MB.
inline constexpr std::size_t max_pickle_bytes = std::size_t{64} << 20;
/// Most operations of a pickle.
inline constexpr std::size_t max_pickle_operations = std::size_t{1} << 24;
/// Most values of a pickle, entries of its memo, and values and marks on its stack.
inline constexpr std::size_t max_pickle_values = std::size_t{1} << 22;

/// Thrown where the bytes end before the pickle does.
class PickleCutOff : public Error {
 public:
  using Error::Error;
};

/// Carries out a pickle's operations on a stack of places, once.
class PickleMachine {
 public:
  /// As `parse_pickle`.
  PickleMachine(std::shared_ptr<const std::string> bytes, std::size_t begin, std::string_view file)
      : bytes_(*bytes), position_(begin), begin_(begin), file_(file) {
    pickle_.bytes_ = std::move(bytes);
  }

  /// Goes on until the operation STOP. \return what has been made
  Pickle run() && {
    for (std::size_t count = 0;; ++count) {
      require(count < max_pickle_operations, "{}: its pickle has more than {} operations, the most that are read",
              file_, max_pickle_operations);
      start_ = position_;
      const auto operation = static_cast<unsigned char>(take(1)[0]);
      if (operation == '.') break;
      if (!(operation < 0x80 ? plain(static_cast<char>(operation)) : later(operation))) {
        fail(fmt::format("the unknown operation 0x{:02x}", operation));
      }
    }
    pickle_.root_ = pop();
    if (!stack_.empty() || !marks_.empty()) fail("an end with values left on the stack");
    pickle_.end_ = position_;
    return std::move(pickle_);
  }

 private:
  [[noreturn, gnu::cold]] void fail(std::string_view what) const {
    throw_error("{}: its pickle is damaged or not one of Python's: byte {} is {}", file_, start_ - begin_, what);
  }

  // --- bytes ---

  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - position_) {
      require(count <= max_pickle_bytes,
              "{}: its pickle is damaged: it claims a value of {} bytes, at most {} are read", file_, count,
              max_pickle_bytes);
      throw PickleCutOff(fmt::format("{}: is truncated: its pickle ends in the middle of a value", file_));
    }
    const auto taken = bytes_.substr(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return taken;
  }
  std::string_view take_line() {
    const auto end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) take(bytes_.size() - position_ + 1);
    const auto line = take(end - position_);
    take(1);
    return line;
  }
  template <class Number>
  Number take_number() {
    Number number{};
    std::memcpy(&number, take(sizeof number).data(), sizeof number);
    return number;
  }
  /// A length of 32 or 64 bits, and as many bytes.
  template <class Length>
  std::string_view take_counted() {
    return take(take_number<Length>());
  }
  template <class Number>
  Number number_of(std::string_view text) const {
    Number number{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc{} || end != text.data() + text.size()) fail("not followed by the number that it needs");
    return number;
  }

  // --- the stack ---

  [[nodiscard]] std::size_t bottom() const { return marks_.empty() ? 0 : marks_.back(); }
  void push(PickleRef place) {
    require(stack_.size() < max_pickle_values, "{}: its pickle puts more than {} values on the stack", file_,
            max_pickle_values);
    stack_.push_back(place);
  }
  PickleRef top() const {
    if (stack_.size() <= bottom()) fail("an operation that lacks a value on the stack");
    return stack_.back();
  }
  PickleRef pop() {
    const auto place = top();
    stack_.pop_back();
    return place;
  }
  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) fail("an operation that lacks a mark on the stack");
    std::vector<PickleRef> taken(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return taken;
  }
  std::vector<PickleRef> pop_some(std::size_t count) {
    if (stack_.size() - bottom() < count) fail("an operation that lacks a value on the stack");
    std::vector<PickleRef> taken(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return taken;
  }

  // --- values ---

  PickleRef make(PickleValue value) {
    require(pickle_.values_.size() < max_pickle_values,
            "{}: its pickle holds more than {} values, the most that are read", file_, max_pickle_values);
    pickle_.values_.push_back(std::move(value));
    return static_cast<PickleRef>(pickle_.values_.size() - 1);
  }
  PickleRef make(PickleKind kind) {
    PickleValue value;
    value.kind = kind;
    return make(std::move(value));
  }
  bool add(PickleKind kind) {
    push(make(kind));
    return true;
  }
  bool add_integer(std::int64_t number, PickleKind kind = PickleKind::integer) {
    PickleValue value;
    value.kind = kind;
    value.integer = number;
    push(make(std::move(value)));
    return true;
  }
  bool add_real(double number) {
    PickleValue value;
    value.kind = PickleKind::real;
    value.real = number;
    push(make(std::move(value)));
    return true;
  }
  PickleRef make_text(std::string_view text, PickleKind kind = PickleKind::text) {
    PickleValue value;
    value.kind = kind;
    value.text = text;
    return make(std::move(value));
  }
  bool add_text(std::string_view text, PickleKind kind = PickleKind::text) {
    push(make_text(text, kind));
    return true;
  }
  bool add_items(PickleKind kind, std::vector<PickleRef> items) {
    PickleValue value;
    value.kind = kind;
    value.items = std::move(items);
    push(make(std::move(value)));
    return true;
  }
  bool add_object(PickleRef callable, PickleRef arguments) {
    PickleValue value;
    value.kind = PickleKind::object;
    value.callable = callable;
    value.arguments = arguments;
    push(make(std::move(value)));
    return true;
  }
  PickleRef make_global(PickleRef module, PickleRef name) {
    PickleValue value;
    value.kind = PickleKind::global;
    value.callable = module;
    value.arguments = name;
    return make(std::move(value));
  }
  /// A whole number of `bytes`, lowest first, two's complement.
  bool add_long(std::string_view bytes) {
    if (bytes.size() > 8) return add_text(bytes, PickleKind::long_integer);
    std::uint64_t number = !bytes.empty() && (bytes.back() & 0x80) != 0 ? ~std::uint64_t{0} : 0;
    std::memcpy(&number, bytes.data(), bytes.size());
    return add_integer(static_cast<std::int64_t>(number));
  }
  /// Text that Python wrote in quotes, or as it is.
  bool add_line(std::string_view line, bool quoted) {
    if (line.find('\\') != std::string_view::npos) {
      fail("text with escape characters (protocol 0), which torch.save does not write");
    }
    if (!quoted) return add_text(line);
    const bool closed = line.size() >= 2 && (line[0] == '\'' || line[0] == '"') && line.back() == line[0];
    if (!closed) fail("text without quotes");
    return add_text(line.substr(1, line.size() - 2));
  }

  bool append(const std::vector<PickleRef>& items) {
    auto& target = pickle_.values_[top()];
    if (target.kind == PickleKind::object) return true;  // the items of an unknown kind of list
    if (target.kind != PickleKind::list && target.kind != PickleKind::set) fail("items for what is no list");
    target.items.insert(target.items.end(), items.begin(), items.end());
    return true;
  }
  bool set_items(const std::vector<PickleRef>& items) {
    auto& target = pickle_.values_[top()];
    if (target.kind != PickleKind::dictionary && target.kind != PickleKind::object) {
      fail("entries for what is no dictionary");
    }
    if (items.size() % 2 != 0) fail("a key without a value");
    target.items.insert(target.items.end(), items.begin(), items.end());
    return true;
  }

  // --- the memo ---

  bool remember(std::uint64_t index) {
    require(index < max_pickle_values, "{}: its pickle remembers a value under the number {}, at most {} are read",
            file_, index, max_pickle_values);
    if (index >= memo_.size()) memo_.resize(static_cast<std::size_t>(index) + 1, no_pickle_value);
    auto& slot = memo_[static_cast<std::size_t>(index)];
    if (slot == no_pickle_value) ++remembered_;
    slot = top();
    return true;
  }
  bool recall(std::uint64_t index) {
    if (index >= memo_.size() || memo_[static_cast<std::size_t>(index)] == no_pickle_value) {
      fail(fmt::format("the recall of the value {}, which was not remembered", index));
    }
    push(memo_[static_cast<std::size_t>(index)]);
    return true;
  }

  // --- operations, by the letters of Python's Lib/pickle.py; false for an unknown one ---

  bool plain(char operation) {
    switch (operation) {
      case '(':  // MARK
        require(marks_.size() < max_pickle_values, "{}: its pickle puts more than {} marks on the stack", file_,
                max_pickle_values);
        marks_.push_back(stack_.size());
        return true;
      case '0':  // POP
        if (stack_.size() > bottom()) {
          stack_.pop_back();
        } else {
          pop_to_mark();
        }
        return true;
      case '1':  // POP_MARK
        pop_to_mark();
        return true;
      case '2':  // DUP
        push(top());
        return true;
      case 'N':  // NONE
        return add(PickleKind::none);
      case 'I': {  // INT
        const auto line = take_line();
        if (line == "00" || line == "01") return add_integer(line[1] - '0', PickleKind::boolean);
        return add_integer(number_of<std::int64_t>(line));
      }
      case 'J':  // BININT
        return add_integer(take_number<std::int32_t>());
      case 'K':  // BININT1
        return add_integer(take_number<std::uint8_t>());
      case 'M':  // BININT2
        return add_integer(take_number<std::uint16_t>());
      case 'L': {  // LONG
        auto line = take_line();
        if (line.ends_with('L')) line.remove_suffix(1);
        return add_integer(number_of<std::int64_t>(line));
      }
      case 'F':  // FLOAT
        return add_real(number_of<double>(take_line()));
      case 'G': {  // BINFLOAT, highest byte first
        auto bits = take_number<std::uint64_t>();
        bits = __builtin_bswap64(bits);
        return add_real(std::bit_cast<double>(bits));
      }
      case 'S':  // STRING
        return add_line(take_line(), true);
      case 'V':  // UNICODE
        return add_line(take_line(), false);
      case 'T':  // BINSTRING: text of Python 2
      case 'X':  // BINUNICODE
        return add_text(take_counted<std::uint32_t>());
      case 'U':  // SHORT_BINSTRING
        return add_text(take_counted<std::uint8_t>());
      case 'B':  // BINBYTES
        return add_text(take_counted<std::uint32_t>(), PickleKind::bytes);
      case 'C':  // SHORT_BINBYTES
        return add_text(take_counted<std::uint8_t>(), PickleKind::bytes);
      case '}':  // EMPTY_DICT
        return add(PickleKind::dictionary);
      case ']':  // EMPTY_LIST
        return add(PickleKind::list);
      case ')':  // EMPTY_TUPLE
        return add(PickleKind::tuple);
      case 'l':  // LIST
        return add_items(PickleKind::list, pop_to_mark());
      case 't':  // TUPLE
        return add_items(PickleKind::tuple, pop_to_mark());
      case 'd': {  // DICT
        auto items = pop_to_mark();
        add(PickleKind::dictionary);
        return set_items(items);
      }
      case 'a':  // APPEND
        return append(pop_some(1));
      case 'e':  // APPENDS
        return append(pop_to_mark());
      case 's':  // SETITEM
        return set_items(pop_some(2));
      case 'u':  // SETITEMS
        return set_items(pop_to_mark());
      case 'p':  // PUT
        return remember(number_of<std::uint64_t>(take_line()));
      case 'q':  // BINPUT
        return remember(take_number<std::uint8_t>());
      case 'r':  // LONG_BINPUT
        return remember(take_number<std::uint32_t>());
      case 'g':  // GET
        return recall(number_of<std::uint64_t>(take_line()));
      case 'h':  // BINGET
        return recall(take_number<std::uint8_t>());
      case 'j':  // LONG_BINGET
        return recall(take_number<std::uint32_t>());
      case 'P':  // PERSID
        return persistent(make_text(take_line()));
      case 'Q':  // BINPERSID
        return persistent(pop());
      case 'c': {  // GLOBAL
        const auto module = make_text(take_line());
        push(make_global(module, make_text(take_line())));
        return true;
      }
      case 'R': {  // REDUCE
        const auto arguments = pop();
        return add_object(pop(), arguments);
      }
      case 'b': {  // BUILD
        const auto state = pop();
        auto& target = pickle_.values_[top()];
        if (target.kind != PickleKind::object) fail("a state for what is no object");
        target.state = state;
        return true;
      }
      case 'i': {  // INST
        const auto module = make_text(take_line());
        const auto callable = make_global(module, make_text(take_line()));
        auto items = pop_to_mark();
        add_items(PickleKind::tuple, std::move(items));
        return add_object(callable, pop());
      }
      case 'o': {  // OBJ
        auto items = pop_to_mark();
        if (items.empty()) fail("an object without a class");
        const auto callable = items.front();
        items.erase(items.begin());
        add_items(PickleKind::tuple, std::move(items));
        return add_object(callable, pop());
      }
      default:
        return false;
    }
  }

  /// Operations of protocols 2 to 5.
  bool later(unsigned char operation) {
    switch (operation) {
      case 0x80: {  // PROTO
        const auto protocol = take_number<std::uint8_t>();
        require(protocol <= 5, "{}: its pickle has the protocol {}, expected 0 to 5", file_, protocol);
        return true;
      }
      case 0x81:  // NEWOBJ
        return plain('R');
      case 0x82:  // EXT1 to EXT4: a name that programs agreed upon
        return extension(take_number<std::uint8_t>());
      case 0x83:
        return extension(take_number<std::uint16_t>());
      case 0x84:
        return extension(take_number<std::uint32_t>());
      case 0x85:  // TUPLE1 to TUPLE3
      case 0x86:
      case 0x87:
        return add_items(PickleKind::tuple, pop_some(operation - 0x84U));
      case 0x88:  // NEWTRUE
        return add_integer(1, PickleKind::boolean);
      case 0x89:  // NEWFALSE
        return add_integer(0, PickleKind::boolean);
      case 0x8A:  // LONG1
        return add_long(take_counted<std::uint8_t>());
      case 0x8B:  // LONG4
        return add_long(take_counted<std::uint32_t>());
      case 0x8C:  // SHORT_BINUNICODE
        return add_text(take_counted<std::uint8_t>());
      case 0x8D:  // BINUNICODE8
        return add_text(take_counted<std::uint64_t>());
      case 0x8E:  // BINBYTES8
      case 0x96:  // BYTEARRAY8
        return add_text(take_counted<std::uint64_t>(), PickleKind::bytes);
      case 0x8F:  // EMPTY_SET
        return add(PickleKind::set);
      case 0x90:  // ADDITEMS
        return append(pop_to_mark());
      case 0x91:  // FROZENSET
        return add_items(PickleKind::set, pop_to_mark());
      case 0x92:  // NEWOBJ_EX: class, arguments, arguments by name
        pop();
        return plain('R');
      case 0x93: {  // STACK_GLOBAL
        const auto name = pop();
        const auto module = pop();
        if (pickle_.values_[name].kind != PickleKind::text || pickle_.values_[module].kind != PickleKind::text) {
          fail("a name that is no text");
        }
        push(make_global(module, name));
        return true;
      }
      case 0x94:  // MEMOIZE
        return remember(remembered_);
      case 0x95:  // FRAME
        take_number<std::uint64_t>();
        return true;
      default:  // also NEXT_BUFFER and READONLY_BUFFER, whose data a file does not have
        return false;
    }
  }

  bool extension(std::uint32_t) {
    push(make_global(no_pickle_value, no_pickle_value));
    return true;
  }
  bool persistent(PickleRef description) {
    PickleValue value;
    value.kind = PickleKind::persistent;
    value.arguments = description;
    push(make(std::move(value)));
    return true;
  }

  Pickle pickle_;
  std::string_view bytes_;
  std::size_t position_, begin_;
  std::size_t start_ = 0;  // of the operation
  std::string_view file_;
  std::vector<PickleRef> stack_, memo_;
  std::vector<std::size_t> marks_;
  std::size_t remembered_ = 0;  // different entries of the memo
};

/// Reads the pickle that begins at byte `begin` of `bytes`. Memory and time are bounded by the limits above, whatever
/// the bytes are. \param file for messages \throws PickleCutOff if the bytes end before the pickle does  \throws Error
/// for operations that are unknown or do not
///   fit what is on the stack, and beyond the limits
inline Pickle parse_pickle(std::shared_ptr<const std::string> bytes, std::size_t begin, std::string_view file) {
  return PickleMachine(std::move(bytes), begin, file).run();
}

}  // namespace ip2p::detail
