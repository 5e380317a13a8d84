#pragma once

/// \file
/// What the service needs of an editor of photographs.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "edit_request.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/io/picture_settings.hpp"
#include "model_info.hpp"

namespace studio {

/// A photograph that was read, with its mask, as the editor keeps it while it is needed.
class Photograph {
 public:
  Photograph() = default;
  Photograph(const Photograph&) = delete;
  Photograph& operator=(const Photograph&) = delete;
  virtual ~Photograph() = default;

  [[nodiscard]] virtual std::int64_t width() const = 0;   ///< At which it is edited.
  [[nodiscard]] virtual std::int64_t height() const = 0;  ///< At which it is edited.
  [[nodiscard]] virtual std::size_t bytes() const = 0;    ///< Of memory that it takes.
};

/// One edit.
struct Edit {
  std::shared_ptr<const Photograph> photograph;
  const EditRequest* request = nullptr;
  Cell cell;
};

/// What became of it.
struct Edited {
  ip2p::Image picture;
  ip2p::PictureSettings settings;  ///< How it was made.
};

/// What is done while edits run. The number is that of the edit.
struct Watch {
  std::function<bool(std::size_t)> wanted = {};              ///< Asked before each step.
  std::function<void(std::size_t, std::int64_t)> step = {};  ///< After each step, with the number of steps done.
  std::function<void(std::size_t, const ip2p::Image&)> preview = {};  ///< What the result looks like so far.
};

/// How a mask says where to edit.
enum class MaskForm {
  brightness,   ///< White is changed.
  transparency  ///< What is clear is changed, as in OpenAI's interface.
};

/// Edits photographs. `read` and `model` are called from any thread, `edit` from one at a time.
class Editor {
 public:
  Editor() = default;
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;
  virtual ~Editor() = default;

  [[nodiscard]] virtual const ModelInfo& model() const = 0;

  /// Reads a photograph and its mask, if there is one. \throws Fault, ip2p::Error for what is no picture
  [[nodiscard]] virtual std::shared_ptr<const Photograph> read(std::string_view image,
                                                               std::optional<std::string_view> mask, MaskForm form,
                                                               bool full_size) const = 0;

  /// Edits whose photographs, steps, samplers, schedules, scales and negative texts allow it (`same_batch`), together.
  /// Each result is the one that it would be alone. \return nothing for what is not wanted any more
  /// \throws ip2p::Cancelled where nothing is; ip2p::Error, or any other exception, for all of them
  [[nodiscard]] virtual std::vector<std::optional<Edited>> edit(std::span<const Edit> edits, const Watch& watch) = 0;

  /// Words of the text that count, as the model counts them.
  [[nodiscard]] virtual std::int64_t tokens(const std::string& text) const = 0;
};

/// Whether two edits may be computed together.
inline bool same_batch(const Edit& a, const Edit& b) {
  return a.photograph->width() == b.photograph->width() && a.photograph->height() == b.photograph->height() &&
         a.request->steps == b.request->steps && a.request->sampler == b.request->sampler &&
         a.request->schedule == b.request->schedule && a.request->negative == b.request->negative &&
         a.cell.text_scale == b.cell.text_scale && a.cell.image_scale == b.cell.image_scale;
}

}  // namespace studio
