#include "simd_avx512.hpp"

#include "gated.hpp"
#include "peak.hpp"

aether::Form *aether::make_avx512_vnni(const Model &model) { return make_form<Avx512Vnni>(model); }
double aether::peak_avx512_vnni() { return peak<Avx512Vnni>(); }
