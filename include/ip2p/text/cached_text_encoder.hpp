#pragma once

/// \file
/// A caching text encoder, for training with a frozen encoder.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/safetensors_header.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/text/concepts.hpp"

namespace ip2p {

/// Settings of `CachedTextEncoder`.
struct CachedTextOptions {
  std::size_t most_bytes = std::size_t{1} << 30;  ///< Memory limit; the least recently used prompts are dropped first.
  std::filesystem::path folder{};  ///< Also cache on disk here, one file per prompt; created if missing. Empty: do not.
  std::string encoder{};           ///< Identifies the encoder, e.g. its `weights_checksum`; required with a folder.
};

/// Encodes each prompt once. Results are fp32 on the CPU, without gradients. `encode` can be called from several
/// threads. Copies share the cache.
///
/// On disk a prompt's file is named by a checksum of encoder and prompt that is the same on every machine, so that
/// machines and encoders can share a folder. The file holds both in full and is used only if they are equal; a damaged
/// one is written anew, and what killed processes left half-written is removed. Files under names that no prompt has,
/// such as an older program left behind, are not looked at and can be deleted. Prompts that are not UTF-8, which the
/// format cannot hold, are cached in memory only.
template <class Encoder>
class CachedTextEncoder {
  static_assert((require_text_encoder<Encoder>(), true));

 public:
  /// \throws Error for a folder without `CachedTextOptions::encoder`
  explicit CachedTextEncoder(Encoder encoder, CachedTextOptions options = {})
      : memory_(std::make_shared<Memory>(std::move(encoder), std::move(options))) {
    const auto& chosen = memory_->options;
    require(chosen.folder.empty() || !chosen.encoder.empty(),
            "cached text: expected the encoder's checksum with the folder '{}', found none", chosen.folder.string());
  }

  /// \return [B, tokens, width], fp32 on the CPU  \throws Error for an empty list, and if a file cannot be written
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const {
    require(!prompts.empty(), "cached text: prompts: expected at least one, found none");
    const std::scoped_lock lock(memory_->mutex);
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> rows;
    rows.reserve(prompts.size());
    for (const auto& prompt : prompts) rows.push_back(memory_->row(prompt));
    return at::stack(rows);
  }

  /// Number of prompts that were actually encoded, i.e. not found in the cache.
  [[nodiscard]] std::int64_t made() const { return memory_->made; }

 private:
  struct Memory {
    Memory(Encoder encoder_, CachedTextOptions options_) : encoder(std::move(encoder_)), options(std::move(options_)) {}

    at::Tensor row(const std::string& prompt) {
      if (const auto found = places.find(prompt); found != places.end()) {
        order.splice(order.begin(), order, found->second);
        return found->second->second;
      }
      auto tensor = load(prompt);
      if (!tensor) {
        tensor = encoder.encode(std::span(&prompt, 1)).select(0, 0).to(at::kCPU, at::kFloat).clone();
        ++made;
        save(prompt, *tensor);
      }
      order.emplace_front(prompt, *tensor);
      places.emplace(order.front().first, order.begin());
      bytes += tensor->nbytes();
      while (bytes > options.most_bytes && order.size() > 1) {
        bytes -= order.back().second.nbytes();
        places.erase(order.back().first);
        order.pop_back();
      }
      return *tensor;
    }

    [[nodiscard]] std::filesystem::path path_of(const std::string& prompt) const {
      // The zero separates the two: neither "ab" + "c" nor "a" + "bc" may be the other.
      const auto hash = detail::fnv(prompt, detail::fnv_word(detail::fnv(options.encoder), 0));
      return options.folder / fmt::format("{:02x}", hash & 0xff) / (detail::hash_text(hash) + ".safetensors");
    }

    /// The cached row, or nothing if the file is missing, damaged, or made for another prompt or encoder.
    [[nodiscard]] std::optional<at::Tensor> load(const std::string& prompt) const {
      std::error_code ignored;
      if (options.folder.empty() || !std::filesystem::exists(path_of(prompt), ignored)) return {};
      try {
        const auto file = SafetensorsFile::open(path_of(prompt));
        const auto says = [&](const char* name, const std::string& expected) {
          const auto found = file.metadata().find(name);
          return found != file.metadata().end() && found->second == expected;
        };
        if (!says("prompt", prompt) || !says("encoder", options.encoder)) return {};
        auto context = file.tensor("context");
        if (context.dim() != 2 || context.scalar_type() != at::kFloat || !says("checksum", checksum_of(context))) {
          return {};
        }
        return context;
      } catch (const Error&) {
        return {};
      }
    }

    void save(const std::string& prompt, const at::Tensor& context) {
      if (options.folder.empty() || detail::first_invalid_utf8(prompt)) return;
      const auto path = path_of(prompt);
      make_folder(path.parent_path());
      if (!std::exchange(swept, true)) remove_temporaries_below(options.folder);
      write_safetensors(path, {{"context", context}},
                        {{"prompt", prompt}, {"encoder", options.encoder}, {"checksum", checksum_of(context)}});
    }

    [[nodiscard]] static std::string checksum_of(const at::Tensor& context) {
      const auto values = context.contiguous();
      return detail::text_checksum({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
    }

    using Row = std::pair<std::string, at::Tensor>;

    Encoder encoder;
    CachedTextOptions options;
    std::mutex mutex;
    bool swept = false;    ///< of what killed processes left
    std::list<Row> order;  // most recently used first
    std::unordered_map<std::string_view, typename std::list<Row>::iterator> places;
    std::size_t bytes = 0;
    std::int64_t made = 0;
  };

  std::shared_ptr<Memory> memory_;
};

}  // namespace ip2p
