// Frames as strips of 4 rows, in columns (4 rows of one x), and the depthwise convolution of them:
//   codes of a block's input   Strips:  [strip][x][4 / K][channels][K rows]    a dword: K rows of a channel
//   residual stream            Stream:  [strip][x][4 rows][channels]           float32
//   codes that come out                 [x][channels / K][4 rows][K channels]  a dword: K channels of a row
#pragma once
#include "kernels.hpp"

namespace {

using aether::Block;

constexpr int SIDE = 4; // columns of zeros left of a frame of codes; a kernel reaches 3

template <class S> struct Strips {
    int width, strips, channels;
    ptrdiff_t column, strip; // codes from one to the next
    typename S::Code *codes;

    static ptrdiff_t columns(int width) { return SIDE + width + SIDE + S::COLUMNS; }
    static size_t bytes(int width, int strips, int channels) {
        return static_cast<size_t>(columns(width)) * (strips + 2) * QUAD * channels * sizeof(typename S::Code);
    }
    Strips(typename S::Code *memory, int w, int n, int c)
        : width(w), strips(n), channels(c), column(static_cast<ptrdiff_t>(QUAD) * c), strip(columns(w) * column),
          codes(memory) {}
    typename S::Code *at(int x, int s) const { return codes + (s + 1) * strip + (x + SIDE) * column; }

    static void clear(typename S::Code *from, typename S::Code *to) {
        while (from < to)
            *from++ = S::ZERO;
    }
    // What is left and right of strip s, or all of it where it lies beyond the frame.
    void clear_around(int s) const {
        typename S::Code *begin = at(-SIDE, s);
        if (s < 0 || s >= strips) {
            clear(begin, begin + strip);
        } else {
            clear(begin, at(0, s));
            clear(at(width, s), begin + strip);
        }
    }
    // The last strip's rows from `rows` on, beyond the frame.
    void clear_rows(int rows, int s, int from, int to) const {
        for (int row = rows; row < QUAD; row++)
            for (int x = from; x < to; x++)
                for (int c = 0; c < channels; c++)
                    at(x, s)[(row / S::K * channels + c) * S::K + row % S::K] = S::ZERO;
    }
};

// The residual stream.
struct Stream {
    int width, channels;
    ptrdiff_t column, strip; // floats
    float *values;

    static size_t bytes(int width, int strips, int channels) {
        return static_cast<size_t>(width) * strips * QUAD * channels * sizeof(float);
    }
    Stream(float *memory, int w, int c)
        : width(w), channels(c), column(static_cast<ptrdiff_t>(QUAD) * c), strip(w * column), values(memory) {}
    float *at(int x, int s) const { return values + s * strip + x * column; }
};

// Depthwise weights in the order of their use: [LANES channels][row group][x][phase][LANES][K].
// A row group is K rows, counted from a strip's first; a phase is one of a strip's 4 rows.
template <class S> struct Depthwise {
    int kernel = 0, groups = 0, vectors = 0; // vectors a group of LANES channels
    const typename S::Weight *weights = nullptr;
    const int32_t *start = nullptr;
    const float *scale = nullptr, *bias = nullptr;
    int low = 0, high = 0; // of the codes that come out

    static constexpr int first_group(int reach) { return floor_div(-reach, S::K); }
    static constexpr int last_group(int reach) { return floor_div(QUAD - 1 + reach, S::K); }
    static constexpr bool sees(int phase, int group, int reach) {
        return group * S::K <= phase + reach && group * S::K + S::K - 1 >= phase - reach;
    }

    void pack(const Block &b) {
        const Conv &c = b.depthwise;
        kernel = c.kernel, low = b.low, high = b.high;
        const int reach = kernel / 2;
        groups = c.out / S::LANES;
        vectors = 0;
        for (int g = first_group(reach); g <= last_group(reach); g++)
            for (int phase = 0; phase < QUAD; phase++)
                vectors += sees(phase, g, reach) ? kernel : 0;
        auto *s = static_cast<int32_t *>(
            buffer_.get(c.out * 12 + sizeof(typename S::Weight) * groups * vectors * S::LANES * S::K));
        auto *f = reinterpret_cast<float *>(s + c.out), *o = f + c.out;
        auto *w = reinterpret_cast<typename S::Weight *>(o + c.out);
        start = s, scale = f, bias = o, weights = w;
        for (int i = 0; i < c.out; i++) {
            s[i] = 0, f[i] = c.scale[i], o[i] = c.bias[i];
            for (int y = 0; y < kernel; y++)
                for (int x = 0; x < kernel; x++)
                    s[i] -= S::ZERO * c.at(i, 0, y, x);
        }
        for (int group = 0; group < groups; group++)
            for (int g = first_group(reach); g <= last_group(reach); g++)
                for (int x = 0; x < kernel; x++)
                    for (int phase = 0; phase < QUAD; phase++) {
                        if (!sees(phase, g, reach))
                            continue;
                        for (int l = 0; l < S::LANES; l++)
                            for (int k = 0; k < S::K; k++) {
                                const int y = g * S::K + k - phase + reach;
                                const bool inside = y >= 0 && y < kernel;
                                *w++ = inside ? c.at(group * S::LANES + l, 0, y, x) : 0;
                            }
                    }
    }

    // Columns from x on of strip s -> codes of the products' input, at least as many columns as asked for.
    void run(const Strips<S> &from, int x, int s, int columns, typename S::Code *to) const {
        if (kernel == 3)
            run_kernel<3>(from, x, s, columns, to);
        else if (kernel == 5)
            run_kernel<5>(from, x, s, columns, to);
        else
            run_kernel<7>(from, x, s, columns, to);
    }

  private:
    template <int KERNEL>
    void run_kernel(const Strips<S> &from, int x, int s, int columns, typename S::Code *to) const {
        constexpr int REACH = KERNEL / 2, PER_STRIP = QUAD / S::K, N = S::COLUMNS;
        constexpr int FIRST = first_group(REACH), LAST = last_group(REACH);
        const int channels = from.channels;
        for (int group = 0; group < groups; group++) {
            const typename S::Bounds bounds(low, high);
            const int channel = group * S::LANES;
            for (int column = 0; column < columns; column += N) {
                const typename S::Weight *w =
                    weights + static_cast<size_t>(group) * vectors * S::LANES * S::K;
                typename S::Int sums[N][QUAD];
                const typename S::Int begin = S::load(start + channel);
                AETHER_UNROLL for (int c = 0; c < N; c++)
                    AETHER_UNROLL for (int phase = 0; phase < QUAD; phase++) sums[c][phase] = begin;
                AETHER_UNROLL for (int g = FIRST; g <= LAST; g++) {
                    const int strip = floor_div(g, PER_STRIP), part = g - strip * PER_STRIP;
                    const typename S::Code *codes =
                        from.at(x + column - REACH, s + strip) + (part * channels + channel) * S::K;
                    typename S::Int data[N + KERNEL - 1];
                    AETHER_UNROLL for (int i = 0; i < N + KERNEL - 1; i++) data[i] = S::load(codes + i * from.column);
                    AETHER_UNROLL for (int i = 0; i < KERNEL; i++)
                        AETHER_UNROLL for (int phase = 0; phase < QUAD; phase++) {
                            if (!sees(phase, g, REACH))
                                continue;
                            const typename S::Int weight = S::load(w);
                            w += S::LANES * S::K;
                            AETHER_UNROLL for (int c = 0; c < N; c++) S::dot(sums[c][phase], data[c + i], weight);
                        }
                }
                AETHER_UNROLL for (int c = 0; c < N; c++) {
                    typename S::Int codes[QUAD];
                    AETHER_UNROLL for (int phase = 0; phase < QUAD; phase++) codes[phase] =
                        S::round(value<S>(sums[c][phase], scale + channel, bias + channel));
                    S::store_quad(to + (column + c) * from.column + channel * QUAD, bounds, codes[0], codes[1],
                                  codes[2], codes[3]);
                }
            }
        }
    }

    Buffer buffer_;
};

} // namespace
