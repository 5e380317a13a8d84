// Linked with another unit over the umbrella: a function that a header forgot to make inline is a duplicate symbol.
#include <ip2p/ip2p.hpp>

int main() { return 0; }
