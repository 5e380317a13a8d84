#pragma once

/// \file
/// Applies LoRA files to models. LoRAs are side paths attached to layers; the model's weights are not touched, so a
/// LoRA can be removed exactly.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensordot.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/io/lora_file.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/nn/applied_lora.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/nn/state.hpp"

namespace ip2p {

/// What to do with tensors of a LoRA file that match no layer of the model.
enum class UnmatchedLora {
  refuse,  ///< Throw `Error` listing them with the nearest names; nothing is applied.
  report,  ///< Apply the rest; `AppliedLora::unmatched()` lists them.
};

/// Options of `apply_lora`.
struct LoraOptions {
  double scale = 1;  ///< Factor of the whole change; any finite number, may be changed later.
  UnmatchedLora unmatched = UnmatchedLora::refuse;  ///< What happens to tensors that fit no layer.
};

namespace detail {

/// A layer that an adapter can change, or a row block of a fused layer.
struct LoraTarget {
  std::string name;  ///< Name in the published files, including the component.
  std::shared_ptr<LoraHost> host;
  std::int64_t first_row = 0;
  std::vector<std::int64_t> shape;  ///< [rows, in] or [rows, in, k, k]
};

/// All layers of a model, keyed by the name that `LoraLayer::module` uses.
inline std::map<std::string, LoraTarget> lora_targets(Module& module, const std::string& component) {
  std::map<std::string, LoraTarget> targets;
  for (const auto& [full_name, layer] : module.named_modules()) {
    if (dynamic_cast<LoraHost*>(layer) == nullptr) continue;
    const auto host = std::dynamic_pointer_cast<LoraHost>(layer->shared_from_this());
    auto shape = host->weight_shape();
    const auto names = file_names(full_name + ".");
    shape[0] /= static_cast<std::int64_t>(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto name = names[i].substr(0, names[i].size() - 1);
      targets.emplace(replace_all(name, ".", "_"),
                      LoraTarget{component + "." + name, host, static_cast<std::int64_t>(i) * shape[0], shape});
    }
  }
  return targets;
}

/// What `apply_lora` needs to know about a model.
struct LoraModel {
  std::string component;
  std::map<std::string, LoraTarget> targets;
  std::int64_t layers_per_block = 2;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
};

template <class Model>
LoraModel lora_model(const Model& model) {
  LoraModel result{.component = Model::component,
                   .targets = lora_targets(model.module(), Model::component),
                   .device = model.device(),
                   .dtype = model.dtype()};
  if constexpr (requires { model.config().layers_per_block; }) {
    result.layers_per_block = model.config().layers_per_block;
  }
  return result;
}

/// \throws Error naming the tensor, unless the shapes of the adapter's tensors fit the target's weight
inline void require_lora_fits(const LoraLayer& layer, const LoraTarget& target, const std::string& where) {
  auto in = target.shape;
  in[0] = layer.rank;
  auto found = layer.down.shape;
  if (layer.mid) found = {found[0], found[1], layer.mid->shape[2], layer.mid->shape[3]};
  constexpr std::string_view advice = "; this LoRA was made for another model";
  require(same_up_to_ones(in, found), "{}: tensor '{}': expected {} for {}, found {}{}", where,
          printable(layer.down_name), shape_text(in), target.name, shape_text(found), advice);
  require(layer.up.shape[0] == target.shape[0], "{}: tensor '{}': expected [{}, {}] for {}, found {}{}", where,
          printable(layer.up_name), target.shape[0], layer.rank, target.name, shape_text(layer.up.shape), advice);
}

/// The side path of one adapter. Its tensors get as many axes as the target's weight.
inline std::shared_ptr<LoraPath> make_lora_path(const LoraLayer& layer, const LoraTarget& target,
                                                const LoraModel& model, std::shared_ptr<const double> scale) {
  auto down = layer.down.read();
  if (layer.mid) {
    // down followed by mid is a single convolution: sum_j mid[i,j,:,:] down[j,c].
    const auto mid = layer.mid->read().to(at::kFloat);
    down = at::tensordot(mid, down.to(at::kFloat).flatten(1), {1}, {0}).permute({0, 3, 1, 2});
  }
  auto shape = target.shape;
  shape[0] = layer.rank;
  std::vector<std::int64_t> ones(shape.size(), 1);
  ones[0] = target.shape[0];
  ones[1] = layer.rank;
  const auto place = [&](const at::Tensor& tensor, const std::vector<std::int64_t>& sizes) {
    // A private copy, because the file's memory may be shared or mapped.
    const auto options = at::TensorOptions().device(model.device).dtype(model.dtype);
    return at::empty(sizes, options).copy_(tensor.reshape(sizes));
  };
  return std::make_shared<LoraPath>(LoraPath{.down = place(down, shape),
                                             .up = place(layer.up.read(), ones),
                                             .first_row = target.first_row,
                                             .strength = layer.strength,
                                             .scale = std::move(scale)});
}

/// A report of adapters and tensors that match no layer, with at most 12 lines.
inline std::string unmatched_report(const LoraFile& file, const std::vector<const LoraLayer*>& layers,
                                    const std::vector<LoraModel>& models) {
  constexpr std::size_t shown = 12;
  auto report = fmt::format("{}: {} of its {} adapters and {} other tensors belong to no layer of this model",
                            file.where(), layers.size(), file.layers().size(), file.unrecognised().size());
  std::size_t lines = 0;
  for (const auto* layer : layers) {
    if (lines++ == shown) break;
    const auto model =
        std::find_if(models.begin(), models.end(), [&](const LoraModel& m) { return m.component == layer->component; });
    report += fmt::format("\n  {} ({} tensors)", printable(layer->name), layer->tensors.size());
    if (model == models.end()) {
      report += fmt::format(": for the component '{}', which was not given", layer->component);
      continue;
    }
    std::vector<std::string> names;
    for (const auto& [name, target] : model->targets) names.push_back(target.name);
    report += nearest_names_clause(layer->component + "." + layer->module, names, 1);
  }
  for (const auto& name : file.unrecognised()) {
    if (lines++ >= shown) break;
    report += fmt::format("\n  {}: not the name of a LoRA tensor", printable(name));
  }
  const auto total = layers.size() + file.unrecognised().size();
  return total > shown ? report + fmt::format("\n  and {} more", total - shown) : report;
}

inline AppliedLora apply_lora_to(const std::vector<LoraModel>& models, const LoraFile& file,
                                 const LoraOptions& options) {
  const at::NoGradGuard no_grad;
  require(std::isfinite(options.scale), "LoRA: scale: expected a finite number, found {}", options.scale);
  std::vector<std::string> unmatched = file.unrecognised();
  std::vector<const LoraLayer*> homeless;
  struct Match {
    const LoraLayer* layer;
    const LoraTarget* target;
    const LoraModel* model;
  };
  std::vector<Match> matches;
  std::map<const LoraTarget*, const LoraLayer*> taken;
  for (const auto& layer : file.layers()) {
    const LoraTarget* target = nullptr;
    for (const auto& model : models) {
      if (model.component != layer.component) continue;
      const auto found = model.targets.find(lora_module_in(layer.module, model.layers_per_block));
      if (found == model.targets.end()) continue;
      target = &found->second;
      matches.push_back({&layer, target, &model});
    }
    if (target == nullptr) {
      homeless.push_back(&layer);
      unmatched.insert(unmatched.end(), layer.tensors.begin(), layer.tensors.end());
      continue;
    }
    const auto [other, fresh] = taken.emplace(target, &layer);
    require(fresh, "{}: expected one adapter for {}, found '{}' and '{}'", file.where(), target->name,
            printable(other->second->name), printable(layer.name));
    require_lora_fits(layer, *target, file.where());
  }
  if (!unmatched.empty() && options.unmatched == UnmatchedLora::refuse) {
    throw Error(unmatched_report(file, homeless, models));
  }

  const auto scale = std::make_shared<double>(options.scale);
  std::vector<AppliedLora::Adapter> adapters;
  for (const auto& [layer, target, model] : matches) {
    adapters.push_back({target->name, target->host, make_lora_path(*layer, *target, *model, scale)});
  }
  // Nothing can fail from here on.
  for (const auto& adapter : adapters) adapter.host.lock()->loras.push_back(adapter.path);
  note_model_change();
  return AppliedLora(scale, std::move(adapters), std::move(unmatched));
}

}  // namespace detail

/// Applies a LoRA to one model (`UNet` or `ClipTextModel`). If it throws, the model is unchanged. Several LoRAs add up.
///
/// The model's weights are not modified, whether 16-bit, packed or memory-mapped. Each changed layer costs two extra
/// small matrix products.
/// \throws Error naming the tensor, for shapes of another model, for non-finite numbers and, unless `options` say
///   otherwise, for tensors that match no layer (including those of another component: see `LoraFile::part`)
template <class Model>
AppliedLora apply_lora(const Model& model, const LoraFile& file, const LoraOptions& options = {}) {
  return detail::apply_lora_to({detail::lora_model(model)}, file, options);
}

/// The same for a file that changes both the UNet and the text model.
template <class First, class Second>
requires requires { Second::component; }
AppliedLora apply_lora(const First& unet, const Second& text_model, const LoraFile& file,
                       const LoraOptions& options = {}) {
  return detail::apply_lora_to({detail::lora_model(unet), detail::lora_model(text_model)}, file, options);
}

}  // namespace ip2p
