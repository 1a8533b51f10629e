// Sums of products, the inner loops of everything, for a processor S (simd_*.hpp).
//
// Codes lie so that a dword holds K codes which belong to K weights of one output; a vector of weights holds K weights
// for each of LANES outputs. One step: broadcast a dword, multiply, add to the sums of LANES outputs.
#pragma once
#include "form.hpp"

#include <cstring>
#include <type_traits>

// A lambda's, too: an array of sums which a function gets by reference lies in memory, unless the function is inlined.
#define AETHER_INLINED __attribute__((always_inline))
#define AETHER_INLINE inline AETHER_INLINED
// And the functions that hold the loops stay apart: inlined in turn, GCC 12 no longer takes their arrays to pieces.
#define AETHER_APART __attribute__((noinline))
#define AETHER_UNROLL _Pragma("GCC unroll 16")

namespace {

using aether::Buffer;
using aether::Conv;

constexpr int QUAD = 4; // pixels of a tile: 4 rows of a column

constexpr int smaller(int a, int b) { return a < b ? a : b; }
constexpr int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }

// The largest number of vectors, up to most, of which a whole number makes all.
constexpr int tile_vectors(int all, int most) {
    while (all % most != 0)
        most--;
    return most;
}

// f(std::integral_constant<int, n>) for n from 1 to MOST, so that loops over n are unrolled.
template <int MOST, class F> AETHER_INLINE void with_constant(int n, F f) {
    if constexpr (MOST > 1) {
        if (n < MOST) {
            with_constant<MOST - 1>(n, f);
            return;
        }
    }
    f(std::integral_constant<int, MOST>());
}

// Work for all threads.
template <class F> class Pass final : public aether::Task {
  public:
    explicit Pass(F f) : f_(f) {}
    void operator()(int unit, int thread) override { f_(unit, thread); }

  private:
    F f_;
};

template <class F> void run_pass(aether::Workers &workers, int units, F f) {
    Pass<F> pass(f);
    workers.run(units, pass);
}

// The output of a convolution that a lane computes, if any.
struct Lane {
    const Conv *conv;
    int output;
};

// The weight that a code of the sequence is multiplied by; input is -1 for padding.
struct Tap {
    int input, y, x;
};

// A convolution's weights as the sums take them: [tile][step][vector][LANES][K], each tile's sums begin at
// -ZERO * (the sum of its weights), which takes ZERO out of all codes.
template <class S> struct Matrix {
    int tiles = 0, vectors = 0, segments = 0, steps = 0; // steps a segment
    const typename S::Weight *weights = nullptr;
    const int32_t *start = nullptr;
    const float *scale = nullptr, *bias = nullptr;

    template <class Lanes, class Taps>
    void pack(int all_vectors, int most, int segment_count, int steps_a_segment, Lanes lane_of, Taps tap_of) {
        vectors = most;
        tiles = all_vectors / vectors;
        segments = segment_count;
        steps = steps_a_segment;
        const size_t lanes = static_cast<size_t>(tiles) * vectors * S::LANES;
        const size_t weight_count = lanes * segments * steps * S::K;
        auto *s = static_cast<int32_t *>(buffer_.get(lanes * 12 + weight_count * sizeof(typename S::Weight)));
        auto *f = reinterpret_cast<float *>(s + lanes), *b = f + lanes;
        auto *w = reinterpret_cast<typename S::Weight *>(b + lanes);
        start = s, scale = f, bias = b, weights = w;
        const int length = segments * steps * S::K;
        for (int t = 0; t < tiles; t++)
            for (int v = 0; v < vectors; v++)
                for (int l = 0; l < S::LANES; l++) {
                    const Lane lane = lane_of(t, v, l);
                    const size_t place = (static_cast<size_t>(t) * vectors + v) * S::LANES + l;
                    int32_t sum = 0;
                    for (int k = 0; k < length; k++) {
                        const Tap tap = tap_of(k);
                        const int weight =
                            lane.conv && tap.input >= 0 ? lane.conv->at(lane.output, tap.input, tap.y, tap.x) : 0;
                        sum += weight;
                        const size_t step = static_cast<size_t>(t) * (length / S::K) + k / S::K;
                        w[((step * vectors + v) * S::LANES + l) * S::K + k % S::K] =
                            static_cast<typename S::Weight>(weight);
                    }
                    s[place] = -S::ZERO * sum;
                    f[place] = lane.conv ? lane.conv->scale[lane.output] : 0;
                    b[place] = lane.conv ? lane.conv->bias[lane.output] : 0;
                }
    }

    // A 1x1 convolution of quads: codes lie as [input / K][4 pixels][K].
    void pack_point(const Conv &c, int most) {
        const int all = c.out / S::LANES;
        pack_lanes(c, all, tile_vectors(all, most), 1, c.in / S::K, [](int k) { return Tap{k, 0, 0}; });
    }

    // A 3x3 convolution of rows of pixels of `stored` codes each.
    void pack_rows(const Conv &c, int stored, int most) {
        const int all = divide_up(c.out, S::LANES), inputs = c.in;
        pack_lanes(c, all, tile_vectors(all, most), 3, 3 * stored / S::K, [=](int k) {
            const int input = k % stored;
            return Tap{input < inputs ? input : -1, k / (3 * stored), k / stored % 3};
        });
    }

  private:
    template <class Taps> void pack_lanes(const Conv &c, int all, int n, int segment_count, int step_count, Taps taps) {
        const Conv *conv = &c;
        pack(
            all, n, segment_count, step_count,
            [=](int t, int v, int l) {
                const int o = (t * n + v) * S::LANES + l;
                return o < conv->out ? Lane{conv, o} : Lane{nullptr, 0};
            },
            taps);
    }

    Buffer buffer_;
};

// sums[pixel][vector] of one tile of outputs. pixels: where each pixel's codes begin; STEP codes from one dword of a
// pixel to its next; a segment is a run of steps, the next one begins segment_stride codes on.
template <class S, int M, int N, int STEP>
AETHER_INLINE void sum_products(const Matrix<S> &m, int tile, const typename S::Code *const (&pixels)[M],
                                ptrdiff_t segment_stride, typename S::Int (&sums)[M][N]) {
    const typename S::Weight *w =
        m.weights + static_cast<size_t>(tile) * m.segments * m.steps * (N * S::LANES * S::K);
    const int32_t *start = m.start + static_cast<size_t>(tile) * N * S::LANES;
    AETHER_UNROLL for (int v = 0; v < N; v++) {
        const typename S::Int first = S::load(start + v * S::LANES);
        AETHER_UNROLL for (int p = 0; p < M; p++) sums[p][v] = first;
    }
    const int steps = m.steps;
    for (int segment = 0; segment < m.segments; segment++)
        for (int step = 0; step < steps; step++, w += N * S::LANES * S::K) {
            typename S::Int weights[N];
            AETHER_UNROLL for (int v = 0; v < N; v++) weights[v] = S::load(w + v * S::LANES * S::K);
            AETHER_UNROLL for (int p = 0; p < M; p++) {
                const typename S::Int codes =
                    S::broadcast(pixels[p] + segment * segment_stride + static_cast<ptrdiff_t>(step) * STEP);
                AETHER_UNROLL for (int v = 0; v < N; v++) S::dot(sums[p][v], codes, weights[v]);
            }
        }
}

template <class S> AETHER_INLINE typename S::Float value(typename S::Int sum, const float *scale, const float *bias) {
    return S::fma(S::to_float(sum), S::load(scale), S::load(bias));
}

} // namespace
