#pragma once

/// \file
/// One process of many that make a set of pairs.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "drawn_pairs.hpp"
#include "ip2p/data/pair_set_writer.hpp"
#include "ip2p/data/work_ledger.hpp"
#include "ip2p/language/triplets.hpp"
#include "ip2p/parallel/environment.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "options.hpp"
#include "sheet.hpp"
#include "support/program.hpp"

namespace make_pairs {

/// Draws, judges and publishes the prompts that this process takes from the ledger, until all are done.
class PairMaker {
 public:
  /// \param settings of `o` and the models  All references must outlive the maker.
  PairMaker(const Options& o, const nlohmann::json& settings, const std::vector<ip2p::Triplet>& triplets,
            const ip2p::OpenedModel& model, const ip2p::TextToImage& pipeline, const ip2p::Clip& clip,
            const ip2p::ProcessPlace& place, std::stop_token stop)
      : o_(o),
        triplets_(triplets),
        place_(place),
        stop_(std::move(stop)),
        ledger_(o.out / ".ledger", settings,
                {.lease = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * o.lease)),
                 .patience = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * o.patience))}),
        set_(o.out, o.out / ".ledger" / "unfinished"),
        draw_(o, model, pipeline, clip,
              {.on_step = [this](const ip2p::Step&, const at::Tensor&) { ledger_.progressed(); }, .stop = stop_}) {}

  /// \return the program's status
  int operator()() {
    begun_ = ledger_.finished().size();
    say(fmt::format("{} of {} prompts done", begun_, triplets_.size()));
    while (true) {
      const auto finished = ledger_.finished();
      bool worked = false, all = true;
      for (std::int64_t k = 0; k < prompts(); ++k) {
        // Processes begin apart from each other.
        const auto prompt = (place_.rank * prompts() / place_.size + k) % prompts();
        const auto name = ip2p::prompt_folder(prompt);
        if (finished.contains(name)) continue;
        if (stop_.stop_requested()) return stopped();
        const auto claim = ledger_.claim(name);
        if (claim == ip2p::Claim::busy) all = false;
        if (claim != ip2p::Claim::taken) continue;
        try {
          make(prompt, name);
        } catch (const ip2p::Cancelled&) {
          return stopped();
        }
        worked = true;
      }
      if (all && all_sound()) return complete();
      if (all || worked) continue;
      // Other processes hold what is left; if they fail, it becomes free.
      const auto until = example::Clock::now() + std::chrono::duration<double>(std::min(o_.lease / 4, 2.0));
      while (example::Clock::now() < until) {
        if (stop_.stop_requested()) return stopped();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
  }

 private:
  [[nodiscard]] std::int64_t prompts() const { return static_cast<std::int64_t>(triplets_.size()); }

  void make(std::int64_t prompt, const std::string& name) {
    const auto& triplet = triplets_[static_cast<std::size_t>(prompt)];
    const auto drawn = draw_(prompt, triplet);
    const auto& [best, counts] = drawn.selection;
    if (!o_.sheets.empty() && prompt % o_.sheet_every == 0) sheet(name, triplet, drawn);
    std::vector<ip2p::GeneratedPair> kept;
    for (const auto i : best) {
      const auto& pair = drawn.pairs[i];
      kept.push_back({pair.before, pair.after, numbers_of(pair, drawn.samples[i])});
    }
    std::vector<std::string> seeds;
    if (!kept.empty()) {
      seeds = set_.publish(
          name,
          {.instruction = triplet.instruction, .input = triplet.caption, .output = triplet.edited, .url = triplet.url},
          kept);
    }
    ledger_.finish({{"seeds", seeds},
                    {"judged", counts.judged},
                    {"kept", counts.kept},
                    {"surplus", counts.surplus},
                    {"rejected", counts.rejected}});
    report(name, counts);
  }

  void sheet(const std::string& name, const ip2p::Triplet& triplet, const DrawnPairs& drawn) const {
    const auto& best = drawn.selection.kept;
    auto order = best;
    for (std::size_t i = 0; i < drawn.pairs.size(); ++i) {
      if (std::find(best.begin(), best.end(), i) == best.end()) order.push_back(i);
    }
    const auto judge = filter_of(o_);
    std::vector<SheetPair> shown;
    for (std::size_t k = 0; k < order.size(); ++k) {
      const auto& pair = drawn.pairs[order[k]];
      const auto verdict = o_.no_filter ? ip2p::Verdict{} : judge(pair);
      const bool measured = verdict.reason != "pixel change";  // CLIP has not seen it, and need not for the page
      shown.push_back({&pair, numbers_of(pair, drawn.samples[order[k]], measured), verdict, k < best.size(), measured});
    }
    write_sheet(o_.sheets, name, triplet, drawn.selection.counts, shown);
  }

  void report(const std::string& name, const ip2p::FilterCounts& counts) const {
    const auto done = ledger_.finished().size();
    const double elapsed = example::seconds_since(begin_);
    const double all_seconds = elapsed * static_cast<double>(triplets_.size() - std::min(done, triplets_.size())) /
                               static_cast<double>(std::max<std::size_t>(1, done - std::min(begun_, done)));
    say(fmt::format("{}: {}; {} of {} prompts done, {:.3g} pairs/s here, {} left at the overall rate", name,
                    counts_text(counts), done, triplets_.size(), static_cast<double>(draw_.drawn()) / elapsed,
                    example::clock_text(all_seconds)));
  }

  void say(const std::string& text) const {
    fmt::print("{}{}\n", place_.size > 1 ? fmt::format("rank {}: ", place_.rank) : "", text);
    std::fflush(stdout);
  }

  int stopped() {
    ledger_.release();
    fmt::print(stderr, "make_pairs: stopped; finished prompts are kept; run the same command again to continue\n");
    return 130;
  }

  /// Reads all records; prompts whose record or folder is missing or damaged are redone.
  bool all_sound() {
    totals_.clear();
    seeds_.clear();
    bool sound = true;
    for (std::int64_t prompt = 0; prompt < prompts(); ++prompt) {
      const auto name = ip2p::prompt_folder(prompt);
      const auto record = ledger_.record(name);
      const char* problem = nullptr;
      if (!record) {
        problem = "its record is missing or damaged";
      } else {
        seeds_[name] = record->at("seeds").get<std::vector<std::string>>();
        if (!seeds_[name].empty() && !set_.has(name)) problem = "its folder is missing";
      }
      if (problem != nullptr) {
        fmt::print(stderr, "warning: prompt {}: {}; redoing it\n", name, problem);
        ledger_.reopen(name);
        sound = false;
        continue;
      }
      ip2p::FilterCounts counts;
      record->at("judged").get_to(counts.judged);
      record->at("kept").get_to(counts.kept);
      record->at("surplus").get_to(counts.surplus);
      record->at("rejected").get_to(counts.rejected);
      totals_.emplace(prompt, counts);
    }
    return sound;
  }

  int complete() {
    set_.complete(seeds_);
    if (!o_.sheets.empty()) write_sheet_index(o_.sheets, triplets_, totals_);
    ip2p::FilterCounts total;
    for (const auto& [prompt, counts] : totals_) total += counts;
    say(fmt::format("{} prompts, {}; {} pairs drawn here in {}", triplets_.size(), counts_text(total), draw_.drawn(),
                    example::clock_text(example::seconds_since(begin_))));
    fmt::print("{}\n", o_.out.string());
    return 0;
  }

  const Options& o_;
  const std::vector<ip2p::Triplet>& triplets_;
  ip2p::ProcessPlace place_;
  std::stop_token stop_;
  ip2p::WorkLedger ledger_;
  ip2p::PairSetWriter set_;
  PairDrawer draw_;
  example::Clock::time_point begin_ = example::Clock::now();
  std::size_t begun_ = 0;  ///< Prompts already done at the start.
  std::map<std::string, std::vector<std::string>> seeds_;
  std::map<std::int64_t, ip2p::FilterCounts> totals_;
};

}  // namespace make_pairs
