#pragma once

/// \file
/// The tree of named weights that every model is.
///
/// It offers what models need of `torch::nn::Module` under the same names, without that header: it alone takes five
/// times as long to compile as LibTorch's tensors, and every program that uses a model would pay for it.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"

namespace ip2p {

namespace detail {

/// The name of what is called `name` in the part `prefix`: joined by a dot, or itself at the root.
inline std::string joined_name(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

/// Moves and converts `tensor` in place, as far as a device or a dtype is given: whoever holds it sees the new values.
/// Integers and booleans keep their dtype.
inline void place(const at::Tensor& tensor, std::optional<at::Device> device, std::optional<at::ScalarType> dtype) {
  const auto kept = !dtype || !tensor.is_floating_point();
  tensor.set_data(tensor.detach().to(device.value_or(tensor.device()), kept ? tensor.scalar_type() : *dtype));
}

}  // namespace detail

/// Items under their names, in the order in which they were registered.
template <class Value>
using Named = std::vector<std::pair<std::string, Value>>;

/// A part of a model: parameters and buffers of its own, and parts below it. Full names join the names on the way with
/// dots, as published weight files have them. Derived classes register what they hold in their constructors.
///
/// \code
/// struct Projection : ip2p::Module {
///   Projection() { weight = register_parameter("weight", at::empty({4, 4})); }
///   at::Tensor operator()(const at::Tensor& x) const { return at::linear(x, weight); }
///   at::Tensor weight;
/// }; \endcode
class Module : public std::enable_shared_from_this<Module> {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Adds a parameter, which asks for gradients from now on. \return the tensor
  /// \throws Error for a name with a dot or one that is taken, and for a tensor that is not floating-point
  at::Tensor register_parameter(std::string_view name, const at::Tensor& tensor) {
    check_name(name);
    require(tensor.defined() && tensor.is_floating_point(),
            "module: parameter '{}': expected a floating-point tensor, found {}; one of integers is a buffer", name,
            tensor.defined() ? at::toString(tensor.scalar_type()) : "none");
    tensor.set_requires_grad(true);
    parameters_.emplace_back(name, tensor);
    return tensor;
  }

  /// Adds a constant that moves with the module, such as a mean or a table of indices. It is neither trained nor part
  /// of a weight file. \return the tensor  \throws Error for a name with a dot or one that is taken
  at::Tensor register_buffer(std::string_view name, const at::Tensor& tensor) {
    check_name(name);
    require(tensor.defined(), "module: buffer '{}': expected a tensor, found none", name);
    buffers_.emplace_back(name, tensor);
    return tensor;
  }

  /// Adds a part. \return the part \throws Error as `register_parameter`
  template <class Part>
  std::shared_ptr<Part> register_module(std::string_view name, std::shared_ptr<Part> part) {
    add_part(name, part);
    return part;
  }

  /// Adds a part that only groups others. \return it \throws Error as `register_parameter`
  std::shared_ptr<Module> register_group(std::string_view name) {
    return register_module(name, std::make_shared<Module>());
  }

  /// This module's own parameters, then those of its parts, each with its full name. Tensors are shared, not copied.
  [[nodiscard]] Named<at::Tensor> named_parameters() const {
    Named<at::Tensor> all;
    for (const auto& [prefix, module] : named_modules()) {
      for (const auto& [name, tensor] : module->parameters_) {
        all.emplace_back(detail::joined_name(prefix, name), tensor);
      }
    }
    return all;
  }

  /// As `named_parameters`, without the parts.
  [[nodiscard]] const Named<at::Tensor>& own_parameters() const { return parameters_; }

  /// The tensors of `named_parameters`.
  [[nodiscard]] std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all;
    for (const auto* module : modules()) {
      for (const auto& [name, tensor] : module->parameters_) all.push_back(tensor);
    }
    return all;
  }

  /// The module's own buffers, then those of its parts, each with its full name. Tensors are shared, not copied.
  [[nodiscard]] Named<at::Tensor> named_buffers() const {
    Named<at::Tensor> all;
    for (const auto& [prefix, module] : named_modules()) {
      for (const auto& [name, tensor] : module->buffers_) all.emplace_back(detail::joined_name(prefix, name), tensor);
    }
    return all;
  }

  /// The parameter of that full name. \throws Error if there is none
  [[nodiscard]] at::Tensor parameter(std::string_view name) const {
    for (const auto& [own, tensor] : named_parameters()) {
      if (own == name) return tensor;
    }
    throw_error("module: expected a parameter '{}', found none of that name", name);
  }

  /// This module under "", then every part below it with its full name; a part comes before its own parts.
  [[nodiscard]] Named<Module*> named_modules() {
    Named<Module*> all;
    list(all, "", *this);
    return all;
  }
  /// The same of a const module.
  [[nodiscard]] Named<const Module*> named_modules() const {
    Named<const Module*> all;
    list(all, "", *this);
    return all;
  }

  /// The modules of `named_modules`.
  [[nodiscard]] std::vector<Module*> modules() {
    std::vector<Module*> all;
    list(all, *this);
    return all;
  }
  /// The same of a const module.
  [[nodiscard]] std::vector<const Module*> modules() const {
    std::vector<const Module*> all;
    list(all, *this);
    return all;
  }

  /// The part registered under `name`. \throws Error if there is none
  [[nodiscard]] std::shared_ptr<Module> part(std::string_view name) const {
    for (const auto& [own, module] : parts_) {
      if (own == name) return module;
    }
    throw_error("module: expected a part '{}', found none of that name", name);
  }

  /// Moves and converts all parameters and buffers in place: whoever holds one of the tensors sees the new values.
  /// Buffers of integers keep their dtype. \throws Error for a dtype that is not floating-point
  void to(at::Device device, at::ScalarType dtype) { place(device, dtype); }

  /// Moves all parameters and buffers in place; each keeps its dtype.
  void to(at::Device device) { place(device, std::nullopt); }

  /// Converts all parameters and buffers in place, wherever they are, as `to(device, dtype)`.
  void to(at::ScalarType dtype) { place(std::nullopt, dtype); }

  /// Makes every parameter of this module and its parts ask for gradients, or none of them. `resume_gradients` keeps
  /// to that.
  void set_requires_grad(bool asks) {
    for (auto* module : modules()) {
      module->asked_.clear();
      for (const auto& [name, tensor] : module->parameters_) tensor.set_requires_grad(asks);
    }
  }

  /// For inference: no parameter of this module's own asks for gradients until `resume_gradients`.
  void suspend_gradients() {
    asked_.resize(parameters_.size());
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const auto& tensor = parameters_[i].second;
      asked_[i] = asked_[i] || tensor.requires_grad();
      tensor.set_requires_grad(false);
    }
  }

  /// Undoes `suspend_gradients`: those of this module's own parameters that asked for gradients before do so again.
  /// One that was made to ask in the meantime stays so. Without effect on a module that was not suspended.
  void resume_gradients() {
    for (std::size_t i = 0; i < asked_.size(); ++i) {
      if (asked_[i]) parameters_[i].second.set_requires_grad(true);
    }
    asked_.clear();
  }

 protected:
  /// Puts another tensor in the place of a parameter of this module's own.
  void replace_parameter(std::string_view name, const at::Tensor& tensor) {
    for (auto& [own, parameter] : parameters_) {
      if (own == name) parameter = tensor;
    }
    note_model_change();
  }

 private:
  void place(std::optional<at::Device> device, std::optional<at::ScalarType> dtype) {
    require(!dtype || at::isFloatingType(*dtype), "module: dtype: expected a floating-point one, found {}",
            at::toString(dtype.value_or(at::kFloat)));
    for (const auto* module : modules()) {
      for (const auto& [name, tensor] : module->parameters_) detail::place(tensor, device, dtype);
      for (const auto& [name, tensor] : module->buffers_) detail::place(tensor, device, dtype);
    }
    note_model_change();
  }

  void check_name(std::string_view name) const {
    const auto is_it = [&](const auto& item) { return item.first == name; };
    require(!name.empty() && name.find('.') == std::string_view::npos,
            "module: expected a name without dots, found '{}'", name);
    require(std::none_of(parameters_.begin(), parameters_.end(), is_it) &&
                std::none_of(buffers_.begin(), buffers_.end(), is_it) &&
                std::none_of(parts_.begin(), parts_.end(), is_it),
            "module: expected a name that is free, found '{}' twice", name);
  }

  void add_part(std::string_view name, std::shared_ptr<Module> part) {
    check_name(name);
    parts_.emplace_back(name, std::move(part));
  }

  template <class Self>
  static void list(Named<Self*>& all, const std::string& prefix, Self& module) {
    all.emplace_back(prefix, &module);
    for (const auto& [name, part] : module.parts_) list<Self>(all, detail::joined_name(prefix, name), *part);
  }

  template <class Self>
  static void list(std::vector<Self*>& all, Self& module) {
    all.push_back(&module);
    for (const auto& [name, part] : module.parts_) list<Self>(all, *part);
  }

  Named<at::Tensor> parameters_;
  Named<at::Tensor> buffers_;
  std::vector<bool> asked_;  ///< While suspended: which of `parameters_` asked for gradients before.
  Named<std::shared_ptr<Module>> parts_;
};

}  // namespace ip2p
