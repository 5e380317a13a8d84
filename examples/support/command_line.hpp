#pragma once

/// \file
/// Options that the programs share: value checks, the model, and how pictures are drawn.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace example {

/// Empty for a finite number, otherwise the error message.
std::string finite_number(const std::string& text);

/// Empty for a scale of guidance that leaves numbers in their range, otherwise the error message.
std::string guidance_scale(const std::string& text);

/// Empty for a number from 0 to 2^64 - 1, otherwise the error message. CLI11 would read -1 as the largest number.
std::string whole_number(const std::string& text);

/// Empty for the name of a picture in a format that can be written, otherwise the error message.
std::string picture_name(const std::string& text);

/// Whether both paths lead to one file; false if either is empty.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

/// The model, what is added to it, the device, and how it is kept in memory.
struct ModelOptions {
  std::filesystem::path model, tokenizer, vae, base;
  std::vector<std::string> loras, embeddings;
  std::string dtype = "auto", device = "auto", variant, prediction_type;
  int threads = 0;
  std::int64_t deep_cache = 1;
  bool low_memory = false, no_ema = false, partial_loras = false;
  bool prompt_marks = false;  ///< Prompts may weight words and name LoRAs; see `add_prompt_marks`.
  std::filesystem::path lora_folder = ".";
  bool graph = false, tf32 = false, fp8 = false, int8 = false, direct_convolution = false;
};

/// How pictures are drawn. Unset options take the model's recommendation, or else the default in the program's help.
struct RunOptions {
  std::filesystem::path out;
  std::string negative_prompt, schedule, noise = "torch", numerics = "released";
  std::uint64_t seed = 42;
  std::optional<std::string> sampler;
  std::optional<std::int64_t> steps, resolution;
  std::optional<double> text_scale, image_scale;
  int quality = 95;
};

void add_device(CLI::App& app, std::string& device);
void add_dtype(CLI::App& app, std::string& dtype);
void add_threads(CLI::App& app, int& threads);

/// The model, what is added to it, and where and how it computes.
void add_model(CLI::App& app, ModelOptions& o);

// The parts of `add_model`, for programs with several models.

/// LoRAs and embeddings. \param of what their values begin with, such as "[NAME=]"
void add_additions(CLI::App& app, ModelOptions& o, const std::string& of = {});
/// Where and how a model computes.
void add_computing(CLI::App& app, ModelOptions& o);
/// What --vae means.
std::string vae_help();
/// Which weights and configurations of a model are read.
void add_weights(CLI::App& app, ModelOptions& o);

/// For programs whose prompts are typed by the user: marks of weight and LoRAs are read in them, unless switched off.
void add_prompt_marks(CLI::App& app, ModelOptions& o);

void add_quality(CLI::App& app, int& quality);

/// \param otherwise the default, as the help states it
void add_schedule(CLI::App& app, std::string& schedule, const std::string& otherwise);

void add_noise(CLI::App& app, std::string& noise);
void add_resolution(CLI::App& app, std::optional<std::int64_t>& resolution);
void add_full_size(CLI::App& app, bool& full_size);

/// \param otherwise the default side, as the help states it
void add_size(CLI::App& app, std::optional<std::int64_t>& width, std::optional<std::int64_t>& height,
              const std::string& otherwise);

void add_image_scale(CLI::App& app, std::optional<double>& scale, const std::string& help);

/// Adds --out too, unless the program has one of its own.
/// \param steps, text_scale, sampler, schedule defaults, as the help states them
void add_run(CLI::App& app, RunOptions& o, const std::string& steps, const std::string& text_scale,
             const std::string& sampler, const std::string& schedule = "log-linear; linear with --numerics diffusers");

}  // namespace example
