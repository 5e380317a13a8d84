#include "loss_plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "ip2p/io/image.hpp"

namespace example {
namespace {

/// Draws on an RGB picture; coordinates outside are ignored.
class Canvas {
 public:
  Canvas(std::int64_t width, std::int64_t height) {
    image_.width = width;
    image_.height = height;
    image_.pixels.assign(static_cast<std::size_t>(width * height * 3), 255);
  }

  void dot(std::int64_t x, std::int64_t y, std::array<std::uint8_t, 3> colour) {
    if (x < 0 || y < 0 || x >= image_.width || y >= image_.height) return;
    std::copy(colour.begin(), colour.end(), image_.pixels.begin() + (y * image_.width + x) * 3);
  }

  void line(double x0, double y0, double x1, double y1, std::array<std::uint8_t, 3> colour) {
    const auto count = static_cast<std::int64_t>(std::ceil(std::max({1.0, std::abs(x1 - x0), std::abs(y1 - y0)})));
    for (std::int64_t i = 0; i <= count; ++i) {
      const double share = static_cast<double>(i) / static_cast<double>(count);
      dot(std::lround(x0 + (x1 - x0) * share), std::lround(y0 + (y1 - y0) * share), colour);
    }
  }

  /// Digits, point and minus in a 3x5 raster, each pixel doubled; 8 pixels a character.
  void number(std::int64_t x, std::int64_t y, std::string_view text) {
    static constexpr std::array<std::uint16_t, 12> glyphs{0x7b6f, 0x2c97, 0x73e7, 0x73cf, 0x5bc9, 0x79cf,
                                                          0x79ef, 0x7249, 0x7bef, 0x7bcf, 0x0002, 0x01c0};
    for (const char c : text) {
      const auto glyph = glyphs[c == '.' ? 10 : c == '-' ? 11 : static_cast<std::size_t>((c - '0' + 10) % 10)];
      for (int bit = 0; bit < 15; ++bit) {
        if ((glyph >> (14 - bit) & 1) == 0) continue;
        for (int k = 0; k < 4; ++k) dot(x + 2 * (bit % 3) + k % 2, y + 2 * (bit / 3) + k / 2, {60, 60, 60});
      }
      x += 8;
    }
  }

  [[nodiscard]] const ip2p::Image& image() const { return image_; }

 private:
  ip2p::Image image_;
};

}  // namespace

void plot_loss(const std::filesystem::path& path, const std::vector<ip2p::LossPoint>& points) {
  std::vector<ip2p::LossPoint> shown;
  for (const auto& point : points) {
    if (std::isfinite(point.loss) && point.loss > 0) shown.push_back(point);
  }
  if (shown.size() < 2) return;
  constexpr double left = 70, right = 780, top = 20, bottom = 360;
  std::vector<double> losses;
  for (const auto& point : shown) losses.push_back(point.loss);
  std::sort(losses.begin(), losses.end());
  const double low = std::log10(losses[losses.size() / 200]) - 0.02;
  const double high = std::max(low + 0.1, std::log10(losses[losses.size() - 1 - losses.size() / 200]) + 0.02);
  const auto first = static_cast<double>(shown.front().step);
  const double span = std::max(1.0, static_cast<double>(shown.back().step) - first);
  const auto x_of = [&](double step) { return left + (step - first) / span * (right - left); };
  const auto y_of = [&](double loss) {
    return bottom - (std::clamp(std::log10(loss), low, high) - low) / (high - low) * (bottom - top);
  };

  Canvas canvas(800, 400);
  for (int decade = static_cast<int>(std::floor(low)); decade <= static_cast<int>(std::ceil(high)); ++decade) {
    for (const int mantissa : {1, 2, 3, 5}) {
      const double value = mantissa * std::pow(10.0, decade);
      if (std::log10(value) < low || std::log10(value) > high) continue;
      canvas.line(left, y_of(value), right, y_of(value), {220, 220, 220});
      const auto text = fmt::format("{:g}", value);
      canvas.number(static_cast<std::int64_t>(left) - 8 - 8 * static_cast<std::int64_t>(text.size()),
                    std::lround(y_of(value)) - 5, text);
    }
  }
  for (int i = 0; i <= 4; ++i) {
    const double step = first + span * i / 4;
    canvas.line(x_of(step), bottom, x_of(step), bottom + 5, {60, 60, 60});
    const auto text = fmt::format("{:.0f}", step);
    canvas.number(std::lround(x_of(step)) - 4 * static_cast<std::int64_t>(text.size()), 372, text);
  }
  canvas.line(left, bottom, right, bottom, {60, 60, 60});
  canvas.line(left, top, left, bottom, {60, 60, 60});
  for (const auto& point : shown) {
    canvas.dot(std::lround(x_of(static_cast<double>(point.step))), std::lround(y_of(point.loss)), {170, 190, 230});
  }
  const auto window = std::max<std::size_t>(1, shown.size() / 50);
  double sum = 0.0;
  double previous = 0.0;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    sum += shown[i].loss;
    if (i >= window) sum -= shown[i - window].loss;
    const double mean = sum / static_cast<double>(std::min(i + 1, window));
    if (i > 0) {
      const double x0 = x_of(static_cast<double>(shown[i - 1].step));
      const double x1 = x_of(static_cast<double>(shown[i].step));
      for (const double shift : {0.0, 1.0})
        canvas.line(x0, y_of(previous) + shift, x1, y_of(mean) + shift, {20, 50, 130});
    }
    previous = mean;
  }
  ip2p::write_image(path, canvas.image());
}

}  // namespace example
