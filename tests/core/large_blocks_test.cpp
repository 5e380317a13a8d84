#include "ip2p/core/large_blocks.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ip2p/core/freed_memory.hpp"
#include "support/catch.hpp"

using namespace ip2p;
using ip2p::detail::LargeBlocks;
using ip2p::detail::PagePool;

#ifdef __linux__

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// A block that is marked at both ends and in the middle.
struct Marked {
  Marked(PagePool& pool, std::size_t size_, unsigned char mark_)
      : bytes(static_cast<unsigned char*>(pool.take(size_))), size(size_), mark(mark_) {
    REQUIRE(bytes != nullptr);
    for (const auto place : {std::size_t{0}, size / 2, size - 1}) bytes[place] = mark;
  }
  [[nodiscard]] bool intact() const { return bytes[0] == mark && bytes[size / 2] == mark && bytes[size - 1] == mark; }

  unsigned char* bytes;
  std::size_t size;
  unsigned char mark;
};

/// LibTorch's CPU memory is that of `kept` while this lives.
struct Kept {
  Kept() { set_freed_memory(FreedMemory::kept); }
  ~Kept() { c10::SetCPUAllocator(c10::GetDefaultCPUAllocator()); }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
};

}  // namespace

TEST_CASE("Blocks of a pool never overlap, whatever is taken and given back", "[core]") {
  PagePool pool(64 * mebibyte);
  std::mt19937 random(1);
  std::vector<Marked> blocks;
  std::size_t taken = 0;
  for (int i = 0; i < 4000; ++i) {
    if (blocks.size() < 40 && random() % 2 == 0) {
      blocks.emplace_back(pool, 1 + random() % (12 * mebibyte), static_cast<unsigned char>(random()));
      taken += (blocks.back().size + PagePool::unit - 1) / PagePool::unit * PagePool::unit;
      REQUIRE(reinterpret_cast<std::uintptr_t>(blocks.back().bytes) % PagePool::unit == 0);
    } else if (!blocks.empty()) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      REQUIRE(blocks.back().intact());
      REQUIRE(pool.give(blocks.back().bytes));
      taken -= (blocks.back().size + PagePool::unit - 1) / PagePool::unit * PagePool::unit;
      blocks.pop_back();
    }
    REQUIRE(pool.in_use_bytes() == taken);
    REQUIRE(pool.free_bytes() <= taken / 2 + 64 * mebibyte + 16 * mebibyte);
  }
  for (const auto& block : blocks) {
    CHECK(block.intact());
    CHECK(pool.give(block.bytes));
  }
  CHECK(pool.in_use_bytes() == 0);
}

TEST_CASE("A pool uses freed pages again, also those of several blocks for one", "[core]") {
  PagePool pool;
  auto* const first = static_cast<std::byte*>(pool.take(6 * mebibyte));
  CHECK(pool.give(first));
  CHECK(pool.take(6 * mebibyte) == first);
  CHECK(pool.give(first));
  auto* const low = static_cast<std::byte*>(pool.take(2 * mebibyte));
  auto* const high = static_cast<std::byte*>(pool.take(4 * mebibyte));
  CHECK(high == low + 2 * mebibyte);
  CHECK(pool.give(high));
  CHECK(pool.give(low));
  CHECK(pool.free_bytes() == 6 * mebibyte);
  CHECK(pool.take(6 * mebibyte) == first);
  CHECK_FALSE(pool.give(first + PagePool::unit));  // not the beginning of a block
  int elsewhere = 0;
  CHECK_FALSE(pool.give(&elsewhere));
  CHECK(pool.give(first));
  CHECK_FALSE(pool.give(first));
  CHECK(pool.take(SIZE_MAX) == nullptr);
}

TEST_CASE("A pool keeps no more free memory than its share", "[core]") {
  PagePool pool(8 * mebibyte);
  auto* const small = pool.take(4 * mebibyte);
  auto* const large = pool.take(40 * mebibyte);
  CHECK(pool.give(large));
  CHECK(pool.free_bytes() == 0);
  CHECK(pool.give(small));
  CHECK(pool.free_bytes() == 4 * mebibyte);
}

TEST_CASE("Threads may share a pool", "[core]") {
  PagePool pool(16 * mebibyte);
  std::vector<int> damaged(4, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < damaged.size(); ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          auto* const block = static_cast<unsigned char*>(pool.take(mebibyte));
          std::fill_n(block, 256, static_cast<unsigned char>(t));
          damaged[t] += static_cast<int>(std::count(block, block + 256, static_cast<unsigned char>(t)) != 256);
          pool.give(block);
        }
      });
    }
  }
  CHECK(damaged == std::vector<int>(4, 0));
  CHECK(pool.in_use_bytes() == 0);
}

TEST_CASE("Where freed memory is kept, large tensors lie in the same pages again, which are large ones", "[core]") {
  const auto count = static_cast<std::int64_t>(8 * mebibyte);
  const auto& pool = LargeBlocks::of_process().pool();
  at::Tensor outlives;
  {
    const Kept kept;
    const auto before = pool.in_use_bytes();
    auto tensor = at::full({count}, 3, at::kByte);
    CHECK(pool.in_use_bytes() == before + 8 * mebibyte);
    const void* place = tensor.data_ptr();
    tensor.reset();
    CHECK(pool.in_use_bytes() == before);
    tensor = at::empty({count}, at::kByte);
    CHECK(tensor.data_ptr() == place);
    const auto small = at::full({16}, 2, at::kByte);
    CHECK(pool.in_use_bytes() == before + 8 * mebibyte);
    // The operators of oneDNN take memory this way.
    auto* const allocator = c10::GetAllocator(c10::DeviceType::CPU);
    for (const auto bytes : {std::size_t{64}, 8 * mebibyte}) {
      void* const raw = allocator->raw_allocate(bytes);
      CHECK(raw != nullptr);
      allocator->raw_deallocate(raw);
    }
    CHECK(pool.in_use_bytes() == before + 8 * mebibyte);
    outlives = tensor.fill_(7);

    // The kernel notes on a range that large pages were asked for as "hg".
    if (std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) {
      std::ifstream map("/proc/self/smaps");
      std::string line, flags;
      bool inside = false;
      while (flags.empty() && std::getline(map, line)) {
        std::uintptr_t begin = 0, end = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) == 2) {
          const auto wanted = reinterpret_cast<std::uintptr_t>(place);
          inside = begin <= wanted && wanted < end;
        } else if (inside && line.starts_with("VmFlags:")) {
          flags = line + " ";
        }
      }
      CHECK(flags.find(" hg ") != std::string::npos);
    }
  }
  CHECK(outlives.eq(7).all().item<bool>());
  const auto before = pool.in_use_bytes();
  const auto usual = at::empty({count}, at::kByte);
  CHECK(pool.in_use_bytes() == before);
  outlives.reset();
  CHECK(pool.in_use_bytes() == before - 8 * mebibyte);
}

#endif
