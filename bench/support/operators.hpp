#pragma once

// How many of LibTorch's operators some work calls: a cost of small networks that is the same on a busy machine.

#include <ATen/record_function.h>

#include <cstdint>
#include <memory>
#include <string_view>

namespace ip2p::bench {

/// Counts the operators that the calling thread runs while this lives, including those that operators call themselves,
/// and among them the reads of a value by the host (`item()`, `is_nonzero`), each of which waits for a GPU.
class OperatorCount {
 public:
  OperatorCount() {
    totals() = {};
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(&see).scopes({at::RecordScope::FUNCTION}).needsInputs(false));
  }
  ~OperatorCount() { at::removeCallback(handle_); }
  OperatorCount(const OperatorCount&) = delete;
  OperatorCount& operator=(const OperatorCount&) = delete;

  [[nodiscard]] std::int64_t operators() const { return totals().operators; }
  [[nodiscard]] std::int64_t host_reads() const { return totals().host_reads; }

 private:
  struct Totals {
    std::int64_t operators = 0, host_reads = 0;
  };
  static Totals& totals() {
    static thread_local Totals counted;
    return counted;
  }
  static std::unique_ptr<at::ObserverContext> see(const at::RecordFunction& call) {
    ++totals().operators;
    if (std::string_view(call.name()) == "aten::_local_scalar_dense") ++totals().host_reads;
    return nullptr;
  }

  at::CallbackHandle handle_;
};

}  // namespace ip2p::bench
