// What the kernels need of a processor: AVX-512 with 8-bit dot products (VNNI).
// In an unnamed namespace, as all that is made of it: nothing compiled for this processor may be linked in elsewhere.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

struct Avx512Vnni {
    using Int = __m512i;   // LANES int32
    using Float = __m512;  // LANES float32
    using Code = uint8_t;  // code + ZERO
    using Weight = int8_t;
    using Relu = Avx512Vnni; // for codes that are never negative
    static constexpr bool PAIRS = false;
    static constexpr int LANES = 16;
    static constexpr int K = 4; // products that one instruction adds up in a lane
    static constexpr int ZERO = 128;
    static constexpr bool OVERLAPPED = true; // a tile's sums are worked on while the next one's are added up:
    static constexpr int VECTORS = 3;     // of outputs in a tile of 4 pixels, 12 sums, so that both have registers
    static constexpr int ROW_PIXELS = 8;  // in a tile along a row,
    static constexpr int ROW_VECTORS = 3; // of so many vectors of outputs
    static constexpr int GATES = 1;       // vectors of the gate in a tile, and as many of the other half
    static constexpr int COLUMNS = 4;     // of the depthwise convolution at once

    static Int load(const int32_t *p) { return _mm512_load_si512(p); }
    static Int load(const Weight *p) { return _mm512_load_si512(p); }
    static Int load(const Code *p) { return _mm512_load_si512(p); }
    static Float load(const float *p) { return _mm512_load_ps(p); }
    static Float load_unaligned(const float *p) { return _mm512_loadu_ps(p); }
    static void store(float *p, Float v) { _mm512_storeu_ps(p, v); }
    static Float set(float v) { return _mm512_set1_ps(v); }
    static Int broadcast(const Code *p) {
        int32_t codes;
        __builtin_memcpy(&codes, p, sizeof codes);
        return _mm512_set1_epi32(codes);
    }

    // One instruction of assembler, so that GCC keeps the order in which it is written: free to move it, GCC 12 has more
    // values alive than there are registers, and spills the sums (measured: half the speed).
    static void dot(Int &sum, Int codes, Int weights) {
        asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(weights));
    }

    // The lower LANES / 2 sums alone (the others become 0), in half the time where a vector is computed in two halves. In
    // AVX-512's encoding, too: not every processor that has it has the other one.
    static constexpr bool HALVES = true;
    static void dot_half(Int &sum, Int codes, Int weights) {
        asm volatile("%{evex%} vpdpbusd %t2, %t1, %t0" : "+v"(sum) : "v"(codes), "v"(weights));
    }

    static Float to_float(Int v) { return _mm512_cvtepi32_ps(v); }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
    static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
    static Int round(Float v) { return _mm512_cvtps_epi32(v); }

    // Bounds of codes: all that there are, to which packing saturates, or fewer.
    struct AnyCode {};
    struct Bounds {
        Int low, high;
        Bounds(int l, int h) : low(_mm512_set1_epi8(static_cast<char>(l))), high(_mm512_set1_epi8(static_cast<char>(h))) {}
    };
    static Int clamp(Int v, AnyCode) { return v; }
    static Int clamp(Int v, const Bounds &b) { return _mm512_min_epi8(_mm512_max_epi8(v, b.low), b.high); }

    // 4 pixels' values of LANES channels -> [LANES / 4][4 pixels][4 channels]
    template <class B> static Int pack(const B &bounds, Int a, Int b, Int c, Int d) {
        const Int codes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        return _mm512_xor_si512(clamp(codes, bounds), _mm512_set1_epi8(static_cast<char>(ZERO)));
    }
    template <class B> static void store_quad(Code *p, const B &bounds, Int a, Int b, Int c, Int d) {
        _mm512_store_si512(p, pack(bounds, a, b, c, d));
    }

    // 4 rows' values of LANES channels -> [LANES channels][4 rows]
    static void store_column(Code *p, int, Int a, Int b, Int c, Int d) {
        const Int turn = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
        _mm512_store_si512(p, _mm512_shuffle_epi8(pack(AnyCode(), a, b, c, d), turn));
    }

    // 4 pixels' values of LANES channels, each pixel to its own place
    template <class B> static void store_pixels(Code *const (&p)[4], const B &bounds, Int a, Int b, Int c, Int d) {
        const Int order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
        const Int v = _mm512_permutexvar_epi32(order, pack(bounds, a, b, c, d));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[0]), _mm512_castsi512_si128(v));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[1]), _mm512_extracti32x4_epi32(v, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[2]), _mm512_extracti32x4_epi32(v, 2));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[3]), _mm512_extracti32x4_epi32(v, 3));
    }

    // LANES pixels of three channels' codes -> [LANES][3 channels, nothing]
    static void store_image(Code *p, Int r, Int g, Int b) {
        const Int codes = _mm512_or_si512(r, _mm512_or_si512(_mm512_slli_epi32(g, 8), _mm512_slli_epi32(b, 16)));
        _mm512_storeu_si512(p, codes);
    }
    static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
    static Int add(Int a, int32_t b) { return _mm512_add_epi32(a, _mm512_set1_epi32(b)); }
};

} // namespace
