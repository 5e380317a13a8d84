#include "model.hpp"

#include "ip2p/pipeline/load_codec.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/train/editor_unet.hpp"
#include "ip2p/train/export.hpp"

namespace train_editor {

ip2p::AnyCodec open_codec(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options) {
  return ip2p::load_codec(files, options);
}

TextEncoder open_text_encoder(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options,
                              const ip2p::CachedTextOptions& kept) {
  return TextEncoder(ip2p::load<ip2p::ClipTextEncoder>(files, options), kept);
}

ip2p::UNet open_unet(const ip2p::ModelFiles& files) { return ip2p::load_editor_unet(files); }

void write_model(const std::filesystem::path& folder, const ip2p::ModelFiles& files, const ip2p::UNet& unet,
                 const ip2p::SchedulerConfig& scheduler) {
  const auto vocabulary = files.tokenizer().vocab;
  auto settings = files.settings();
  settings.erase("knows");  // it has learned other edits
  ip2p::with_codec_of(files, [&]<class Codec>() {
    ip2p::save_model(folder, unet, ip2p::load<Codec>(files, {.inference = false}),
                     ip2p::load<ip2p::ClipTextModel>(files, {.inference = false}),
                     {.scheduler = scheduler, .tokenizer = vocabulary.parent_path(), .settings = settings});
  });
}

}  // namespace train_editor
