// The definitions behind open_model.hpp that load a network or a text encoder.
#define IP2P_DEFINITIONS
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/open_model_parts.hpp"
