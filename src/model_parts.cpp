// All parts of a model that a file can hold.
#define IP2P_DEFINITIONS
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/open_model_parts.hpp"
