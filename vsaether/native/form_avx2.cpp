#define VEX_PREFIX ""
#include "simd_ymm.hpp"

#include "gated.hpp"
#include "peak.hpp"

aether::Form *aether::make_avx2(const Model &model) { return make_form<Avx2>(model); }
double aether::peak_avx2() { return peak<Avx2>(); }
