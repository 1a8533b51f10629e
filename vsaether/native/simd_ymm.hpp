// What the kernels need of a processor: AVX2, with 8-bit dot products (AVX-VNNI) or without.
// In an unnamed namespace, as all that is made of it: nothing compiled for this processor may be linked in elsewhere.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

struct Ymm {
    using Int = __m256i;
    using Float = __m256;
    static constexpr int LANES = 8;
    static constexpr int ROW_PIXELS = 4;
    static constexpr int GATES = 1;
    static constexpr int COLUMNS = 2;
    static constexpr int FLOAT_PIXELS = 4;

    template <class T> static Int load(const T *p) { return _mm256_load_si256(reinterpret_cast<const Int *>(p)); }
    static Float load(const float *p) { return _mm256_load_ps(p); }
    static Float load_unaligned(const float *p) { return _mm256_loadu_ps(p); }
    static void store(float *p, Float v) { _mm256_storeu_ps(p, v); }
    static Float set(float v) { return _mm256_set1_ps(v); }
    template <class T> static Int broadcast(const T *p) {
        int32_t codes;
        __builtin_memcpy(&codes, p, sizeof codes);
        return _mm256_set1_epi32(codes);
    }
    static Float to_float(Int v) { return _mm256_cvtepi32_ps(v); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
    static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
    static Int round(Float v) { return _mm256_cvtps_epi32(v); }
    static Int add(Int a, int32_t b) { return _mm256_add_epi32(a, _mm256_set1_epi32(b)); }
};

struct AvxVnni : Ymm {
    using Code = uint8_t; // code + ZERO
    using Weight = int8_t;
    static constexpr int K = 4;
    static constexpr int ZERO = 128;
    static constexpr int VECTORS = 3; // 12 sums of 16 registers
    static constexpr int ROW_VECTORS = 3;

    // One instruction of assembler, as in simd_avx512.hpp. VEX_PREFIX chooses the encoding: {vex} is AVX-VNNI's own;
    // without, on AVX-512, the same kernels can be tested on processors that have no AVX-VNNI.
    static void dot(Int &sum, Int codes, Int weights) {
        asm volatile(VEX_PREFIX "vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(weights));
    }

    static Int round_to_code(Float v) { return round(min(v, set(1000.0F))); }

    // 4 pixels' values of LANES channels -> [LANES / 4][4 pixels][4 channels]; saturates
    static Int pack(Int a, Int b, Int c, Int d) {
        return _mm256_xor_si256(_mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)),
                                _mm256_set1_epi8(static_cast<char>(ZERO)));
    }
    static void store_quad(Code *p, Int a, Int b, Int c, Int d) {
        _mm256_store_si256(reinterpret_cast<Int *>(p), pack(a, b, c, d));
    }
    // 4 rows' values of LANES channels -> [LANES channels][4 rows]
    static void store_column(Code *p, int, Int a, Int b, Int c, Int d) {
        const Int turn = _mm256_broadcastsi128_si256(_mm_set_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400));
        _mm256_store_si256(reinterpret_cast<Int *>(p), _mm256_shuffle_epi8(pack(a, b, c, d), turn));
    }
    // 4 pixels' values of LANES channels, each pixel to its own place
    static void store_pixels(Code *const (&p)[4], Int a, Int b, Int c, Int d) {
        const Int order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
        const Int v = _mm256_permutevar8x32_epi32(pack(a, b, c, d), order);
        const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
        _mm_storel_epi64(reinterpret_cast<__m128i *>(p[0]), low);
        _mm_storel_epi64(reinterpret_cast<__m128i *>(p[1]), _mm_unpackhi_epi64(low, low));
        _mm_storel_epi64(reinterpret_cast<__m128i *>(p[2]), high);
        _mm_storel_epi64(reinterpret_cast<__m128i *>(p[3]), _mm_unpackhi_epi64(high, high));
    }
    // LANES pixels of three channels' codes -> [LANES][3 channels, nothing]
    static void store_image(Code *p, Int r, Int g, Int b) {
        const Int codes = _mm256_or_si256(r, _mm256_or_si256(_mm256_slli_epi32(g, 8), _mm256_slli_epi32(b, 16)));
        _mm256_storeu_si256(reinterpret_cast<Int *>(p), codes);
    }
};

// Without 8-bit dot products the exact way is int16: vpmaddubsw, which takes bytes, saturates.
struct Avx2 : Ymm {
    using Code = int16_t;
    using Weight = int16_t;
    static constexpr int K = 2;
    static constexpr int ZERO = 0;
    static constexpr int VECTORS = 2; // 8 sums, and a register for the products
    static constexpr int ROW_VECTORS = 2;

    // Two instructions of assembler, as in simd_avx512.hpp.
    static void dot(Int &sum, Int codes, Int weights) {
        Int products;
        asm volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(codes), "x"(weights));
    }

    static Int round_to_code(Float v) { return round(min(max(v, set(-128.0F)), set(127.0F))); }

    // 4 pixels' values of LANES channels -> [LANES / 2][4 pixels][2 channels]
    static void store_quad(Code *p, Int a, Int b, Int c, Int d) {
        const Float ab = _mm256_castsi256_ps(_mm256_packs_epi32(a, b)); // a lane: pairs of a, a, b, b
        const Float cd = _mm256_castsi256_ps(_mm256_packs_epi32(c, d));
        const Int even = _mm256_castps_si256(_mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(2, 0, 2, 0)));
        const Int odd = _mm256_castps_si256(_mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 1, 3, 1)));
        _mm256_store_si256(reinterpret_cast<Int *>(p), _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_store_si256(reinterpret_cast<Int *>(p + 16), _mm256_permute2x128_si256(even, odd, 0x31));
    }
    // 4 rows' values of LANES channels -> [LANES channels][2 rows], and the other two rows `channels` channels on
    static void store_column(Code *p, int channels, Int a, Int b, Int c, Int d) {
        _mm256_store_si256(reinterpret_cast<Int *>(p), _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA));
        _mm256_store_si256(reinterpret_cast<Int *>(p + 2 * channels),
                           _mm256_blend_epi16(c, _mm256_slli_epi32(d, 16), 0xAA));
    }
    // 4 pixels' values of LANES channels, each pixel to its own place
    static void store_pixels(Code *const (&p)[4], Int a, Int b, Int c, Int d) {
        const Int ab = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), _MM_SHUFFLE(3, 1, 2, 0));
        const Int cd = _mm256_permute4x64_epi64(_mm256_packs_epi32(c, d), _MM_SHUFFLE(3, 1, 2, 0));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[0]), _mm256_castsi256_si128(ab));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[1]), _mm256_extracti128_si256(ab, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[2]), _mm256_castsi256_si128(cd));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p[3]), _mm256_extracti128_si256(cd, 1));
    }
    // LANES pixels of three channels' codes -> [LANES][3 channels, nothing]
    static void store_image(Code *p, Int r, Int g, Int b) {
        const Int rg = _mm256_blend_epi16(r, _mm256_slli_epi32(g, 16), 0xAA);
        const Int blue = _mm256_blend_epi16(b, _mm256_setzero_si256(), 0xAA);
        const Int low = _mm256_unpacklo_epi32(rg, blue), high = _mm256_unpackhi_epi32(rg, blue);
        _mm256_storeu_si256(reinterpret_cast<Int *>(p), _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256(reinterpret_cast<Int *>(p + 16), _mm256_permute2x128_si256(low, high, 0x31));
    }
};

} // namespace
