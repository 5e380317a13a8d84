#pragma once

// LibTorch's `meta` device in the place of a GPU: tensors there have shapes and no values, so that any read of a value
// throws, and copies to it can be counted.

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <torch/library.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p::testing {

inline at::Device elsewhere() { return {at::kMeta}; }

/// Runs an operator over zeros on the CPU, in the place of tensors elsewhere, for the shapes of its results.
inline void shapes_from_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  std::vector<std::pair<at::Tensor, at::Tensor>> stand_ins;  // there, here
  const auto here = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_meta()) return tensor;
    stand_ins.emplace_back(tensor, at::zeros(tensor.sizes(), tensor.options().device(at::kCPU)));
    return stand_ins.back().second;
  };
  const auto there = [&](const at::Tensor& tensor) {
    for (auto& [meta, host] : stand_ins) {
      if (!host.is_same(tensor)) continue;
      if (meta.sizes() != tensor.sizes()) meta.resize_(tensor.sizes());
      return meta;
    }
    return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(elsewhere()));
  };
  for (auto& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    auto& argument = const_cast<c10::IValue&>(value);
    if (argument.isTensor()) {
      argument = here(argument.toTensor());
    } else if (argument.isTensorList()) {
      std::vector<at::Tensor> all;
      for (const at::Tensor& tensor : argument.toTensorVector()) all.push_back(here(tensor));
      argument = all;
    }
  }
  op.callBoxed(stack);
  for (auto& value : torch::jit::last(*stack, op.schema().returns().size())) {
    auto& result = const_cast<c10::IValue&>(value);
    if (result.isTensor()) result = there(result.toTensor());
  }
}

/// Lends `meta` the operators that it lacks without Python, except those by which the host reads values.
inline void lend_operators() {
  static const auto library = [] {
    auto lent = std::make_unique<torch::Library>(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__,
                                                 static_cast<std::uint32_t>(__LINE__));
    const std::set<std::string> reads{"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2"};
    const auto& dispatcher = c10::Dispatcher::singleton();
    std::set<std::string> own;
    for (const auto& name : dispatcher.getRegistrationsForDispatchKey(c10::DispatchKey::Meta)) {
      own.insert(c10::toString(name));
    }
    for (const auto& name : dispatcher.getRegistrationsForDispatchKey(c10::DispatchKey::CPU)) {
      const auto full = c10::toString(name);
      if (!full.starts_with("aten::") || own.contains(full)) continue;
      const auto bare = full.substr(6);
      if (reads.contains(bare.substr(0, bare.find('.')))) continue;
      lent->impl(bare.c_str(), torch::CppFunction::makeFromBoxedFunction<&shapes_from_host>());
    }
    return lent;
  }();
}

/// What the calling thread asks of LibTorch while this lives.
class Traffic {
 public:
  Traffic() {
    seen() = {};
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(&see).scopes({at::RecordScope::FUNCTION}).needsInputs(true));
  }
  ~Traffic() { at::removeCallback(handle_); }
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  /// Copies from the CPU to another device.
  [[nodiscard]] std::int64_t copies() const { return seen().copies; }
  /// Values read by the host.
  [[nodiscard]] std::int64_t reads() const { return seen().reads; }

 private:
  struct Seen {
    std::int64_t copies = 0, reads = 0;
  };
  static Seen& seen() {
    static thread_local Seen counted;
    return counted;
  }
  static std::unique_ptr<at::ObserverContext> see(const at::RecordFunction& call) {
    const std::string_view name = call.name();
    if (name == "aten::_local_scalar_dense") ++seen().reads;
    if (name != "aten::copy_") return nullptr;
    const auto inputs = call.inputs();
    if (inputs.size() < 2 || !inputs[0].isTensor() || !inputs[1].isTensor()) return nullptr;
    if (!inputs[0].toTensor().is_cpu() && inputs[1].toTensor().is_cpu()) ++seen().copies;
    return nullptr;
  }

  at::CallbackHandle handle_;
};

/// A network elsewhere, whose every input must be there too. It predicts nothing.
struct NetworkElsewhere {
  std::int64_t channels = 4, latents = 4;

  [[nodiscard]] TimeProjections project_time(const at::Tensor& timesteps) const {
    return {timesteps.to(elsewhere()).view({-1, 1, 1, 1})};
  }
  [[nodiscard]] ContextProjections project_context(const at::Tensor& context) const {
    require_there("text", context);
    return {{context.unsqueeze(1), context.unsqueeze(1)}};
  }
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step) const {
    for (const auto& given : {x, times.at(0), texts.at(0).keys}) require_there("input", given);
    const auto pixels = at::zeros({x.size(0), 1, x.size(2) * x.size(3), texts.at(0).keys.size(3)}, x.options());
    AttentionSite site{.cross = false, .layer = 0, .height = x.size(2), .width = x.size(3), .step = step};
    require_there("attention", attend(site, pixels, pixels, pixels));
    site.cross = true;
    require_there("attention", attend(site, pixels, texts.at(0).keys, texts.at(0).values));
    return x.narrow(1, 0, latents).mul(0.5);
  }
  [[nodiscard]] std::int64_t in_channels() const { return channels; }
  [[nodiscard]] at::Device device() const { return elsewhere(); }
  [[nodiscard]] at::ScalarType dtype() const { return at::kFloat; }

  static void require_there(const char* what, const at::Tensor& tensor) {
    require(tensor.device() == elsewhere(), "{}: expected it on {}, found it on {}", what, elsewhere().str(),
            tensor.device().str());
  }
};
static_assert(DenoisingNetwork<NetworkElsewhere>);

}  // namespace ip2p::testing
