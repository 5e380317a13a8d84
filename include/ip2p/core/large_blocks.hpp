#pragma once

/// \file
/// Memory of large CPU tensors that is used again and again.
///
/// The C library gives blocks of 32 MiB and more back to the system when they are freed, and the system clears their
/// pages before it hands them out again. For a model whose gradients are of that size, that is a quarter of a training
/// step.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_map>

#include "ip2p/core/large_pages.hpp"

namespace ip2p::detail {

/// Blocks of pages, each cut from the smallest free range in which it fits; free ranges that touch are joined. Ranges
/// come from the system in large pages, where it has some. May be used from several threads at once.
class PagePool {
 public:
  /// \param spare free bytes that are kept however few are in use; beyond these, at most half as many bytes are kept
  ///   as are in use
  explicit PagePool(std::size_t spare = std::size_t{1} << 30) : spare_(spare) {}
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  /// All blocks must have been given back.
  ~PagePool() { release(); }

  /// At least `bytes` > 0 bytes of any content, aligned to `unit`; null if the system has none.
  [[nodiscard]] void* take(std::size_t bytes) {
    if (bytes > std::size_t{1} << 47) return nullptr;  // more than there are addresses
    const auto size = rounded(bytes, unit);
    const std::scoped_lock alone(mutex_);
    auto found = smallest(size);
    if (found == free_.end()) {
      // Ranges too small for what is wanted would otherwise add up.
      if (free_bytes_ > in_use_bytes_ / 4 + spare_ / 4) release();
      auto* fresh = map(rounded(size, large_page));
      if (fresh == nullptr) {
        release();
        fresh = map(rounded(size, large_page));
      }
      if (fresh == nullptr) return nullptr;
      add(fresh, rounded(size, large_page));
      found = smallest(size);
    }
    auto* const block = found->first;
    const auto left = found->second - size;
    free_.erase(found);
    if (left > 0) free_.emplace(block + size, left);
    free_bytes_ -= size;
    in_use_.emplace(block, size);
    in_use_bytes_ += size;
    return block;
  }

  /// Takes a block back. \return whether it is one of this pool's blocks
  bool give(void* pointer) {
    auto* const block = static_cast<std::byte*>(pointer);
    if (reinterpret_cast<std::uintptr_t>(block) % unit != 0) return false;
    const std::scoped_lock alone(mutex_);
    const auto found = in_use_.find(block);
    if (found == in_use_.end()) return false;
    const auto size = found->second;
    in_use_.erase(found);
    in_use_bytes_ -= size;
    add(block, size);
    if (free_bytes_ > in_use_bytes_ / 2 + spare_) release();
    return true;
  }

  /// Free bytes that are kept for reuse.
  [[nodiscard]] std::size_t free_bytes() const {
    const std::scoped_lock alone(mutex_);
    return free_bytes_;
  }

  /// Bytes of all blocks in use.
  [[nodiscard]] std::size_t in_use_bytes() const {
    const std::scoped_lock alone(mutex_);
    return in_use_bytes_;
  }

  /// Blocks begin at multiples of it.
  static constexpr std::size_t unit = std::size_t{64} << 10;

 private:
  using Ranges = std::map<std::byte*, std::size_t>;

  static std::size_t rounded(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

  [[nodiscard]] Ranges::iterator smallest(std::size_t size) {
    auto best = free_.end();
    for (auto range = free_.begin(); range != free_.end(); ++range) {
      if (range->second >= size && (best == free_.end() || range->second < best->second)) best = range;
    }
    return best;
  }

  /// Adds a free range, joined with its neighbours.
  void add(std::byte* begin, std::size_t size) {
    free_bytes_ += size;
    auto next = free_.lower_bound(begin);
    if (next != free_.end() && next->first == begin + size) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const auto previous = std::prev(next);
      if (previous->first + previous->second == begin) {
        previous->second += size;
        return;
      }
    }
    free_.emplace(begin, size);
  }

  /// Gives all free ranges back to the system.
  void release() {
    for (const auto& [begin, size] : free_) unmap(begin, size);
    free_.clear();
    free_bytes_ = 0;
  }

#ifdef __linux__
  /// Fresh pages from a multiple of `large_page` on; null if there are none.
  static std::byte* map(std::size_t size) {
    void* const pages = ::mmap(nullptr, size + large_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    auto* const begin = static_cast<std::byte*>(pages);
    const auto lead = (large_page - reinterpret_cast<std::uintptr_t>(begin) % large_page) % large_page;
    if (lead > 0) unmap(begin, lead);
    if (lead < large_page) unmap(begin + lead + size, large_page - lead);
    ask_for_large_pages(begin + lead, size);
    return begin + lead;
  }
  static void unmap(std::byte* begin, std::size_t size) { ::munmap(begin, size); }
#else
  static std::byte* map(std::size_t) { return nullptr; }
  static void unmap(std::byte*, std::size_t) {}
#endif

  const std::size_t spare_;
  mutable std::mutex mutex_;
  Ranges free_;
  std::unordered_map<std::byte*, std::size_t> in_use_;
  std::size_t free_bytes_ = 0, in_use_bytes_ = 0;
};

/// LibTorch's CPU allocator, with a `PagePool` for tensors from `least` bytes on.
class LargeBlocks final : public c10::Allocator {
 public:
  /// Smaller tensors are left to the C library, which reuses their memory well.
  static constexpr std::size_t least = std::size_t{4} << 20;

  /// The process's instance. It is never destroyed, because tensors may outlive everything else.
  static LargeBlocks& of_process() {
    static auto* const blocks = new LargeBlocks;
    return *blocks;
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    auto* const others = c10::GetDefaultCPUAllocator();
    if (bytes < least) return others->allocate(bytes);
    void* const block = pool_.take(bytes);
    // LibTorch's own allocator then says in its words that there is none.
    return block == nullptr ? others->allocate(bytes)
                            : c10::DataPtr(block, block, &give, c10::Device(c10::DeviceType::CPU));
  }

  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &give; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

  /// Where the large tensors lie.
  [[nodiscard]] const PagePool& pool() const { return pool_; }

 private:
  LargeBlocks() = default;

  static void give(void* pointer) {
    if (pointer != nullptr && !of_process().pool_.give(pointer)) c10::GetDefaultCPUAllocator()->raw_deallocate(pointer);
  }

  PagePool pool_;
};

}  // namespace ip2p::detail
