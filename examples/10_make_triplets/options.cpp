#include "options.hpp"

#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>

#include <CLI/CLI.hpp>

#include "support/command_line.hpp"
#include "support/hub.hpp"
#include "support/option_table.hpp"
#include "support/range.hpp"
#include "support/run_record.hpp"

namespace make_triplets {

/// \param parsed called once the command is parsed
static void add_language(CLI::App& app, LanguageOptions& o, std::function<void()> parsed = {}) {
  auto* folder = app.add_option("--model", o.model, "GPT-2 model with its tokenizer: a folder or a name on the Hub")
                     ->type_name("MODEL");
  example::add_download(app);
  auto* url = app.add_option("--url", o.service.url, "base URL of a service with OpenAI's API, up to /v1");
  folder->excludes(url);
  const auto of_service = [&](CLI::Option* option) { option->needs(url); };
  of_service(app.add_option("--service-model", o.service.model, "name of the service's model"));
  of_service(app.add_flag("--chat", o.service.chat, "ask /chat/completions instead of /completions"));
  of_service(app.add_option("--system", o.service.system, "with --chat: system message"));
  of_service(app.add_option("--key-variable", o.service.key_variable,
                            "environment variable that holds the service's API key (default: send no key)"));
  of_service(app.add_option("--connections", o.service.connections, "maximum concurrent requests")
                 ->check(example::range(std::int64_t{1}, std::int64_t{256})));
  of_service(app.add_option("--requests-per-minute", o.service.requests_per_minute, "maximum requests per minute")
                 ->check(example::range(0.0, 1e9)));
  of_service(app.add_option("--extra", o.extra, "JSON object to merge into each request"));
  app.add_option("--temperature", o.sampling.temperature, "sampling temperature")
      ->capture_default_str()
      ->check(example::range(0.0, 1e6));
  app.add_option("--top-p", o.sampling.top_p, "nucleus sampling: probability mass to keep")
      ->capture_default_str()
      ->check(example::range(1e-9, 1.0));
  app.add_option("--frequency-penalty", o.sampling.frequency_penalty, "penalty on tokens already used")
      ->capture_default_str()
      ->check(example::finite_number);
  app.add_option("--max-tokens", o.sampling.max_tokens, "maximum tokens per sample")
      ->capture_default_str()
      ->check(example::range(std::int64_t{1}, std::int64_t{1} << 20));
  app.add_option("--seed", o.sampling.seed, "random seed")->capture_default_str()->check(example::whole_number);
  app.callback([folder, url, parsed = std::move(parsed)] {
    if (folder->count() + url->count() == 0) throw CLI::RequiredError("--model or --url");
    if (parsed) parsed();
  });
}

void add_options(CLI::App& app, Commands& commands) {
  app.footer("Run the same command again to continue; other settings are refused unless you pass --change.");
  app.require_subcommand(1);

  auto& t = commands.train;
  auto* training = commands.training =
      app.add_subcommand("train", "fine-tune a GPT-2, or train one from scratch; every tenth triplet is held out");
  auto* triplets =
      training->add_option("--triplets", t.data, "triplets to train on, as JSON lines")->type_name("FILE")->required();
  example::old_name(*training, triplets, "--data");
  training->add_option("--out", t.out, "folder for the model; created if missing")->type_name("FOLDER")->required();
  auto* from = training->add_option("--model", t.model, "GPT-2 model to start from: a folder or a name on the Hub")
                   ->type_name("MODEL");
  example::add_download(*training);
  auto* nothing = training
                      ->add_option("--tokenizer", t.tokenizer,
                                   "train from scratch, with this tokenizer: a folder or a name on the Hub")
                      ->type_name("MODEL");
  from->excludes(nothing);
  const auto count = example::range(std::int64_t{1}, std::int64_t{1'000'000});
  const auto layers = example::range(std::int64_t{1}, std::int64_t{1000});  // as Gpt2Config
  for (const auto& [name, number, allowed, help] :
       {std::tuple{"--layers", &t.fresh.n_layer, layers, "layers of a new model"},
        std::tuple{"--hidden-size", &t.fresh.n_embd, count, "values per token in a new model"},
        std::tuple{"--heads", &t.fresh.n_head, count, "attention heads of a new model"},
        std::tuple{"--context", &t.fresh.n_positions, count, "context of a new model in tokens"}}) {
    auto* option = training->add_option(name, *number, help)->capture_default_str()->check(allowed)->needs(nothing);
    if (number == &t.fresh.n_embd) example::old_name(*training, option, "--width");
  }
  training->add_option("--lora", t.lora, "train a LoRA of this rank instead of all weights; it is folded in at the end")
      ->check(example::range(std::int64_t{1}, std::int64_t{1024}))
      ->needs(from);
  training->add_option("--epochs", t.epochs, "passes over the data")
      ->capture_default_str()
      ->check(example::range(1e-3, 1e6));
  training->add_option("--batch", t.batch, "triplets per update")->capture_default_str()->check(count);
  training
      ->add_option("--longest", t.longest, "skip triplets with more tokens than this (default: the model's context)")
      ->check(count);
  training->add_option("--rate", t.rate, "peak learning rate")->capture_default_str()->check(example::range(1e-9, 1.0));
  training->add_option("--rename", t.rename, "share of a caption's words to rename, for models trained from scratch")
      ->capture_default_str()
      ->check(example::range(0.0, 1.0));
  training->add_option("--seed", t.seed, "random seed")->capture_default_str()->check(example::whole_number);
  example::add_threads(*training, t.threads);
  example::add_change(*training, t.change);
  training->callback([from, nothing, training, &t] {
    if (from->count() + nothing->count() == 0) throw CLI::RequiredError("--model or --tokenizer");
    t.values = example::option_values(*training);
  });

  auto& g = commands.generate;
  auto* generating = commands.generating = app.add_subcommand("generate", "make triplets from captions");
  generating->add_option("--captions", g.captions, "captions, one per line, plain or as JSON with caption and url")
      ->type_name("FILE")
      ->required();
  generating->add_option("--out", g.out, "JSON lines to write; a journal is kept beside it")
      ->type_name("FILE")
      ->required();
  add_language(*generating, g.language, [generating, &g] { g.values = example::option_values(*generating); });
  example::add_change(*generating, g.change);
  generating->add_option("--tries", g.generator.tries, "samples to try before giving up on a caption")
      ->capture_default_str()
      ->check(count);
  generating->add_option("--batch", g.generator.batch, "captions to ask about at once")
      ->capture_default_str()
      ->check(count);
  generating->add_option("--blocked-words", g.blocked, "file of words, one per line, that no triplet may contain")
      ->type_name("FILE");

  auto& m = commands.measure;
  auto* measuring = commands.measuring =
      app.add_subcommand("measure", "report the quality of samples for the held-out captions");
  auto* measured =
      measuring->add_option("--triplets", m.data, "the triplets that `train` was given")->type_name("FILE")->required();
  example::old_name(*measuring, measured, "--data");
  add_language(*measuring, m.language);
  measuring->add_option("--samples", m.samples, "samples per caption")->capture_default_str()->check(count);
  measuring
      ->add_option("--longest", m.longest,
                   "leave out triplets with more tokens than this, as `train` did (default: the model's context)")
      ->check(count);
}

}  // namespace make_triplets
