// Edits a photograph by a written instruction, with a published InstructPix2Pix model or one of your own.
//
//   edit_image --model instruct-pix2pix --image in.jpg --prompt "make it snowy" --out out.png

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "interrupt.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/unet/unet.hpp"
#include "loaded_model.hpp"
#include "options.hpp"
#include "progress_bar.hpp"

namespace edit_image {
namespace {

using ip2p::require;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Fails before the work rather than after it.
void check_folders(const Options& o) {
  for (const auto* path : {&o.out, &o.compare, &o.save_latents}) {
    if (path->empty()) continue;
    const auto folder = path->has_parent_path() ? path->parent_path() : std::filesystem::path(".");
    require(std::filesystem::is_directory(folder), "{}: expected a folder to write into, found none", folder.string());
    require(access(folder.c_str(), W_OK) == 0, "{}: no permission to write into this folder", folder.string());
    require(!std::filesystem::is_directory(*path), "{}: expected the name of a file, found a folder", path->string());
  }
}

/// Start noise of --latents.
at::Tensor read_latents(const std::filesystem::path& path) {
  const auto file = ip2p::SafetensorsFile::open(path);
  const auto names = file.names();
  const auto holds = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  require(holds("start_noise") || holds("latents"), "{}: expected a tensor 'latents', found {}", path.string(),
          fmt::join(names, ", "));
  const auto stored = file.tensor(holds("start_noise") ? "start_noise" : "latents");
  require(stored.is_floating_point() && stored.dim() == 4,
          "{}: latents: expected floating-point numbers [1,4,h,w], found {} {}", path.string(),
          at::toString(stored.scalar_type()), ip2p::shape_text(stored.sizes()));
  auto latents = stored.to(at::kFloat);
  require(at::isfinite(latents).all().item<bool>(), "{}: latents: expected finite numbers, found NaN or infinity",
          path.string());
  const double deviation = latents.numel() > 1 ? latents.std().item<double>() : 1.0;
  require(deviation > 0.5 && deviation < 2,
          "{}: latents: expected noise of unit variance (before it is scaled by sigma), found a standard deviation of "
          "{:.3g}",
          path.string(), deviation);
  return latents;
}

/// Says how the prompt reads as tokens, and what of it does not fit.
void report_prompt(const ip2p::BpeTokenizer& tokenizer, std::string_view name, const std::string& prompt) {
  const auto tokens = tokenizer.encode(prompt);
  fmt::print("{}: {} token{}\n", name, tokens.count, tokens.count == 1 ? "" : "s");
  if (tokens.truncated) {
    fmt::print(stderr, "warning: {}: only the first {} of {} tokens count; dropped: \"{}\"\n", name,
               tokenizer.max_length() - 2, tokens.count, tokens.dropped);
  }
}

std::string gibibytes(double bytes) { return fmt::format("{:.2f} GiB", bytes / (1 << 30)); }

void report_memory(at::Device device) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  fmt::print("peak memory: {}", gibibytes(static_cast<double>(usage.ru_maxrss) * 1024));
  if (device.is_cuda()) {
    const auto stats = at::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    const auto total = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    fmt::print(", {} on {}", gibibytes(static_cast<double>(stats.reserved_bytes[total].peak)), device.str());
  }
  fmt::print("\n");
}

/// Number of network evaluations of a step; branches of zero weight are left out.
std::string describe_guidance(const ip2p::DualGuidance& guidance) {
  int evaluations = 0;
  for (const double weight : guidance.weights({})) evaluations += weight != 0;
  return fmt::format("image scale {:g}, text scale {:g}, {} evaluation{} a step{}", guidance.image_scale,
                     guidance.text_scale, evaluations, evaluations == 1 ? "" : "s",
                     evaluations == 1 ? " (both scales are 1: guidance is off)" : "");
}

/// `before` and `after` [1,3,H,W] in [-1,1], side by side with a white gap.
ip2p::Image side_by_side(const at::Tensor& before, const ip2p::Image& after) {
  const auto left = before[0].add(1).mul(127.5).round().clamp(0, 255).to(at::kByte);
  const auto gap = at::full({3, left.size(1), 8}, 255, left.options());
  return ip2p::from_tensor(at::cat({left, gap, ip2p::to_tensor(after)}, 2));
}

/// Files of a run: all of them, or none.
class Outputs {
 public:
  template <class Write>
  void add(const std::filesystem::path& path, Write&& write) {
    write();
    written_.push_back(path);
  }
  void keep() { written_.clear(); }
  Outputs() = default;
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  ~Outputs() {
    std::error_code ignored;
    for (const auto& path : written_) std::filesystem::remove(path, ignored);
  }

 private:
  std::vector<std::filesystem::path> written_;
};

int run(Options o, const Interrupt& interrupt) {
  if (o.threads > 0) at::set_num_threads(o.threads);
  check_folders(o);
  const auto device = ip2p::parse_device(o.device);
  const auto dtype = ip2p::parse_dtype(o.dtype, device);
  const auto photo = ip2p::read_image(o.image, {.apply_exif = !o.ignore_exif});
  const auto numerics = o.numerics_policy();
  at::Tensor given;
  if (!o.latents.empty()) given = read_latents(o.latents);

  const auto begin = Clock::now();
  const auto files = ip2p::ModelFiles::open(
      o.model, {.prefer_ema = !o.no_ema,
                .variant = o.variant,
                .tokenizer = o.tokenizer,
                .prediction_type = o.prediction_type,
                .weights = {.access = o.low_memory ? ip2p::WeightAccess::copied : ip2p::WeightAccess::mapped}});
  complete(o, files.settings());
  const auto size = ip2p::edit_size(photo.width, photo.height, o.resolution, numerics);
  fmt::print("model: {}\nphoto: {}, {}x{}, edited at {}x{}\n", files.describe(), o.image.string(), photo.width,
             photo.height, size.width, size.height);
  const auto scheduler = files.has("scheduler")
                             ? ip2p::scheduler_config_from_json(files.config("scheduler"), "scheduler")
                             : ip2p::SchedulerConfig{};
  const auto schedule = o.schedule.empty() ? ip2p::default_schedule(numerics, scheduler)
                                           : ip2p::AnySchedule::named(o.schedule, scheduler);
  const auto sampler = ip2p::AnySampler::named(*o.sampler);
  const ip2p::DualGuidance guidance{.image_scale = *o.image_scale, .text_scale = *o.text_scale};

  const auto at = files.tokenizer();
  const auto tokenizer = ip2p::BpeTokenizer::open(at.vocab, at.merges, at.config, at.special_tokens,
                                                  {.invalid_utf8 = ip2p::InvalidUtf8::error});
  report_prompt(tokenizer, "prompt", o.prompt);
  if (!o.negative_prompt.empty()) report_prompt(tokenizer, "negative prompt", o.negative_prompt);
  fmt::print("{} steps of {} over {}; {}; {} on {}\n", *o.steps, sampler.name(), schedule.name(),
             describe_guidance(guidance),
             dtype == at::kFloat  ? "fp32"
             : dtype == at::kHalf ? "fp16"
                                  : "bf16",
             device.str());
  std::fflush(stdout);

  // Without fast 16-bit arithmetic, fp32 over weights of 16 bits: half the memory, nearly the same picture.
  const ip2p::LoadOptions load{
      .device = device,
      .dtype = dtype,
      .storage = o.low_memory && dtype == at::kFloat ? std::optional(at::kHalf) : std::nullopt};
  ip2p::EditPipeline edit{AnyTextEncoder(files, load, o.low_memory),
                          AnyCodec(files, load, o.low_memory),
                          ip2p::load<ip2p::UNet>(files, load),
                          sampler,
                          guidance,
                          scheduler};
  const double load_seconds = seconds_since(begin);

  ip2p::EditOptions options{.steps = *o.steps,
                            .seed = o.seed,
                            .negative_prompt = o.negative_prompt,
                            .resolution = o.resolution,
                            .numerics = numerics,
                            .latents = given};
  ip2p::TorchNoise noise(o.seed);
  const auto edit_begin = Clock::now();
  const auto before = edit.prepare({&photo, 1}, options);
  at::Tensor latents;
  {
    ProgressBar bar(stderr);
    options.hooks.stop = interrupt.token();
    options.hooks.on_step = [&bar](const ip2p::Step& step, const at::Tensor&) { bar(step); };
    latents = edit.sample(before, {&o.prompt, 1}, options, schedule, noise).to(at::kCPU);
  }
  const auto after = edit.decode(latents, numerics).front();
  const double edit_seconds = seconds_since(edit_begin);
  if (interrupt.token().stop_requested()) throw ip2p::Cancelled("cancelled before the picture was written");

  Outputs outputs;
  if (!o.save_latents.empty()) {
    outputs.add(o.save_latents, [&] {
      const auto start = given.defined() ? given : ip2p::TorchNoise(o.seed).normal(latents.sizes(), 0);
      ip2p::write_safetensors(o.save_latents, {{"latents", latents.contiguous()}, {"start_noise", start.contiguous()}},
                              {{"seed", std::to_string(o.seed)},
                               {"steps", std::to_string(*o.steps)},
                               {"sampler", std::string(sampler.name())},
                               {"schedule", std::string(schedule.name())},
                               {"numerics", o.numerics},
                               {"scaling_factor", fmt::format("{}", edit.codec().scaling_factor())}});
    });
  }
  if (!o.compare.empty()) {
    outputs.add(o.compare, [&] { ip2p::write_image(o.compare, side_by_side(before, after), o.quality); });
  }
  outputs.add(o.out, [&] { ip2p::write_image(o.out, after, o.quality); });
  outputs.keep();

  fmt::print("time: {:.1f} s to load, {:.1f} s to edit\n", load_seconds, edit_seconds);
  report_memory(device);
  if (!o.save_latents.empty()) fmt::print("latents: {}\n", o.save_latents.string());
  if (!o.compare.empty()) fmt::print("side by side: {}\n", o.compare.string());
  fmt::print("{}\n", o.out.string());
  return 0;
}

}  // namespace
}  // namespace edit_image

int main(int argc, char** argv) {
  CLI::App app{"Edits a photograph by a written instruction (InstructPix2Pix)."};
  edit_image::Options options;
  edit_image::add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }

  const auto report = [](std::string_view message) {
    std::fflush(stdout);
    fmt::print(stderr, "edit_image: {}\n", message);
    return 1;
  };
  constexpr std::string_view memory_advice =
      "out of memory: use --low-memory, a smaller --resolution or --dtype bf16; nothing was written";
  try {
    const edit_image::Interrupt interrupt;
    return edit_image::run(options, interrupt);
  } catch (const ip2p::Cancelled& cancelled) {
    report(fmt::format("{}; nothing was written", cancelled.what()));
    return 130;
  } catch (const ip2p::Error& error) {
    return report(error.what());
  } catch (const std::bad_alloc&) {
    return report(memory_advice);
  } catch (const c10::OutOfMemoryError&) {
    return report(memory_advice);
  } catch (const c10::Error& error) {
    const std::string_view what = error.what_without_backtrace();
    return report(what.find("allocate memory") != what.npos ? memory_advice : what);
  } catch (const std::exception& error) {
    return report(error.what());
  }
}
