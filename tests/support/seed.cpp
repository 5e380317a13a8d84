// Each test case begins with the same state of LibTorch's random generator, which otherwise differs from run to run.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <ATen/Context.h>

#include "support/catch.hpp"

namespace {

#if __has_include(<catch2/catch_all.hpp>)
using ListenerBase = Catch::EventListenerBase;
#else
using ListenerBase = Catch::TestEventListenerBase;
#endif

struct Seeded : ListenerBase {
  using ListenerBase::ListenerBase;
  void testCaseStarting(const Catch::TestCaseInfo& test) override {
    ListenerBase::testCaseStarting(test);
    at::manual_seed(20);
  }
};

}  // namespace

CATCH_REGISTER_LISTENER(Seeded)
