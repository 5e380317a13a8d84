// Readers and writers of pictures.
#define IP2P_IMAGE_DEFINITIONS
#include "ip2p/io/image_definitions.hpp"
