// The two ends of every network: the picture's codes, and the shuffle of the last outputs into pixels.
#pragma once
#include "kernels.hpp"

#include <cmath>

namespace {

using aether::IMAGE_CHANNELS;
using aether::Model;
using aether::Picture;

constexpr int STORED = 4; // codes a pixel of the picture: three channels, and one of weight 0

// The picture's codes, continued by the border, in rows of pixels of STORED codes; beyond that zeros: AROUND pixels, and
// to the right as many as tiles reach over the edge.
template <class S> struct Image {
    int width = 0, height = 0; // border included
    ptrdiff_t pitch = 0;       // codes from a row to the next
    typename S::Code *codes = nullptr;

    static ptrdiff_t pitch_of(int width) { return static_cast<ptrdiff_t>(width + 2 * AROUND + 2 * S::LANES) * STORED; }

    const typename S::Code *at(int x, int y) const {
        return codes + (y + AROUND) * pitch + static_cast<ptrdiff_t>(x + AROUND) * STORED;
    }

    void fill(const Model &m, const Picture &p, int y) {
        typename S::Code *row = codes + y * pitch; // y - AROUND is a row of the picture continued
        for (ptrdiff_t i = 0; i < pitch; i++)
            row[i] = S::ZERO;
        if (y < AROUND || y >= height + AROUND)
            return;
        int source = y - AROUND - m.border;
        source = source < 0 ? 0 : smaller(source, p.height - 1);
        typename S::Code *const inside = row + static_cast<ptrdiff_t>(AROUND + m.border) * STORED;
        for (int x = 0; x < p.width; x += S::LANES)
            convert(m, p, source, x, inside + static_cast<ptrdiff_t>(x) * STORED);
        typename S::Code *const end = inside + static_cast<ptrdiff_t>(p.width) * STORED;
        for (int i = 0; i < STORED; i++) {
            const typename S::Code left = inside[i], right = end[i - STORED];
            for (int x = 1; x <= m.border; x++) {
                inside[i - x * STORED] = left;
                end[i + (x - 1) * STORED] = right;
            }
        }
        for (typename S::Code *c = end + m.border * STORED; c < row + pitch; c++)
            *c = S::ZERO;
    }

  private:
    static void convert(const Model &m, const Picture &p, int y, int x, typename S::Code *to) {
        typename S::Int codes[IMAGE_CHANNELS];
        for (int c = 0; c < IMAGE_CHANNELS; c++) {
            alignas(64) float values[S::LANES] = {};
            const float *from = p.in[c] + y * p.in_stride + x;
            std::memcpy(values, from, sizeof(float) * smaller(S::LANES, p.width - x));
            auto v = S::mul(S::sub(S::load(values), S::set(aether::IMAGE_MEAN)), S::set(m.image_inverse_step));
            v = S::min(S::max(v, S::set(-128)), S::set(127)); // in this order, what is no number becomes -128
            codes[c] = S::add(S::round(v), S::ZERO);
        }
        S::store_image(to, codes[0], codes[1], codes[2]);
    }
};

// The outputs of a pixel of the picture (without border), shuffled to scale x scale pixels, the picture itself added.
inline __attribute__((always_inline)) void put_pixel(const Model &m, const Picture &p, int x, int y,
                                                     const float *values) {
    const int r = m.scale;
    for (int c = 0; c < IMAGE_CHANNELS; c++) {
        const float base = p.in[c][y * p.in_stride + x];
        for (int i = 0; i < r; i++) {
            float *to = p.out[c] + (static_cast<ptrdiff_t>(y) * r + i) * p.out_stride + static_cast<ptrdiff_t>(x) * r;
            for (int j = 0; j < r; j++)
                to[j] = values[(c * r + i) * r + j] + base;
        }
    }
}

} // namespace
