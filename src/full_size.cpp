// Edits at the photograph's own size.
#define IP2P_DEFINITIONS
#include "ip2p/upsampling/bilateral_grid_definitions.hpp"
#include "ip2p/upsampling/bilateral_guided_upsampling_definitions.hpp"
