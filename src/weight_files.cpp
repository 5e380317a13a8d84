// Readers and writers of safetensors files and of PyTorch's own, and how files are written whole or not at all.
#define IP2P_DEFINITIONS
#include "ip2p/io/atomic_file_definitions.hpp"
#include "ip2p/io/pickle_file_definitions.hpp"
#include "ip2p/io/safetensors_definitions.hpp"
#include "ip2p/io/safetensors_header_definitions.hpp"
#include "ip2p/io/write_safetensors_definitions.hpp"
