#include "ip2p/io/model_advice.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "support/catch.hpp"

namespace {

using Catch::Contains;
using ip2p::ModelAdvice;

}  // namespace

TEST_CASE("ModelAdvice: a model without entries has no limits", "[io]") {
  const auto advice = ModelAdvice::from_json({{"steps", 6}, {"text_scale", 1.0}}, "model");
  CHECK_FALSE(advice.image_scale);
  CHECK_FALSE(advice.text_scale);
  CHECK(advice.knows("anything at all"));
}

TEST_CASE("ModelAdvice: ranges include their ends", "[io]") {
  const auto advice = ModelAdvice::from_json({{"text_scale_range", {0.5, 2}}, {"image_scale_range", {1, 1}}}, "model");
  REQUIRE(advice.text_scale);
  CHECK(advice.text_scale->holds(0.5));
  CHECK(advice.text_scale->holds(2.0));
  CHECK_FALSE(advice.text_scale->holds(2.001));
  CHECK_FALSE(advice.text_scale->holds(0.499));
  REQUIRE(advice.image_scale);
  CHECK(advice.image_scale->holds(1.0));
}

TEST_CASE("ModelAdvice: an instruction is known by a word of it", "[io]") {
  const auto advice = ModelAdvice::from_json({{"knows", {{"winter", {"snow", "winter"}}, {"red", {"red"}}}}}, "model");
  REQUIRE(advice.known.size() == 2);
  CHECK(advice.knows("let it snow"));
  CHECK(advice.knows("Make it SNOWY!"));
  CHECK(advice.knows("a wintry, snow-covered street"));
  CHECK(advice.knows("paint the car red."));
  CHECK(advice.knows(""));
  CHECK(advice.knows(" ."));
  CHECK_FALSE(advice.knows("reduce the noise"));  // short words stand for themselves
  CHECK_FALSE(advice.knows("give him a hat"));
  CHECK_FALSE(advice.knows("caf\u00e9"));
}

TEST_CASE("ModelAdvice refuses entries of another form, by name", "[io]") {
  const auto refuses = [](const nlohmann::json& settings, const std::string& text) {
    CHECK_THROWS_WITH(ModelAdvice::from_json(settings, "model"), Contains("model: _ip2p_settings: " + text));
  };
  refuses({{"text_scale_range", 3}}, "text_scale_range: expected two numbers, the lower first, found 3");
  refuses({{"image_scale_range", {2, 1}}}, "image_scale_range: expected two numbers, the lower first, found [2,1]");
  refuses({{"image_scale_range", {1, 2, 3}}}, "image_scale_range: expected two numbers");
  refuses({{"knows", {"snow"}}}, "knows: expected an object of edits with their words, found [\"snow\"]");
  refuses({{"knows", {{"winter", "snow"}}}}, "knows: winter: expected a list of single words in lower case");
  refuses({{"knows", {{"winter", {"Snow"}}}}}, "knows: winter: expected a list of single words in lower case");
  refuses({{"knows", {{"winter", {"let it snow"}}}}}, "knows: winter: expected a list of single words");
}
