#pragma once

/// \file
/// Settings and progress reports of model downloads.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "ip2p/io/hub_files.hpp"

namespace ip2p {

/// Progress of a download. Byte counts are totals over all files to be fetched.
struct DownloadProgress {
  std::string file = {};    ///< In progress: its path in the model.
  std::size_t index = 0;    ///< Of this file, from 0.
  std::size_t count = 0;    ///< Files to fetch.
  std::uint64_t done = 0;   ///< Bytes that are there.
  std::uint64_t total = 0;  ///< Bytes that there will be.
  std::uint64_t kept = 0;   ///< Of `done`, what an earlier run had fetched.
};

/// Settings of `download_model`.
struct DownloadOptions {
  HubFilesOptions files = {};        ///< What of the model is wanted.
  std::filesystem::path cache = {};  ///< Empty: `hub_cache()`.
  std::string endpoint = {};         ///< Empty: `HF_ENDPOINT`, or else https://huggingface.co.
  /// Unset: `HF_TOKEN`, or else the file that `hf auth login` writes (`HF_TOKEN_PATH`, or `token` in `hub_home()`).
  std::optional<std::string> token = {};
  std::int64_t tries = 5;       ///< In a row without a byte, until a file is given up, >= 1.
  double first_wait = 1;        ///< Seconds before the second try; doubled for each further one, up to 30.
  double connect_seconds = 10;  ///< To reach a server, > 0.
  double stall_seconds = 60;    ///< Without a byte, until a transfer counts as broken, >= 1.
  std::stop_token cancel = {};  ///< A requested stop ends the download with `Cancelled`.
  std::function<void(const DownloadProgress&)> on_progress = {};  ///< Called often, and when a file is complete.
  std::function<void(const std::string&)> tell = {};              ///< Told, in a sentence each, what takes time.
};

}  // namespace ip2p
