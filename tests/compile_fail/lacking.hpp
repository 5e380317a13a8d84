#pragma once

// What stands in LACKING() is there in the corrected program alone.
#ifdef IP2P_CORRECTED
#define LACKING(...) __VA_ARGS__
#else
#define LACKING(...)
#endif
