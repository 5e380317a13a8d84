// The pipelines whose parts are chosen at run time.
#include "ip2p/pipeline/open_model.hpp"

namespace ip2p {
template struct detail::BranchEvaluation<AnyNetwork, PlainAttention>;
template class BranchNetwork<AnyNetwork, PlainAttention>;
template class LatentPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, DualGuidance>;
template class LatentPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, TextGuidance>;
template class EditPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, DualGuidance>;
template class TextToImagePipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, TextGuidance>;
template class InpaintPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, TextGuidance>;
template at::Tensor Editor::LatentPipeline::denoise(const at::Tensor&, std::span<const double>, Conditioning, AnyNoise&,
                                                    const RunHooks&, const PlainAttention&) const;
template PipelineResult Editor::run(std::span<const Image>, std::span<const std::string>, const RunSettings&, AnyNoise&,
                                    const PlainAttention&) const;
template PipelineResult TextToImage::run(std::span<const std::string>, const RunSettings&, AnyNoise&,
                                         const PlainAttention&) const;
}  // namespace ip2p
