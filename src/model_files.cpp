// Models on disk, and their tokenizers.
#define IP2P_DEFINITIONS
#include "ip2p/io/model_files_definitions.hpp"
#include "ip2p/text/bpe_tokenizer_definitions.hpp"
