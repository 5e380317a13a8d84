// Prompt-to-Prompt as a method of the comparison. In a file of its own, because its pipelines take long to compile.
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include <fmt/format.h>

#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/null_text.hpp"
#include "ip2p/pipeline/prompt_to_prompt.hpp"
#include "methods.hpp"
#include "support/prompt_edit.hpp"

namespace evaluate {

ip2p::EditMethod prompt_to_prompt(Workshop& shop) {
  struct Inverted {
    std::string of;
    ip2p::Inversion inversion;
    at::Tensor null_texts;
  };
  // Every fraction of an edit starts from the same inversion.
  return [&shop, last = std::make_shared<Inverted>()](const ip2p::PreparedEdit& edit, const ip2p::EditSettings& s) {
    const auto model = shop.model(s.text("model"));
    // A copy with the published timesteps, which other methods do not take.
    auto painter = shop.painter(s.text("model"));
    painter.diffusion.schedule = ip2p::ddim_schedule(model->opened.scheduler());
    painter.guidance = {.text_scale = s.number("text-scale")};
    const auto settings = shop.settings(s.count("steps"));
    const auto inner = s.text("null-text-steps") == "0" ? 0 : s.count("null-text-steps");
    const auto of = fmt::format("{} {} {} {} {}", edit.id, s.text("model"), s.text("steps"), inner,
                                inner > 0 ? s.text("text-scale") : "");
    if (last->of != of) {
      last->of.clear();
      last->inversion =
          ip2p::invert(painter, painter.clean_latents(edit.photograph), {&edit.words.input, 1}, {}, settings);
      last->null_texts = at::Tensor();
      if (inner > 0) {
        last->null_texts = ip2p::null_text(painter, last->inversion, {.inner_steps = inner}, settings).texts;
      }
      last->of = of;
    }
    example::PromptEditOptions words;
    words.source = edit.words.input;
    words.edited = {edit.words.output};
    words.cross = s.number("fraction");
    words.self = s.number("self");
    const auto change = example::prompt_edit(words, model->opened);
    const auto result = ip2p::prompt_to_prompt(painter, last->inversion, last->null_texts, change.prompts,
                                               change.attention, {}, settings);
    return decoded(painter, result.latents.narrow(0, 1, 1));
  };
}

}  // namespace evaluate
