// A configuration of a model or scheduler is refused with an Error, or it is sound by its own check, and written as
// JSON it reads the same. The input is a letter that says which, and JSON.

#include <nlohmann/json.hpp>

#include "fuzz/harness.hpp"
#include "ip2p/codec/dc_autoencoder_config.hpp"
#include "ip2p/codec/kl_autoencoder_config.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/language/gpt2_config.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/unet/config.hpp"
#include "ip2p/vision/clip_config.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

template <class Config>
void check(const nlohmann::json& json) {
  Config config;
  if (!fuzz::reads([&] { config = Config::from_json(json, "input"); })) return;
  fuzz::must_read("a configuration that was read is not sound", [&] {
    if constexpr (requires { config.validate("input"); }) config.validate("input");
    if constexpr (requires { config.to_json(); }) {
      fuzz::expect(Config::from_json(config.to_json(), "again").to_json() == config.to_json(),
                   "written again, a configuration differs");
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return -1;
  const auto json = nlohmann::json::parse(fuzz::text_of(data + 1, size - 1), nullptr, false);
  if (json.is_discarded()) return -1;
  switch (*data) {
    case 'u':
      check<ip2p::UNetConfig>(json);
      break;
    case 'v':
      check<ip2p::KlAutoencoderConfig>(json);
      break;
    case 't':
      check<ip2p::TinyAutoencoderConfig>(json);
      break;
    case 'd':
      check<ip2p::DcAutoencoderConfig>(json);
      break;
    case 'c':
      check<ip2p::ClipTextConfig>(json);
      break;
    case 'i':
      check<ip2p::ClipConfig>(json);
      break;
    case 'g':
      check<ip2p::Gpt2Config>(json);
      break;
    case 's': {
      ip2p::SchedulerConfig config;
      if (!fuzz::reads([&] { config = ip2p::scheduler_config_from_json(json, "input"); })) break;
      fuzz::must_read("a scheduler that was read is not sound", [&] {
        const auto written = ip2p::scheduler_config_to_json(config);
        fuzz::expect(ip2p::scheduler_config_to_json(ip2p::scheduler_config_from_json(written, "again")) == written,
                     "written again, a scheduler differs");
      });
      break;
    }
    default:
      return -1;
  }
  return 0;
}
