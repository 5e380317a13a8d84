// Trains an instruction-following editor on pairs of pictures: from Stable Diffusion or from an editor, whole or as a
// LoRA, in one process or in several started by torchrun or Slurm. The defaults are those of the published run.
//
//   train_editor --model stable-diffusion-v1-5 --data clip-filtered-dataset --out training --dtype bf16
//   torchrun --nproc-per-node 8 --no-python train_editor --config paper.toml

#include <ATen/Parallel.h>

#include <utility>

#include "options.hpp"
#include "support/program.hpp"
#include "train.hpp"

int main(int argc, char** argv) {
  train_editor::Options o;
  return example::run_program(
      argc, argv, "train_editor", "Trains an instruction-following editor on pairs of pictures.",
      [&](CLI::App& app) { train_editor::add_options(app, o); },
      [&](const example::Interrupt& interrupt) {
        if (o.threads > 0) at::set_num_threads(o.threads);
        return train_editor::train(std::move(o), interrupt);
      });
}
