// The definitions behind open_model.hpp but those that load a part of a model.
#define IP2P_DEFINITIONS
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/open_model_definitions.hpp"
