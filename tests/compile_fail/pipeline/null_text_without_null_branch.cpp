// expect-error: ip2p: null_text needs a pipeline whose guidance has a branch without text
#include <ip2p/guidance/no_guidance.hpp>
#include <ip2p/guidance/text_guidance.hpp>
#include <ip2p/pipeline/null_text.hpp>

namespace null_text_without_null_branch {

struct Network {
  at::Device device() const;
  ip2p::TimeProjections project_time(const at::Tensor& timesteps) const;
  ip2p::ContextProjections project_context(const at::Tensor& context) const;
  at::Tensor operator()(const at::Tensor& x, const ip2p::TimeProjections& times, const ip2p::ContextProjections& texts,
                        const ip2p::PlainAttention& attention, const ip2p::Step& step) const;
};

struct Pipeline {
#ifdef IP2P_CORRECTED
  ip2p::TextGuidance guidance;
#else
  ip2p::NoGuidance guidance;
#endif
  ip2p::Diffusion<ip2p::LinearSigmas, ip2p::EpsPrediction> diffusion;
  const Network& unet() const;
  ip2p::Conditioning encode_text(std::span<const std::string> prompts, const std::string& negative) const;
};

ip2p::NullText use(Pipeline& pipeline, const ip2p::Inversion& inversion) {
  return ip2p::null_text(pipeline, inversion);
}

}  // namespace null_text_without_null_branch
