#include "samples.hpp"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "ip2p/data/augment.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "support/labels.hpp"

namespace train_editor {

void write_samples(const Options& o, std::int64_t step, const EditorParts& parts,
                   const ip2p::AnyPicturePairs& held_out) {
  const at::NoGradGuard no_grad;
  const ip2p::EditPipeline pipeline{parts.text,
                                    parts.codec,
                                    parts.unet,
                                    ip2p::diffusion_of(parts.scheduler, ip2p::Numerics::diffusers),
                                    ip2p::EulerAncestral{},
                                    ip2p::DualGuidance{o.image_scale, o.text_scale}};
  example::Sheet sheet;
  sheet.title = fmt::format("step {}, {} sampling steps, image scale {:g}, text scale {:g}", step, o.sample_steps,
                            o.image_scale, o.text_scale);
  sheet.columns = {"before", "after", "edited"};
  for (std::int64_t i = 0; i < std::min(o.samples, held_out.size()); ++i) {
    ip2p::SampleRandom random(o.seed, 0, static_cast<std::uint64_t>(i));
    const auto pair = held_out.get(i, random);
    const auto square = [&](const ip2p::Image& picture) {
      return ip2p::tensor_to_images(ip2p::centre_crop(picture, o.augmentation.crop).unsqueeze(0),
                                    ip2p::Rounding::nearest)
          .front();
    };
    const ip2p::RunSettings settings{
        .steps = o.sample_steps, .seed = o.seed + static_cast<std::uint64_t>(i), .numerics = ip2p::Numerics::diffusers};
    const auto before = square(pair.before);
    sheet.rows.push_back(fmt::format("\"{}\", seed {}", pair.instruction, settings.seed));
    sheet.pictures.push_back({before, square(pair.after), pipeline(before, pair.instruction, settings)});
  }
  ip2p::make_folder(o.out / "samples");
  ip2p::write_image(o.out / "samples" / fmt::format("step_{:06}.png", step), example::draw(sheet));
}

}  // namespace train_editor
