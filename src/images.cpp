// Readers and writers of pictures and of what is written into them, and their resampling.
#define IP2P_DEFINITIONS
#include "ip2p/io/image_definitions.hpp"
#include "ip2p/io/picture_settings_definitions.hpp"
#include "ip2p/io/resample_definitions.hpp"
