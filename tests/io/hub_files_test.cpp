#include "ip2p/io/hub_files.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

using Names = std::set<std::string>;

/// The files of timbrooks/instruct-pix2pix, as far as they matter.
const Names published{"README.md",
                      "feature_extractor/preprocessor_config.json",
                      "instruct-pix2pix-00-22000.ckpt",
                      "instruct-pix2pix-00-22000.safetensors",
                      "model_index.json",
                      "safety_checker/config.json",
                      "safety_checker/model.safetensors",
                      "safety_checker/pytorch_model.bin",
                      "scheduler/scheduler_config.json",
                      "text_encoder/config.json",
                      "text_encoder/model.fp16.safetensors",
                      "text_encoder/model.safetensors",
                      "text_encoder/pytorch_model.bin",
                      "text_encoder/pytorch_model.fp16.bin",
                      "tokenizer/merges.txt",
                      "tokenizer/special_tokens_map.json",
                      "tokenizer/tokenizer_config.json",
                      "tokenizer/vocab.json",
                      "unet/config.json",
                      "unet/diffusion_pytorch_model.bin",
                      "unet/diffusion_pytorch_model.fp16.bin",
                      "unet/diffusion_pytorch_model.fp16.safetensors",
                      "unet/diffusion_pytorch_model.safetensors",
                      "vae/config.json",
                      "vae/diffusion_pytorch_model.bin",
                      "vae/diffusion_pytorch_model.fp16.safetensors",
                      "vae/diffusion_pytorch_model.safetensors"};

Names without(Names names, const std::vector<std::string>& gone) {
  for (const auto& name : gone) REQUIRE(names.erase(name) == 1);
  return names;
}

Names files_of(const Names& names, const std::string& part = "", const ip2p::HubFilesOptions& options = {}) {
  const auto found = ip2p::needed_hub_files(names, part, options);
  CHECK(found.lacking == "");
  const Names files(found.files.begin(), found.files.end());
  CHECK(files.size() == found.files.size());  // each once
  return files;
}

std::string lacking(const Names& names, const std::string& part = "", const ip2p::HubFilesOptions& options = {},
                    const Names& must_have = {}) {
  return ip2p::needed_hub_files(names, part, options, must_have).lacking;
}

const Names plain_weights{"text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
                          "vae/diffusion_pytorch_model.safetensors"};

}  // namespace

TEST_CASE("Of the published model, one copy of the weights and what belongs to it is needed", "[io]") {
  Names expected{"model_index.json",
                 "scheduler/scheduler_config.json",
                 "tokenizer/merges.txt",
                 "tokenizer/special_tokens_map.json",
                 "tokenizer/tokenizer_config.json",
                 "tokenizer/vocab.json",
                 "text_encoder/config.json",
                 "unet/config.json",
                 "vae/config.json"};
  auto full = expected;
  full.insert(plain_weights.begin(), plain_weights.end());
  CHECK(files_of(published) == full);

  auto half = expected;
  for (const char* name : {"text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
                           "vae/diffusion_pytorch_model.fp16.safetensors"}) {
    half.insert(name);
  }
  CHECK(files_of(published, "", {.variant = "fp16"}) == half);
  // Only one variant is there, as after diffusers' variant="fp16".
  CHECK(files_of(without(published, {plain_weights.begin(), plain_weights.end()})) == half);
}

TEST_CASE("Components can be asked for alone", "[io]") {
  CHECK(files_of(published, "", {.components = {"vae"}}) ==
        Names{"model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"});
  CHECK(files_of(published, "", {.components = {"tokenizer"}}) ==
        Names{"tokenizer/merges.txt", "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json",
              "tokenizer/vocab.json"});
  CHECK(files_of(published, "vae") == Names{"vae/config.json", "vae/diffusion_pytorch_model.safetensors"});
  CHECK(files_of(published, "instruct-pix2pix-00-22000.safetensors") == Names{"instruct-pix2pix-00-22000.safetensors"});
  const Names clip{"README.md",         "config.json", "flax_model.msgpack", "merges.txt", "model.safetensors",
                   "pytorch_model.bin", "tf_model.h5", "tokenizer.json",     "vocab.json", "preprocessor_config.json"};
  CHECK(files_of(clip) == Names{"config.json", "model.safetensors", "merges.txt", "tokenizer.json", "vocab.json"});
  CHECK(files_of(clip, "", {.components = {"tokenizer"}}) == Names{"merges.txt", "tokenizer.json", "vocab.json"});
  CHECK(files_of(without(clip, {"model.safetensors"})) ==
        Names{"config.json", "pytorch_model.bin", "merges.txt", "tokenizer.json", "vocab.json"});
  CHECK(files_of({"config.json", "diffusion_pytorch_model.safetensors", "README.md"}, "", {.components = {"vae"}}) ==
        Names{"config.json", "diffusion_pytorch_model.safetensors"});
  CHECK(files_of({"taesd_decoder.safetensors", "taesd_encoder.safetensors", "x.py"}) ==
        Names{"taesd_decoder.safetensors", "taesd_encoder.safetensors"});
  CHECK(files_of({"a/open_clip_model.safetensors", "a/open_clip_config.json", "a/vocab.json", "a/merges.txt", "b"},
                 "a/open_clip_model.safetensors") ==
        Names{"a/open_clip_model.safetensors", "a/open_clip_config.json", "a/vocab.json", "a/merges.txt"});
}

TEST_CASE("Shards are needed with their index, under either spelling of a variant", "[io]") {
  const Names names{"config.json",
                    "model.safetensors.index.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                    "model.safetensors.index.fp16.json",
                    "model.fp16-00001-of-00002.safetensors",
                    "model-00002-of-00002.fp16.safetensors",
                    "model-of-all.safetensors",
                    "model-1-of-2.bin"};
  CHECK(files_of(names) == Names{"config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
                                 "model-00002-of-00002.safetensors"});
  CHECK(files_of(names, "", {.variant = "fp16"}) == Names{"config.json", "model.safetensors.index.fp16.json",
                                                          "model.fp16-00001-of-00002.safetensors",
                                                          "model-00002-of-00002.fp16.safetensors"});
  CHECK(lacking(without(names, {"model-00002-of-00002.safetensors"})) ==
        "shards of 'model.safetensors.index.json' (1 of 2 are there)");
}

TEST_CASE("What is lacking is named", "[io]") {
  CHECK(lacking(without(published, {"vae/diffusion_pytorch_model.fp16.safetensors"}), "", {.variant = "fp16"}) ==
        "fp16 weights in 'vae/', where only plain ones are");
  CHECK(lacking({"unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors",
                 "unet/diffusion_pytorch_model.bf16.safetensors"}) ==
        "weights in 'unet/', where the variants bf16, fp16 are: choose one");
  CHECK(lacking({"model_index.json", "unet/config.json"}) == "weights in 'unet/'");
  CHECK(lacking({"model_index.json", "scheduler/scheduler_config.json"}, "", {}, {"unet"}) == "the folder 'unet'");
  CHECK(lacking(published, "", {}, {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}) == "");
  CHECK(lacking({"unet/config.json", "unet/diffusion_pytorch_model.safetensors"}, "", {.components = {"vae"}}) ==
        "the folder 'vae'");
  CHECK(lacking({"config.json", "model.safetensors"}, "", {}, {"tokenizer"}) == "the files of a tokenizer");
  CHECK(lacking({"config.json"}, "", {.components = {"tokenizer"}}) == "the files of a tokenizer");
  CHECK(lacking({"a.safetensors", "README.md"}) ==
        "model_index.json and config.json; of its single files, name one after the model's name, as in "
        "'/a.safetensors'");
  CHECK(lacking({"README.md"}) == "model_index.json and config.json");
}

TEST_CASE("Names that a server made up lead to no files beside those looked for", "[io]") {
  const Names hostile{"../../etc/passwd",
                      "/etc/passwd",
                      "unet/../../x",
                      "unet/config.json/../../y",
                      "model_index.json",
                      "unet/config.json",
                      "unet/diffusion_pytorch_model.safetensors"};
  CHECK(files_of(hostile) == Names{"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"});
}
