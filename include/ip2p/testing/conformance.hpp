#pragma once

/// \file
/// The conformance kit: one function per concept, which throws `ip2p::Error` naming the broken law. Works with any test
/// framework:
///
///     TEST_CASE("FadingGuidance keeps the laws") { ip2p::testing::check_guidance(FadingGuidance{}); }

#include "ip2p/testing/archetypes.hpp"            // IWYU pragma: export
#include "ip2p/testing/check_attention.hpp"       // IWYU pragma: export
#include "ip2p/testing/check_codec.hpp"           // IWYU pragma: export
#include "ip2p/testing/check_communicator.hpp"    // IWYU pragma: export
#include "ip2p/testing/check_dropout.hpp"         // IWYU pragma: export
#include "ip2p/testing/check_execution.hpp"       // IWYU pragma: export
#include "ip2p/testing/check_filter.hpp"          // IWYU pragma: export
#include "ip2p/testing/check_guidance.hpp"        // IWYU pragma: export
#include "ip2p/testing/check_language_model.hpp"  // IWYU pragma: export
#include "ip2p/testing/check_learning_rate.hpp"   // IWYU pragma: export
#include "ip2p/testing/check_loss_weight.hpp"     // IWYU pragma: export
#include "ip2p/testing/check_network.hpp"         // IWYU pragma: export
#include "ip2p/testing/check_noise.hpp"           // IWYU pragma: export
#include "ip2p/testing/check_optimiser.hpp"       // IWYU pragma: export
#include "ip2p/testing/check_pair_source.hpp"     // IWYU pragma: export
#include "ip2p/testing/check_prediction.hpp"      // IWYU pragma: export
#include "ip2p/testing/check_sampler.hpp"         // IWYU pragma: export
#include "ip2p/testing/check_schedule.hpp"        // IWYU pragma: export
#include "ip2p/testing/check_text_encoder.hpp"    // IWYU pragma: export
#include "ip2p/testing/check_upsampling.hpp"      // IWYU pragma: export
#include "ip2p/testing/denoisers.hpp"             // IWYU pragma: export
#include "ip2p/testing/model_archetypes.hpp"      // IWYU pragma: export
#include "ip2p/testing/rerun_recorder.hpp"        // IWYU pragma: export
