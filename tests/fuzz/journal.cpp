// A run that goes on finds what an earlier one left: its journal and output of triplets, the samples of an evaluation,
// and a unit of work. Each is refused with an Error, or what is found is consistent with it, and what is then added is
// found again. Lines and files that were damaged count as absent. The mutator keeps the sums of lines right.
//
// The input is the journal of triplets, their output, the journal of samples, and the settings and the record of a
// ledger of work, separated as fuzz/harness.hpp says.

#include <string>

#include "fuzz/harness.hpp"
#include "ip2p/data/work_ledger.hpp"
#include "ip2p/evaluate/sweep_journal.hpp"
#include "ip2p/language/triplet_journal.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

const nlohmann::json settings{{"seed", 1}};

void resume_triplets(const fuzz::ScratchFolder& scratch) {
  const auto output = scratch.path() / "triplets.jsonl";
  std::int64_t next = 0;
  if (!fuzz::reads([&] {
        ip2p::detail::TripletJournal journal(output, settings);
        next = journal.next();
        fuzz::expect(next >= 0, "a negative unit");
        journal.finish("a line\n", {{"kept", 1}});
      })) {
    return;
  }
  fuzz::expect(scratch.get("triplets.jsonl").ends_with("a line\n"), "a unit's line is not the last");
  fuzz::must_read("a journal cannot be read again", [&] {
    const ip2p::detail::TripletJournal journal(output, settings);
    fuzz::expect(journal.next() == next + 1, "a finished unit is not found again");
    fuzz::expect(journal.counts() == nlohmann::json{{"kept", 1}}, "counts are not found again");
  });
}

void resume_samples(const fuzz::ScratchFolder& scratch) {
  ip2p::SweepResults before;
  if (!fuzz::reads([&] { before = ip2p::SweepResults::read(scratch.path(), settings); })) return;
  const bool added = fuzz::reads([&] {
    ip2p::SweepJournal journal(scratch.path(), 0, settings);
    journal.add("point", "edit", {{"score", 0.5}});
  });
  fuzz::expect(added, "a journal that can be read cannot be written");
  fuzz::must_read("samples cannot be read again", [&] {
    const auto after = ip2p::SweepResults::read(scratch.path(), settings);
    fuzz::expect(after.find("point", "edit") != nullptr, "a sample is not found again");
    fuzz::expect(after.size() >= before.size(), "samples are lost");
  });
}

void resume_work(const fuzz::ScratchFolder& scratch) {
  fuzz::reads([&] {
    ip2p::WorkLedger ledger(scratch.path() / "ledger", settings);
    static_cast<void>(ledger.record("unit"));
    const auto claim = ledger.claim("other");
    fuzz::expect(claim == ip2p::Claim::taken, "a unit that nobody works on cannot be taken");
    ledger.finish({{"kept", 1}});
    fuzz::expect(ledger.record("other") == nlohmann::json{{"kept", 1}}, "a record is not found again");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::ScratchFolder scratch;
  static constexpr const char* names[] = {"triplets.jsonl.journal", "triplets.jsonl", "samples-0000.jsonl",
                                          "ledger/settings.json", "ledger/done/unit.json"};
  const auto files = fuzz::files_of<5>(fuzz::text_of(data, size));
  scratch.clear();
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (!files[i].empty()) scratch.put(names[i], files[i]);
  }
  resume_triplets(scratch);
  if (!files[2].empty()) resume_samples(scratch);
  if (!files[3].empty() || !files[4].empty()) resume_work(scratch);
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 8 == 0) return size;
  std::string sealed;
  std::string_view rest = fuzz::text_of(data, size);
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size() - 1) + 1;
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end);
    auto record = line.starts_with('{') ? nlohmann::json::parse(line, nullptr, false) : nlohmann::json();
    if (record.is_object()) record.erase("sum");
    sealed += record.is_object() ? ip2p::detail::sealed_line(record) : std::string(line);
  }
  return fuzz::put_back(sealed, data, size, most);
}
