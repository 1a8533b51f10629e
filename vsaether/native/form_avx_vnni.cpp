#ifndef VEX_PREFIX
#define VEX_PREFIX "%{vex%} "
#endif
#include "simd_ymm.hpp"

#include "gated.hpp"
#include "peak.hpp"

aether::Form *aether::make_avx_vnni(const Model &model) { return make_form<AvxVnni>(model); }
double aether::peak_avx_vnni() { return peak<AvxVnni>(); }
