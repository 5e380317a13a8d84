#pragma once

// What stands in LACKING() exists only in the corrected program.
#ifdef IP2P_CORRECTED
#define LACKING(...) __VA_ARGS__
#else
#define LACKING(...)
#endif
