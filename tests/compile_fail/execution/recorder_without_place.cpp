// expect-error: ip2p: GraphRecorder needs `std::string obstacle\(Device\) const`, `std::string place\(Device\) const` and `record\(Device, const std::function<std::vector<Tensor>\(\)>&\) const`, whose result has `replay\(\)` and `outputs\(\)`; see docs/reference/concepts.md#graphrecorder
#include <functional>
#include <ip2p/execution/graphed.hpp>
#include <string>
#include <vector>

namespace recorder_without_place {

struct Tape {
  void replay() {}
  const std::vector<at::Tensor>& outputs() const { return kept; }
  std::vector<at::Tensor> kept = {};
};

struct Recorder {
  std::string obstacle(at::Device) const { return {}; }
#ifdef IP2P_CORRECTED
  std::string place(at::Device) const { return {}; }
#endif
  Tape record(at::Device, const std::function<std::vector<at::Tensor>()>& work) const { return {work()}; }
};

void use() { ip2p::require_graph_recorder<Recorder>(); }

}  // namespace recorder_without_place
