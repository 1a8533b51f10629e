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

constexpr int QUAD = 4;   // pixels of a tile: 4 rows of a column
constexpr int AROUND = 2; // pixels of zeros around a frame of rows: a kernel reaches up to 2

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
    bool half = false; // one tile of two vectors, of whose last S needs the first half alone
    const typename S::Weight *weights = nullptr;
    const int32_t *start = nullptr;
    const float *scale = nullptr, *bias = nullptr;
    // Where S has PAIRS: of each segment's steps, in their order of use, where their codes lie; and how many pairs there
    // are of them, before the steps that are left.
    const int32_t *places = nullptr, *pairs = nullptr;

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
        if constexpr (S::PAIRS)
            pair_steps(w);
    }

    const typename S::Weight *tile(int t) const {
        return weights + static_cast<size_t>(t) * segments * steps * (vectors * S::LANES * S::K);
    }

    // A 1x1 convolution of quads: codes lie as [input / K][4 pixels][K].
    void pack_point(const Conv &c, int most) {
        const int all = c.out / S::LANES;
        pack_lanes(c, all, tile_vectors(all, most), 1, c.in / S::K, [](int k) { return Tap{k, 0, 0}; });
    }

    // A convolution of rows of pixels of `stored` codes each: those of its inputs from `first` on.
    void pack_rows(const Conv &c, int stored, int most, int first = 0) {
        const int all = divide_up(c.out, S::LANES), inputs = c.in, size = c.kernel;
        pack_lanes(c, all, tile_vectors(all, most), size, size * stored / S::K, [=](int k) {
            const int input = first + k % stored;
            return Tap{input < inputs ? input : -1, k / (size * stored), k / stored % size};
        });
    }

  private:
    // Whether all sums of two steps' products fit into the int16 in which they are added up two by two.
    bool is_pair(const typename S::Weight *a, const typename S::Weight *b) const {
        for (int i = 0; i < vectors * S::LANES * S::K; i += 2) {
            int positive = 0, negative = 0;
            for (int weight : {a[i], a[i + 1], b[i], b[i + 1]})
                (weight > 0 ? positive : negative) += weight;
            if (positive > S::PAIR_WEIGHTS || -negative > S::PAIR_WEIGHTS)
                return false;
        }
        return true;
    }

    // Puts each segment's steps in order: pairs, and then what is left. (No std::vector: its functions, compiled for
    // this processor, could be linked in elsewhere.)
    void pair_steps(typename S::Weight *w) {
        using Weight = typename S::Weight;
        const int runs = tiles * segments;
        const size_t step_weights = static_cast<size_t>(vectors) * S::LANES * S::K, run_weights = steps * step_weights;
        Buffer copy_buffer, left_buffer;
        auto *const copy = static_cast<Weight *>(copy_buffer.get(run_weights * sizeof(Weight)));
        auto *const left = static_cast<int32_t *>(left_buffer.get(steps * sizeof(int32_t)));
        auto *p = static_cast<int32_t *>(pair_buffer_.get(sizeof(int32_t) * runs * (steps + 1)));
        auto *const counts = p + runs * steps;
        places = p, pairs = counts;
        for (int run = 0; run < runs; run++) {
            std::memcpy(copy, w, run_weights * sizeof(Weight));
            const auto put = [&](int step) {
                *p++ = step * S::K;
                std::memcpy(w, copy + step * step_weights, step_weights * sizeof(Weight));
                w += step_weights;
            };
            for (int step = 0; step < steps; step++)
                left[step] = step; // -1 when it is in a pair
            counts[run] = 0;
            for (int i = 0; i < steps; i++)
                for (int j = i + 1; j < steps && left[i] >= 0; j++)
                    if (left[j] >= 0 && is_pair(copy + i * step_weights, copy + j * step_weights)) {
                        put(i);
                        put(j);
                        left[i] = left[j] = -1;
                        counts[run]++;
                    }
            for (int i = 0; i < steps; i++)
                if (left[i] >= 0)
                    put(i);
        }
    }

    template <class Taps> void pack_lanes(const Conv &c, int all, int n, int segment_count, int step_count, Taps taps) {
        const Conv *conv = &c;
        half = S::HALVES && all == 2 && n == 2 && 2 * S::LANES - c.out >= S::LANES / 2;
        pack(
            all, n, segment_count, step_count,
            [=](int t, int v, int l) {
                const int o = (t * n + v) * S::LANES + l;
                return o < conv->out ? Lane{conv, o} : Lane{nullptr, 0};
            },
            taps);
    }

    Buffer buffer_, pair_buffer_;
};

// sums[pixel][vector] of one tile of outputs, before any product.
template <class S, int M, int N>
AETHER_INLINE void begin_sums(const Matrix<S> &m, int tile, typename S::Int (&sums)[M][N]) {
    const int32_t *start = m.start + static_cast<size_t>(tile) * N * S::LANES;
    AETHER_UNROLL for (int v = 0; v < N; v++) {
        const typename S::Int first = S::load(start + v * S::LANES);
        AETHER_UNROLL for (int p = 0; p < M; p++) sums[p][v] = first;
    }
}

constexpr int UNROLLED = 2; // steps of channels, whose number is even

// Adds a run of steps' products, a multiple of TIMES; w goes on. pixels: where each pixel's codes begin, STEP from one
// dword to the next. HALF: of the last vector the first half.
template <class S, int M, int N, int STEP, int TIMES = 1, bool HALF = false>
AETHER_INLINE void add_steps(const typename S::Weight *&w, const typename S::Code *const (&pixels)[M], int step, int end,
                             typename S::Int (&sums)[M][N]) {
    for (; step < end; step += TIMES, w += TIMES * N * S::LANES * S::K)
        AETHER_UNROLL for (int i = 0; i < TIMES; i++) {
            typename S::Int weights[N];
            AETHER_UNROLL for (int v = 0; v < N; v++) weights[v] = S::load(w + (i * N + v) * S::LANES * S::K);
            AETHER_UNROLL for (int p = 0; p < M; p++) {
                const typename S::Int codes = S::broadcast(pixels[p] + static_cast<ptrdiff_t>(step + i) * STEP);
                AETHER_UNROLL for (int v = 0; v < N - HALF; v++) S::dot(sums[p][v], codes, weights[v]);
                if constexpr (HALF)
                    S::dot_half(sums[p][N - 1], codes, weights[N - 1]);
            }
        }
}

// The same of a segment whose steps are paired.
template <class S, int M, int N>
AETHER_INLINE void add_pairs(const Matrix<S> &m, int run, const typename S::Weight *&w,
                             const typename S::Code *const (&pixels)[M], typename S::Int (&sums)[M][N]) {
    constexpr int VECTOR = S::LANES * S::K;
    const int32_t *place = m.places + run * m.steps, *const end = place + m.steps;
    for (const int32_t *const last = place + 2 * m.pairs[run]; place < last; place += 2, w += 2 * N * VECTOR) {
        typename S::Int weights[2 * N];
        AETHER_UNROLL for (int v = 0; v < 2 * N; v++) weights[v] = S::load(w + v * VECTOR);
        AETHER_UNROLL for (int p = 0; p < M; p++) {
            const auto codes = S::broadcast(pixels[p] + place[0]), more = S::broadcast(pixels[p] + place[1]);
            AETHER_UNROLL for (int v = 0; v < N; v++) S::dot(sums[p][v], codes, weights[v], more, weights[N + v]);
        }
    }
    for (; place < end; place++, w += N * VECTOR) {
        typename S::Int weights[N];
        AETHER_UNROLL for (int v = 0; v < N; v++) weights[v] = S::load(w + v * VECTOR);
        AETHER_UNROLL for (int p = 0; p < M; p++) {
            const auto codes = S::broadcast(pixels[p] + place[0]);
            AETHER_UNROLL for (int v = 0; v < N; v++) S::dot(sums[p][v], codes, weights[v]);
        }
    }
}

// All products of a tile, of segments: runs of steps, the next one begins segment_stride codes on.
template <class S, int M, int N, bool HALF = false>
AETHER_INLINE void add_segments(const Matrix<S> &m, int tile, const typename S::Code *const (&pixels)[M],
                                ptrdiff_t segment_stride, typename S::Int (&sums)[M][N]) {
    const typename S::Weight *w = m.tile(tile);
    for (int segment = 0; segment < m.segments; segment++) {
        const typename S::Code *at[M];
        AETHER_UNROLL for (int p = 0; p < M; p++) at[p] = pixels[p] + segment * segment_stride;
        if constexpr (S::PAIRS)
            add_pairs<S>(m, tile * m.segments + segment, w, at, sums);
        else
            add_steps<S, M, N, S::K, 1, HALF>(w, at, 0, m.steps, sums);
    }
}

template <class S> AETHER_INLINE typename S::Float value(typename S::Int sum, const float *scale, const float *bias) {
    return S::fma(S::to_float(sum), S::load(scale), S::load(bias));
}

} // namespace
