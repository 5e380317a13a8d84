#include "ip2p/train/checkpoint.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>

#include <fstream>
#include <string>
#include <vector>

#include "ip2p/train/loss_curve.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;
using ip2p::testing::ScratchDir;

namespace {

Checkpoint example(std::int64_t step) {
  return {step, {{"weights/a", at::arange(12).to(at::kFloat).view({3, 4}) + step}}, {{"note", "x"}}};
}

void overwrite(const std::filesystem::path& path, std::streamoff offset, char value) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file.put(value);
}

}  // namespace

TEST_CASE("CheckpointFolder returns what was saved and keeps the newest", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path(), 2);
  CHECK_FALSE(folder.load_newest().has_value());
  for (const std::int64_t step : {1, 2, 10}) folder.save(example(step));
  CHECK(folder.steps() == std::vector<std::int64_t>{2, 10});  // 10 is newer than 2: numbers, not text
  const auto newest = folder.load_newest();
  REQUIRE(newest.has_value());
  CHECK(newest->step == 10);
  CHECK(newest->state == nlohmann::json{{"note", "x"}});
  CHECK(newest->tensors.at("weights/a").equal(example(10).tensors.at("weights/a")));
}

TEST_CASE("A damaged checkpoint is skipped with the reason, and the one before is used", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path(), 5);
  folder.save(example(1));
  folder.save(example(2));
  const auto tensors = scratch / "step_2/tensors.safetensors";
  std::vector<std::string> skipped;

  SECTION("flipped bit") {
    overwrite(tensors, static_cast<std::streamoff>(std::filesystem::file_size(tensors)) - 1, '\x7f');
    CHECK(folder.load_newest(&skipped)->step == 1);
    REQUIRE(skipped.size() == 1);
    CHECK_THAT(skipped[0], Catch::Contains("step_2") && Catch::Contains("expected checksum"));
  }
  SECTION("truncated") {
    std::filesystem::resize_file(tensors, std::filesystem::file_size(tensors) - 4);
    CHECK(folder.load_newest(&skipped)->step == 1);
    CHECK_THAT(skipped.at(0), Catch::Contains("expected") && Catch::Contains("bytes"));
  }
  SECTION("no manifest: killed before the end") {
    std::filesystem::remove(scratch / "step_2/manifest.json");
    CHECK(folder.load_newest(&skipped)->step == 1);
    CHECK_THAT(skipped.at(0), Catch::Contains("no manifest.json"));
  }
  SECTION("manifest that is not JSON") {
    overwrite(scratch / "step_2/manifest.json", 0, '?');
    CHECK(folder.load_newest(&skipped)->step == 1);
    CHECK_THAT(skipped.at(0), Catch::Contains("manifest.json"));
  }
  SECTION("numbers that are not whole, or beyond their type") {
    const auto place = GENERATE("/version", "/step", "/files/tensors.safetensors/bytes");
    const auto* number = GENERATE("1.6e35", "-1.1e301", "7.5", "18446744073709551616");
    CAPTURE(place, number);
    auto manifest = nlohmann::json::parse(std::ifstream(scratch / "step_2/manifest.json"));
    manifest[nlohmann::json::json_pointer(place)] = nlohmann::json::parse(number);
    manifest.erase("checksum");
    manifest["checksum"] = ip2p::detail::text_checksum(manifest.dump());
    std::ofstream(scratch / "step_2/manifest.json") << manifest.dump();
    CHECK(folder.load_newest(&skipped)->step == 1);
    CHECK_THAT(skipped.at(0), Catch::Contains("manifest.json: expected a whole number, found "));
  }
}

TEST_CASE("What a killed writer left behind is not taken for a checkpoint, nor in the way of the next", "[train]") {
  const ScratchDir scratch;
  std::filesystem::create_directories(scratch / "step_7.tmp");
  std::filesystem::create_directories(scratch / "step_x");
  const CheckpointFolder folder(scratch.path());
  CHECK(folder.steps().empty());
  folder.save(example(7));
  CHECK(folder.load_newest()->step == 7);
  CHECK_FALSE(std::filesystem::exists(scratch / "step_7.tmp"));
}

TEST_CASE("If a checkpoint cannot be written, the error names its path and the older one stays intact", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path());
  folder.save(example(1));
  auto broken = example(2);
  broken.tensors.emplace("weights/undefined", at::Tensor());
  CHECK_THROWS_WITH(folder.save(broken), Catch::Contains("weights/undefined"));
  CHECK(folder.load_newest()->step == 1);
  std::ofstream(scratch / "file") << "x";
  CHECK_THROWS_WITH(CheckpointFolder(scratch / "file").save(example(1)), Catch::Contains("cannot write checkpoint"));
  CHECK_THROWS_WITH(CheckpointFolder(scratch.path(), 0), Catch::Contains("at least 1"));
}

TEST_CASE("LossCurve reads back what it wrote, and drops what came after a checkpoint", "[train]") {
  const ScratchDir scratch;
  {
    LossCurve curve(scratch / "loss.csv");
    for (std::int64_t i = 1; i <= 5; ++i)
      curve.add({i, 1.0 / static_cast<double>(i), 1e-3, 0.5 * static_cast<double>(i)});
    curve.flush();
    curve.add({6, 9.0, 1e-3, 3.0});  // never flushed: lost in a crash
  }
  LossCurve curve(scratch / "loss.csv");
  REQUIRE(curve.points().size() == 5);
  CHECK(curve.points()[3].loss == Approx(0.25));
  curve.truncate(3);
  curve.add({4, 0.125, 1e-3, 2.5});
  curve.flush();
  const auto points = LossCurve::read(scratch / "loss.csv");
  REQUIRE(points.size() == 4);
  CHECK(points[3].loss == Approx(0.125));
  CHECK(points[2].seconds == Approx(1.5));
  std::ofstream(scratch / "other.csv") << "a,b\n";
  CHECK_THROWS_WITH(LossCurve::read(scratch / "other.csv"), Catch::Contains("header of a loss curve"));
}
