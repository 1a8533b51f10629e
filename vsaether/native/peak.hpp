// How fast the products alone go: as many independent sums as hide the instruction's latency, nothing loaded.
#pragma once
#include "kernels.hpp"
#include "system.h"

namespace {

template <class S> double peak() {
    constexpr int SUMS = S::LANES == 16 ? 16 : 12 - 4 * (S::K == 2), ROUNDS = 200000;
    alignas(64) const int32_t zeros[S::LANES] = {};
    typename S::Int sums[SUMS], codes = S::load(zeros), weights = codes;
    AETHER_UNROLL for (int i = 0; i < SUMS; i++) sums[i] = codes;
    const double begin = system_seconds();
    for (int round = 0; round < ROUNDS; round++)
        AETHER_UNROLL for (int i = 0; i < SUMS; i++) S::dot(sums[i], codes, weights);
    const double seconds = system_seconds() - begin;
    AETHER_UNROLL for (int i = 0; i < SUMS; i++) asm volatile("" : : "x"(sums[i]));
    return static_cast<double>(ROUNDS) * SUMS * S::LANES * S::K / seconds;
}

template <class S> aether::Form *make_form(const Model &m) {
    if (m.gated)
        return new Gated<S>(m);
    return new Dense<S>(m);
}

} // namespace
