#pragma once

// An editor without a model: its pictures say from which settings they come, and a test may hold it between steps.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "editor.hpp"
#include "ip2p/core/error.hpp"

namespace {

/// A photograph of as many pixels a side as its file has bytes.
class FakePhotograph final : public studio::Photograph {
 public:
  explicit FakePhotograph(std::string file_) : file(std::move(file_)) {}
  std::int64_t width() const override { return static_cast<std::int64_t>(file.size()); }
  std::int64_t height() const override { return static_cast<std::int64_t>(file.size()); }
  std::size_t bytes() const override { return file.size(); }
  std::string file;
};

/// The instruction "explode" fails, "overflow" lacks memory in a batch of more than one.
class FakeEditor final : public studio::Editor {
 public:
  FakeEditor() {
    info.name = "fake";
    info.device = "cpu";
    info.dtype = "fp32";
    info.steps = 3;
    info.sampler = "euler";
    info.schedule = "log-linear";
    info.samplers = {"euler", "heun"};
    info.schedules = {"log-linear", "karras"};
  }

  const studio::ModelInfo& model() const override { return info; }
  std::int64_t tokens(const std::string& text) const override { return static_cast<std::int64_t>(text.size()); }

  std::shared_ptr<const studio::Photograph> read(std::string_view image, std::optional<std::string_view>,
                                                 studio::MaskForm, bool) const override {
    if (image.starts_with("bad")) throw ip2p::Error("image: not a picture");
    return std::make_shared<FakePhotograph>(std::string(image));
  }

  std::vector<std::optional<studio::Edited>> edit(std::span<const studio::Edit> edits,
                                                  const studio::Watch& watch) override {
    {
      std::unique_lock lock(mutex_);
      std::vector<std::string> words;
      for (const auto& edit : edits) words.push_back(edit.request->instruction);
      batches_.push_back(words);
      wake_.notify_all();
    }
    for (const auto& edit : edits) {
      if (edit.request->instruction == "explode") throw ip2p::Error("unet: expected finite values, found NaN");
      if (edit.request->instruction == "overflow" && edits.size() > 1) throw std::bad_alloc();
    }
    for (std::int64_t step = 1; step <= edits.front().request->steps; ++step) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return allowed_ > 0; });
        if (allowed_ != endless) --allowed_;
      }
      bool any = false;
      for (std::size_t i = 0; i < edits.size(); ++i) {
        if (!watch.wanted(i)) continue;
        any = true;
        ++rows_evaluated;
        watch.step(i, step);
        if (edits[i].request->preview_every > 0) watch.preview(i, picture_of(edits[i]));
      }
      if (!any) throw ip2p::Cancelled("cancelled");
    }
    std::vector<std::optional<studio::Edited>> made(edits.size());
    for (std::size_t i = 0; i < edits.size(); ++i) {
      if (watch.wanted(i)) made[i] = {picture_of(edits[i]), {"", R"({"program": "edit_image", "options": {}})"}};
    }
    return made;
  }

  /// What the result must be.
  static ip2p::Image picture_of(const studio::Edit& edit) {
    ip2p::Image image{2, 2, std::vector<std::uint8_t>(12)};
    image.pixels[0] = static_cast<std::uint8_t>(edit.cell.seed);
    image.pixels[1] = static_cast<std::uint8_t>(edit.cell.text_scale * 10);
    image.pixels[2] = static_cast<std::uint8_t>(edit.cell.image_scale * 10);
    image.pixels[3] = static_cast<std::uint8_t>(edit.request->instruction.size());
    return image;
  }

  /// Lets it do so many steps more than it may already.
  void allow(std::size_t steps) {
    const std::scoped_lock lock(mutex_);
    allowed_ += steps;
    wake_.notify_all();
  }
  void allow_all() {
    const std::scoped_lock lock(mutex_);
    allowed_ = endless;
    wake_.notify_all();
  }
  /// Waits until so many batches have begun, and returns their instructions.
  std::vector<std::vector<std::string>> batches(std::size_t count) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return batches_.size() >= count; });
    return batches_;
  }

  studio::ModelInfo info;
  std::atomic<int> rows_evaluated = 0;

 private:
  static constexpr std::size_t endless = 1 << 30;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::size_t allowed_ = 0;
  std::vector<std::vector<std::string>> batches_;
};

}  // namespace
