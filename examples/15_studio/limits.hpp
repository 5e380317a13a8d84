#pragma once

/// \file
/// How much the service takes.

#include <cstddef>
#include <cstdint>

namespace studio {

/// Bounds on requests and on what is kept. They are checked before anything is decoded or computed.
struct Limits {
  std::int64_t count = 16;           ///< Results of a job.
  std::int64_t steps = 200;          ///< Of a result.
  std::uint64_t seed = 4294967295;   ///< The largest, beyond which torch's noise repeats itself.
  double scale = 100;                ///< Largest magnitude of a scale of guidance.
  std::int64_t pixels = 16'000'000;  ///< Of a photograph and a mask.
  std::size_t bytes = 32 << 20;      ///< Of a request.
  std::size_t field = 64 << 10;      ///< Bytes of a field that is no picture.
  std::size_t text = 2000;           ///< Bytes of an instruction and of a negative text.
  std::size_t queue = 64;            ///< Jobs that wait.
  std::size_t jobs = 16;             ///< Jobs of one client that wait.
  std::size_t memory = 512 << 20;    ///< Bytes of photographs and results that are kept.
  double seconds_kept = 600;         ///< How long a job is kept when it is over.
  std::size_t connections = 256;     ///< Connections that are served at the same time.
  double patience = 30;              ///< Seconds that a client may keep the service waiting.
};

}  // namespace studio
