#pragma once

/// \file
/// The editor that a model's files make.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "editor.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "options.hpp"

namespace studio {

/// Edits with an InstructPix2Pix model.
class ModelEditor final : public Editor {
 public:
  /// Opens the model and prints what it holds. \throws ip2p::Error for one that cannot be opened, or is no editor
  explicit ModelEditor(const Options& options);

  [[nodiscard]] const ModelInfo& model() const override { return info_; }
  [[nodiscard]] std::shared_ptr<const Photograph> read(std::string_view image, std::optional<std::string_view> mask,
                                                       MaskForm form, bool full_size) const override;
  [[nodiscard]] std::vector<std::optional<Edited>> edit(std::span<const Edit> edits, const Watch& watch) override;
  [[nodiscard]] std::int64_t tokens(const std::string& text) const override;

 private:
  /// Texts that were encoded, the latest first.
  using Encoded = std::list<std::pair<std::pair<std::string, std::string>, ip2p::Conditioning>>;

  /// The pipeline with the settings of these edits, which share them.
  [[nodiscard]] ip2p::Editor configured(const Edit& edit) const;
  /// The instruction's encoding, which jobs with equal words share.
  [[nodiscard]] ip2p::Conditioning encode(const std::string& instruction, const std::string& negative);
  /// A result from its latents, at the size that was asked for.
  [[nodiscard]] Edited finished(const ip2p::Editor& edit, const Edit& job, const ip2p::RunSettings& settings,
                                const at::Tensor& latents) const;

  Options options_;
  ip2p::OpenedModel opened_;
  ip2p::Editor editor_;
  std::optional<std::int64_t> resolution_;
  ModelInfo info_;
  Encoded encoded_;
};

}  // namespace studio
