#include "edit_request.hpp"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fault.hpp"
#include "openai.hpp"
#include "support/catch.hpp"

namespace {

studio::ModelInfo some_model() {
  studio::ModelInfo model;
  model.name = "some";
  model.text_scale = 7.5;
  model.image_scale = 1.5;
  model.steps = 20;
  model.sampler = "euler";
  model.schedule = "log-linear";
  model.samplers = {"euler", "heun"};
  model.schedules = {"log-linear", "karras"};
  return model;
}

studio::EditRequest parsed(const std::string& text) { return studio::parse_request(text, some_model(), {}); }

/// "seed text image", one a result.
std::vector<std::string> cells(const std::string& text) {
  std::vector<std::string> described;
  for (const auto& cell : parsed(text).cells()) {
    described.push_back(fmt::format("{} {} {}", cell.seed, cell.text_scale, cell.image_scale));
  }
  return described;
}

studio::Fault fault(const std::string& text) {
  try {
    parsed(text);
  } catch (const studio::Fault& found) {
    return found;
  }
  return {0, "none", "none"};
}

studio::OpenAiRequest openai(const std::vector<std::pair<std::string, std::string>>& fields) {
  studio::Form form(studio::openai_fields({}));
  for (const auto& [name, value] : fields) {
    form.begin(name);
    form.add(value);
  }
  form.finish();
  return studio::parse_openai(form, some_model(), {});
}

}  // namespace

TEST_CASE("What a request leaves out is as the model recommends", "[studio]") {
  const auto request = parsed(R"({"instruction": "make it snowy"})");
  CHECK(request.text_scale == 7.5);
  CHECK(request.image_scale == 1.5);
  CHECK(request.steps == 20);
  CHECK(request.sampler == "euler");
  CHECK(request.schedule.empty());
  CHECK(cells(R"({"instruction": "x"})") == std::vector<std::string>{"42 7.5 1.5"});
  CHECK(parsed(R"({"instruction": "x", "schedule": "log-linear"})").schedule.empty());
  CHECK(parsed(R"({"instruction": "x", "schedule": "karras"})").schedule == "karras");
}

TEST_CASE("A job has a result for each seed, or for each cell of a sweep", "[studio]") {
  using Texts = std::vector<std::string>;
  CHECK(cells(R"({"instruction": "x", "seed": 4294967293, "count": 3})") ==
        Texts{"4294967293 7.5 1.5", "4294967294 7.5 1.5", "4294967295 7.5 1.5"});
  CHECK(cells(R"({"instruction": "x", "seed": 1, "grid": {"text_scale": [1, 2], "image_scale": [3, 4]}})") ==
        Texts{"1 1 3", "1 1 4", "1 2 3", "1 2 4"});
  CHECK(cells(R"({"instruction": "x", "seed": 1, "image_scale": 2, "grid": {"text_scale": [1, 2]}})") ==
        Texts{"1 1 2", "1 2 2"});
}

TEST_CASE("A wrong setting is refused by its name, in words", "[studio]") {
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"", "settings"},
      {"[1]", "settings"},
      {R"({"instruction": "x", "steps": )", "settings"},
      {"{\"instruction\": \"\xff\"}", "settings"},
      {std::string(10000, '['), "settings"},
      {"{}", "settings.instruction"},
      {R"({"instruction": "  "})", "settings.instruction"},
      {R"({"instruction": 3})", "settings.instruction"},
      {R"({"instruction": "a\u0000b"})", "settings.instruction"},
      {R"({"instruction": ")" + std::string(3000, 'x') + R"("})", "settings.instruction"},
      {R"({"instruction": "x", "stepz": 3})", "settings"},
      {R"({"instruction": "x", "steps": 0})", "settings.steps"},
      {R"({"instruction": "x", "steps": -1})", "settings.steps"},
      {R"({"instruction": "x", "steps": 2.5})", "settings.steps"},
      {R"({"instruction": "x", "steps": "3"})", "settings.steps"},
      {R"({"instruction": "x", "steps": 100000})", "settings.steps"},
      {R"({"instruction": "x", "seed": 4294967296})", "settings.seed"},
      {R"({"instruction": "x", "seed": 4294967295, "count": 2})", "settings.seed"},
      {R"({"instruction": "x", "seed": 99999999999999999999999})", "settings.seed"},
      {R"({"instruction": "x", "text_scale": 1e300})", "settings.text_scale"},
      {R"({"instruction": "x", "image_scale": "1"})", "settings.image_scale"},
      {R"({"instruction": "x", "sampler": "newton"})", "settings.sampler"},
      {R"({"instruction": "x", "schedule": "cosine"})", "settings.schedule"},
      {R"({"instruction": "x", "count": 17})", "settings.count"},
      {R"({"instruction": "x", "full_size": 1})", "settings.full_size"},
      {R"({"instruction": "x", "grid": {}})", "settings.grid"},
      {R"({"instruction": "x", "grid": {"steps": [1]}})", "settings.grid"},
      {R"({"instruction": "x", "grid": {"text_scale": []}})", "settings.grid.text_scale"},
      {R"({"instruction": "x", "grid": {"text_scale": [1, "2"]}})", "settings.grid.text_scale"},
      {R"({"instruction": "x", "grid": {"text_scale": [1,2,3,4,5], "image_scale": [1,2,3,4]}})", "settings.grid"},
      {R"({"instruction": "x", "count": 2, "grid": {"text_scale": [1]}})", "settings.count"},
  };
  for (const auto& [text, param] : wrong) {
    const auto found = fault(text);
    INFO(text.substr(0, 100) << " -> " << found.what());
    CHECK(found.status() == 400);
    CHECK(found.param() == param);
    CHECK(found.json()["type"] == "invalid_request_error");
    CHECK(std::string(found.what()).size() < 400);
  }
}

TEST_CASE("Settings of a picture become those of a request", "[studio]") {
  const auto options = nlohmann::ordered_json::parse(
      R"({"model": "m", "prompt": "p", "negative-prompt": "n", "steps": 4, "sampler": "heun", "text-scale": 2,
          "image-scale": 3, "seed": 5, "full-size": true, "noise": "torch"})");
  const auto settings = studio::request_of_options(options);
  CHECK(settings == nlohmann::ordered_json::parse(
                        R"({"instruction": "p", "negative": "n", "text_scale": 2, "image_scale": 3, "steps": 4,
                            "seed": 5, "sampler": "heun", "full_size": true})"));
  CHECK(studio::parse_request(settings.dump(), some_model(), {}).seed == 5);
}

TEST_CASE("A form takes what it may have, and no more", "[studio]") {
  const std::vector<studio::FieldRule> rules{{"image", 8, true, "image[]"}, {"note", 4, false}};
  const auto code = [&](const std::vector<std::pair<std::string, std::string>>& fields) -> std::string {
    studio::Form form(rules);
    try {
      for (const auto& [name, value] : fields) {
        form.begin(name);
        for (const char c : value) form.add({&c, 1});
      }
      form.finish();
    } catch (const studio::Fault& found) {
      return found.code();
    }
    return "taken";
  };
  CHECK(code({{"image", "12345678"}}) == "taken");
  CHECK(code({{"image[]", "12345678"}, {"note", ""}}) == "taken");
  CHECK(code({{"image", "123456789"}}) == "too_large");
  CHECK(code({{"note", "1234"}}) == "missing_field");
  CHECK(code({{"image", "1"}, {"image[]", "2"}}) == "wrong_value");
  CHECK(code({{"image", "1"}, {"", "2"}}) == "unknown_field");
  CHECK(code({{"image", "1"}, {std::string(10000, 'x'), "2"}}) == "unknown_field");
}

TEST_CASE("OpenAI's fields mean what they mean there", "[studio]") {
  const auto plain = openai({{"image", "i"}, {"prompt", "p"}});
  CHECK(plain.edit.instruction == "p");
  CHECK(plain.edit.count == 1);
  CHECK_FALSE(plain.urls);
  CHECK_FALSE(plain.stream);
  CHECK_FALSE(plain.size);
  CHECK(plain.edit.seed !=
        openai({{"image", "i"}, {"prompt", "p"}}).edit.seed);  // random; equal once in 4 billion runs

  const auto full = openai({{"image[]", "i"},
                            {"prompt", "p"},
                            {"model", "some"},
                            {"n", "3"},
                            {"seed", "7"},
                            {"size", "64x32"},
                            {"output_format", "jpeg"},
                            {"output_compression", "80"},
                            {"stream", "true"},
                            {"partial_images", "3"},
                            {"user", "u"},
                            {"quality", "high"},
                            {"text_scale", "2.5"}});
  CHECK(full.edit.seed == 7);
  CHECK(full.edit.cells().size() == 3);
  CHECK(full.size == ip2p::Size{64, 32});
  CHECK(full.format == ip2p::ImageFormat::jpeg);
  CHECK(full.quality == 80);
  CHECK(full.edit.preview_every == 5);
  CHECK(full.edit.text_scale == 2.5);
}

TEST_CASE("A wrong field of OpenAI's form is named as it is there", "[studio]") {
  const std::vector<std::pair<std::string, std::string>> wrong{{"n", "0"},
                                                               {"n", "x"},
                                                               {"n", "99"},
                                                               {"size", "big"},
                                                               {"size", "0x10"},
                                                               {"size", "16384x16"},
                                                               {"size", "1x"},
                                                               {"size", "9999999x9999999"},
                                                               {"model", "gpt"},
                                                               {"response_format", "xml"},
                                                               {"stream", "yes"},
                                                               {"partial_images", "4"},
                                                               {"output_format", "gif"},
                                                               {"background", "transparent"},
                                                               {"seed", "-1"},
                                                               {"seed", "1e3x"},
                                                               {"steps", "many"},
                                                               {"text_scale", "nan"},
                                                               {"negative", "fog\xad"},
                                                               {"sampler", "newton"}};
  for (const auto& [name, value] : wrong) {
    INFO(name << " = " << value);
    try {
      openai({{"image", "i"}, {"prompt", "p"}, {name, value}});
      FAIL("was taken");
    } catch (const studio::Fault& found) {
      CHECK(found.param() == name);
      CHECK(found.status() == 400);
      CHECK_THAT(found.what(), Contains(name));
    }
  }
  for (const char* prompt : {" ", "x\xc3"}) {
    try {
      openai({{"image", "i"}, {"prompt", prompt}});
      FAIL("was taken");
    } catch (const studio::Fault& found) {
      CHECK(found.param() == "prompt");
      CHECK(found.status() == 400);
    }
  }
}
