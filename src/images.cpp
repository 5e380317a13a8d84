// Readers and writers of pictures.
#define IP2P_DEFINITIONS
#include "ip2p/io/image_definitions.hpp"
