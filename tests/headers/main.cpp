// Linked with one unit per public header: a function that a header forgot to make inline is a duplicate symbol.
#include <ip2p/ip2p.hpp>

int main() { return 0; }
