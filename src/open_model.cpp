// The definitions behind open_model.hpp: all models that a file can hold.
#define IP2P_DEFINITIONS
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/open_model_definitions.hpp"
