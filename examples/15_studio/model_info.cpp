#include "model_info.hpp"

#include <cstdint>
#include <optional>

#include <nlohmann/json.hpp>

#include "ip2p/version.hpp"

namespace studio {

using Json = nlohmann::ordered_json;

static Json json_of(const std::optional<ip2p::ScaleRange>& range) {
  if (!range) return nullptr;
  return {{"least", range->least}, {"most", range->most}};
}

Json json_of(const ModelInfo& model, const Limits& limits, std::int64_t batch) {
  Json known = Json::array();
  for (const auto& edit : model.advice.known) known.push_back({{"name", edit.name}, {"words", edit.words}});
  return {
      {"name", model.name},
      {"version", ip2p::version},
      {"device", model.device},
      {"dtype", model.dtype},
      {"codec", {{"downscale", model.downscale}, {"channels", model.channels}}},
      {"recommended",
       {{"text_scale", model.text_scale},
        {"image_scale", model.image_scale},
        {"steps", model.steps},
        {"sampler", model.sampler},
        {"schedule", model.schedule},
        {"resolution", model.resolution ? Json(*model.resolution) : Json(nullptr)}}},
      {"ranges",
       {{"text_scale", json_of(model.advice.text_scale)}, {"image_scale", json_of(model.advice.image_scale)}}},
      {"allowed", {{"scale", {{"least", -limits.scale}, {"most", limits.scale}}}}},
      {"known", std::move(known)},
      {"samplers", model.samplers},
      {"schedules", model.schedules},
      {"limits",
       {{"count", limits.count},
        {"steps", limits.steps},
        {"seed", limits.seed},
        {"pixels", limits.pixels},
        {"bytes", limits.bytes},
        {"text", limits.text},
        {"queue", limits.queue},
        {"jobs", limits.jobs},
        {"seconds_kept", limits.seconds_kept}}},
      {"full_size", true},
      {"masks", true},
      {"previews", true},
      {"batch", batch},
  };
}

}  // namespace studio
