#pragma once

/// \file
/// The service: what is answered to which request. How requests are transported is not its business.

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

#include "access.hpp"
#include "editor.hpp"
#include "event_log.hpp"
#include "http.hpp"
#include "job_store.hpp"
#include "limits.hpp"
#include "metrics.hpp"
#include "openai.hpp"
#include "runner.hpp"

namespace studio {

struct ServiceOptions {
  Limits limits = {};
  std::int64_t batch = 4;               ///< Results that are computed together.
  std::string token = {};               ///< Empty where none is asked for.
  std::vector<std::string> hosts = {};  ///< Names of the service.
  std::filesystem::path keep = {};      ///< Folder that gets a copy of each result; empty: none does.
  bool log_prompts = false;
};

/// Answers requests, from any thread.
class Service {
 public:
  /// \param editor outlives this
  Service(Editor& editor, ServiceOptions options, LogLine log);

  /// Looks at a request without its body, and says how that is to be read. \throws Fault for what is refused
  [[nodiscard]] BodyRule begin(const Request& request) const;

  /// Answers a request that `begin` let through, now with its body. \throws Fault
  [[nodiscard]] Response answer(const Request& request);

  /// The same, with faults and exceptions as responses.
  [[nodiscard]] Response answer_or_fault(const Request& request);

  /// A response that says what was wrong.
  [[nodiscard]] static Response refusal(const Fault& fault);

  /// Logs and counts a request. \param status, bytes, seconds of its response
  void record(const Request& request, int status, std::size_t bytes, double seconds);

  void sweep() { store_.sweep(); }   ///< Forgets what has expired.
  void stop();                       ///< Finishes what runs.
  void abort() { runner_.abort(); }  ///< Cancels it.
  [[nodiscard]] bool finished() const { return runner_.finished(); }
  /// Whether jobs are followed, so that clients may still have to be told of an end.
  [[nodiscard]] bool followed() const { return *streams_ > 0; }

 private:
  /// A route that was found. \param id, index of a job and a result where the path names them
  struct Route {
    enum Name {
      page,
      model,
      jobs,
      job,
      cancel,
      events,
      result,
      settings,
      edits,
      models,
      one_model,
      health,
      metrics,
      interface
    } name = page;
    std::string id = {};
    std::size_t index = 0;
  };

  [[nodiscard]] static Route route_of(const Request& request);
  [[nodiscard]] std::shared_ptr<Job> job_of(const Route& route) const;
  [[nodiscard]] Response job_json(const Job& job, int status = 200) const;

  Response post_job(const Request& request);
  Response follow(const std::shared_ptr<Job>& job);
  [[nodiscard]] Response result(const Job& job, std::size_t index) const;
  [[nodiscard]] Response settings_of(const std::string& picture) const;
  Response post_edit(const Request& request);
  [[nodiscard]] Response metrics() const;

  std::shared_ptr<Job> submit(const Request& request, EditRequest edit, MaskForm form);
  void keep(const Job& job, std::size_t cell, const Result& result) const;

  Editor& editor_;
  ServiceOptions options_;
  LogLine log_;
  Access access_;
  JobStore store_;
  std::counting_semaphore<> decoding_{2};  // pictures that are decoded at the same time
  std::string policy_;
  Counters requests_, jobs_;
  std::shared_ptr<std::atomic<int>> streams_ = std::make_shared<std::atomic<int>>(0);
  Runner runner_;  // last: its thread uses the others
};

}  // namespace studio
