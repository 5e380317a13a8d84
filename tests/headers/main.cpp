// Linked with another unit that includes the umbrella: a function that is not inline is a duplicate symbol.
#include <ip2p/ip2p.hpp>

int main() { return 0; }
