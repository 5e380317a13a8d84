#include "ip2p/schedule/scheduler_config_json.hpp"

#include "support/catch.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("A scheduler_config.json of a published model is read", "[schedule]") {
  const auto config = scheduler_config_from_json(nlohmann::json::parse(R"({
    "_class_name": "EulerAncestralDiscreteScheduler", "_diffusers_version": "0.12.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000,
    "prediction_type": "v_prediction", "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
    "timestep_spacing": "trailing", "use_karras_sigmas": true, "trained_betas": null})"),
                                                 "scheduler_config.json");
  REQUIRE(config.noise.timesteps == 1000);
  REQUIRE(config.noise.beta_start == 0.00085);
  REQUIRE(config.noise.beta_end == 0.012);
  REQUIRE(config.noise.curve == BetaCurve::scaled_linear);
  REQUIRE(config.noise.betas.empty());
  REQUIRE(config.prediction == PredictionType::v_prediction);
  REQUIRE(config.spacing == TimestepSpacing::trailing);
  REQUIRE(config.steps_offset == 1);
  REQUIRE(config.use_karras_sigmas);
}

TEST_CASE("Absent keys of scheduler_config.json take diffusers' defaults", "[schedule]") {
  const auto config = scheduler_config_from_json(nlohmann::json::object(), "scheduler_config.json");
  REQUIRE(config.noise.beta_start == 0.0001);
  REQUIRE(config.noise.beta_end == 0.02);
  REQUIRE(config.noise.curve == BetaCurve::linear);
  REQUIRE(config.prediction == PredictionType::epsilon);
  REQUIRE(config.spacing == TimestepSpacing::linspace);
}

TEST_CASE("A wrong scheduler_config.json is refused with file, key, expected and found value", "[schedule]") {
  const auto read = [](const char* text) {
    return scheduler_config_from_json(nlohmann::json::parse(text), "a/b.json");
  };
  REQUIRE_THROWS_WITH(read("[]"), "a/b.json: expected a JSON object, found array");
  REQUIRE_THROWS_WITH(read(R"({"beta_start": "0.1"})"), "a/b.json: beta_start: expected a number, found \"0.1\"");
  REQUIRE_THROWS_WITH(read(R"({"num_train_timesteps": 1.5})"), Contains("expected a whole number, found 1.5"));
  REQUIRE_THROWS_WITH(read(R"({"num_train_timesteps": 1})"), Contains("expected at least 2, found 1"));
  REQUIRE_THROWS_WITH(read(R"({"steps_offset": -1})"), Contains("expected a number >= 0, found -1"));
  REQUIRE_THROWS_WITH(read(R"({"prediction_type": "flow"})"),
                      "a/b.json: prediction_type: expected one of epsilon, v_prediction, sample, found \"flow\"");
  REQUIRE_THROWS_WITH(read(R"({"beta_schedule": "exp"})"), Contains("linear, scaled_linear, squaredcos_cap_v2"));
  REQUIRE_THROWS_WITH(read(R"({"timestep_spacing": 3})"), Contains("expected a string, found 3"));
  REQUIRE_THROWS_WITH(read(R"({"trained_betas": [0.1, "x"]})"), Contains("expected a list of numbers"));
  REQUIRE_THROWS_WITH(read(R"({"use_karras_sigmas": 1})"), Contains("expected true or false, found 1"));
  REQUIRE_THROWS_WITH(read(R"({"timestep_type": "continuous"})"), Contains("expected \"discrete\""));
  REQUIRE_NOTHROW(read(R"({"trained_betas": [0.1, 0.2], "beta_start": null})"));
}
