#include "options.hpp"

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "ip2p/train/any_learning_rate.hpp"
#include "support/command_line.hpp"
#include "support/hub.hpp"
#include "support/one_of.hpp"
#include "support/option_table.hpp"
#include "support/range.hpp"
#include "support/run_record.hpp"

namespace train_editor {

void add_options(CLI::App& app, Options& o) {
  const auto number = [](double least, double most) { return example::range(least, most); };
  const auto count = [](std::int64_t least) { return example::range(least, std::int64_t{1'000'000'000}); };
  const auto group = [&app](const char* name) { return app.add_option_group(name); };
  app.footer(
      "Defaults are those of the published run (10,000 updates of 1024 pairs at 256 pixels). Use torchrun or srun for "
      "several processes. Run the same command again to continue an interrupted run; other settings are refused unless "
      "you pass --change.");
  app.callback([&app, &o] {
    o.configuration = app.config_to_str(true);
    o.values = example::option_values(app);
  });

  auto* what = group("What is trained");
  what->add_option(
          "--model", o.model,
          "model to start from: Stable Diffusion (4 input channels, widened to 8) or an editor (8); a folder, a "
          ".safetensors file or a name on the Hugging Face Hub")
      ->type_name("MODEL")
      ->required();
  example::add_download(*what);
  auto* pairs = what->add_option("--pairs", o.data,
                                 "training pairs: the published layout (seeds.json), shards (shards.json) or an image "
                                 "folder (metadata.jsonl)")
                    ->type_name("FOLDER")
                    ->required();
  example::old_name(*what, pairs, "--data");
  what->add_option("--out", o.out, "folder for checkpoints, loss curve, samples and the trained model")
      ->type_name("FOLDER")
      ->required();
  what->add_flag("--scan", o.scan, "list the folder of pairs instead of reading seeds.json");
  what->add_flag("--dry-run", o.dry_run, "print the plan and its memory use, then exit")->configurable(false);
  example::add_change(*what, o.change);
  example::add_device(*what, o.device);
  example::add_dtype(*what, o.dtype);
  example::add_threads(*what, o.threads);
  what->add_option("--workers", o.workers, "threads that prepare batches in advance")
      ->capture_default_str()
      ->check(example::range(0, 256));

  auto* pictures = group("Pictures");
  const auto side = example::range(std::int64_t{8}, std::int64_t{65536});
  auto* crop = pictures->add_option("--resolution", o.augmentation.crop, "side of the square crops in pixels")
                   ->capture_default_str()
                   ->check(side);
  example::old_name(*pictures, crop, "--crop");
  pictures
      ->add_option("--resize-smallest", o.augmentation.smallest, "minimum length of the shorter side after resizing")
      ->capture_default_str()
      ->check(side);
  pictures->add_option("--resize-largest", o.augmentation.largest, "maximum length of the shorter side after resizing")
      ->capture_default_str()
      ->check(side);
  pictures
      ->add_option(
          "--resize-shape", o.shape,
          "kept: keep the aspect ratio; square: resize both sides to the same length, as the released program does")
      ->capture_default_str()
      ->check(CLI::IsMember({"kept", "square"}));
  pictures->add_option("--mirror", o.augmentation.mirror, "share of pairs to mirror")
      ->capture_default_str()
      ->check(number(0, 1));
  pictures
      ->add_option("--cache", o.cache,
                   "cache latents and texts in this folder: each pair is encoded once, from its centre crop")
      ->type_name("FOLDER");

  auto* step = group("The step");
  step->add_option("--steps", o.steps, "number of updates")->capture_default_str()->check(count(1));
  step->add_option("--batch", o.batch, "samples per update, over all processes")
      ->capture_default_str()
      ->check(count(1));
  step->add_option("--micro-batch", o.micro_batch, "maximum samples that a process computes at once")
      ->capture_default_str()
      ->check(count(1));
  step->add_option("--optimiser", o.optimiser, "how gradients change the weights; adafactor needs less memory")
      ->capture_default_str()
      ->check(CLI::IsMember({"adamw", "adafactor"}));
  step->add_option("--rate", o.rate, "learning rate")->capture_default_str()->check(number(1e-12, 10));
  auto* schedule = step->add_option("--lr-schedule", o.schedule, "learning-rate schedule")
                       ->capture_default_str()
                       ->check(example::one_of(ip2p::AnyLearningRate::names()));
  example::old_name(*step, schedule, "--schedule");
  step->add_option("--warmup", o.warmup, "updates over which the learning rate rises linearly")
      ->capture_default_str()
      ->check(count(0));
  step->add_option("--weight-decay", o.weight_decay, "how strongly weights are pulled towards 0")
      ->capture_default_str()
      ->check(number(0, 1));
  auto* norm = step->add_option("--max-grad-norm", o.clip, "maximum gradient norm, 0 for no clipping")
                   ->capture_default_str()
                   ->check(number(0, 1e9));
  example::old_name(*step, norm, "--clip");
  step->add_option("--ema", o.ema, "decay of the averaged weights")
      ->capture_default_str()
      ->check(number(0, 0.999999999));
  step->add_option("--loss-weight", o.weight, "how to weight timesteps")
      ->capture_default_str()
      ->check(CLI::IsMember({"uniform", "min-snr"}));
  step->add_option("--min-snr-gamma", o.min_snr_gamma, "gamma of --loss-weight min-snr")
      ->capture_default_str()
      ->check(number(1e-6, 1e6));
  auto* prediction = step->add_option("--prediction-type", o.prediction,
                                      "what the network predicts; scheduler: as the model's scheduler says")
                         ->capture_default_str()
                         ->check(CLI::IsMember({"scheduler", "epsilon", "v_prediction", "sample"}));
  example::old_name(*step, prediction, "--prediction");
  step->add_option("--drop-text", o.dropout.text, "share of samples that drop the text")
      ->capture_default_str()
      ->check(number(0, 1));
  step->add_option("--drop-both", o.dropout.both, "share of samples that drop both text and picture")
      ->capture_default_str()
      ->check(number(0, 1));
  step->add_option("--drop-image", o.dropout.image, "share of samples that drop the picture")
      ->capture_default_str()
      ->check(number(0, 1));
  step->add_option("--seed", o.seed, "random seed")->capture_default_str()->check(example::whole_number);
  step->add_flag("--gradient-checkpointing", o.checkpoint_gradients, "recompute activations instead of storing them");
  step->add_flag("--direct-convolution", o.direct_convolution,
                 "CPU: do not use Winograd's filtering, which is faster but rounds a little more");
  step->add_flag("--shard-state", o.shard_state, "split optimiser state and averages across processes");
  step->add_option("--lora-rank", o.lora_rank, "train a LoRA of this rank instead of the whole network, 0 for none")
      ->capture_default_str()
      ->check(count(0));
  step->add_option("--lora-alpha", o.lora_alpha, "alpha of the LoRA")->capture_default_str()->check(number(1e-6, 1e6));

  auto* kept = group("What is kept and shown");
  kept->add_option("--checkpoint-every", o.checkpoint_every, "updates between checkpoints")
      ->capture_default_str()
      ->check(count(1));
  auto* keep = kept->add_option("--keep-checkpoints", o.keep, "number of checkpoints to keep")
                   ->capture_default_str()
                   ->check(count(1));
  example::old_name(*kept, keep, "--keep");
  kept->add_option("--log-every", o.log_every, "updates between log lines")->capture_default_str()->check(count(1));
  kept->add_option("--sample-every", o.sample_every, "updates between sample sheets, 0 for none")
      ->capture_default_str()
      ->check(count(0));
  kept->add_option("--samples", o.samples, "number of pairs on a sample sheet")->capture_default_str()->check(count(1));
  kept->add_option("--sample-steps", o.sample_steps, "sampling steps of the samples")
      ->capture_default_str()
      ->check(count(1));
  kept->add_option("--image-scale", o.image_scale, "image scale of the samples")
      ->capture_default_str()
      ->check(number(0, 100));
  kept->add_option("--text-scale", o.text_scale, "text scale of the samples")
      ->capture_default_str()
      ->check(number(0, 100));
}

}  // namespace train_editor
