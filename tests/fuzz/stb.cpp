// picture.cpp for builds without libpng, libjpeg, libwebp and lcms2, where stb reads PNG and JPEG: stb_png, stb_jpeg.

#define IP2P_STB_ONLY
#include "picture.cpp"  // NOLINT(bugprone-suspicious-include)
