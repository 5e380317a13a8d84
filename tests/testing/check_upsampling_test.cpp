#include "ip2p/testing/check_upsampling.hpp"

#include <memory>
#include <string>

#include "ip2p/testing/archetypes.hpp"
#include "ip2p/upsampling/enlarged.hpp"
#include "support/catch.hpp"

// The kit must notice each broken law.

namespace {

using namespace ip2p;
using testing::check_upsampling;

struct SmallUpsampling {  // forgets to enlarge
  Image operator()(const Image& /*photo*/, const ModelEdit& edit) const { return edit.after; }
};

struct Alters {
  static constexpr bool reads_before = false;
  static constexpr bool enlarges = false;
  Image operator()(const Image& /*photo*/, const ModelEdit& edit) const {
    auto image = edit.after;
    image.pixels[0] ^= 1;
    return image;
  }
};

struct CountsCalls : testing::UpsamplingArchetype {
  CountsCalls() : UpsamplingArchetype(0) {}
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  Image operator()(const Image& photo, const ModelEdit& edit) const {
    auto image = UpsamplingArchetype::operator()(photo, edit);
    image.pixels[0] = static_cast<std::uint8_t>(++*calls);
    return image;
  }
};

struct OfThreads : testing::UpsamplingArchetype {
  OfThreads() : UpsamplingArchetype(0) {}
  Image operator()(const Image& photo, const ModelEdit& edit) const {
    auto image = UpsamplingArchetype::operator()(photo, edit);
    image.pixels[0] = static_cast<std::uint8_t>(at::get_num_threads());
    return image;
  }
};

struct ForgetsThePhotograph : Enlarged {
  static constexpr bool reads_before = true;
};

struct KeepsThePhotograph {
  Image operator()(const Image& photo, const ModelEdit& /*edit*/) const { return photo; }
};

struct ReadsAnyway : testing::UpsamplingArchetype {
  static constexpr bool reads_before = false;
  ReadsAnyway() : UpsamplingArchetype(0) {}
};

template <class Upsampling>
void broken_upsampling(const Upsampling& upsampling, const std::string& law) {
  REQUIRE_THROWS_WITH(check_upsampling(upsampling), Contains("UpsamplingPolicy breaks the law \"" + law));
}

}  // namespace

TEST_CASE("check_upsampling accepts a user's sound policy", "[testing]") {
  check_upsampling(testing::UpsamplingArchetype(0));
}

TEST_CASE("check_upsampling names the broken law", "[testing]") {
  broken_upsampling(SmallUpsampling{}, "the result has the photograph's size");
  broken_upsampling(Alters{}, "a policy that does not enlarge gives the edit as it is");
  broken_upsampling(CountsCalls{}, "equal arguments give identical bits");
  broken_upsampling(OfThreads{}, "equal arguments give identical bits");
  broken_upsampling(ForgetsThePhotograph{}, "an edit that changes nothing leaves the photograph");
  broken_upsampling(KeepsThePhotograph{}, "a change by one colour is carried to the whole photograph");
  broken_upsampling(ReadsAnyway{}, "a picture that is not read has no effect");
}
