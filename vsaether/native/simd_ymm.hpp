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
    static constexpr bool HALVES = false;
    static constexpr bool OVERLAPPED = false; // there are too few registers
    static constexpr int GATES = 1;
    static constexpr int COLUMNS = 2;

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
    static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
    static Int add(Int a, int32_t b) { return _mm256_add_epi32(a, _mm256_set1_epi32(b)); }
};

// Codes in bytes, as code + ZERO.
template <int ZERO_> struct YmmBytes : Ymm {
    using Code = uint8_t;
    using Weight = int8_t;
    static constexpr int K = 4;
    static constexpr int ZERO = ZERO_;

    struct AnyCode {}; // packing saturates
    struct Bounds {
        Int low, high;
        Bounds(int l, int h) : low(_mm256_set1_epi8(static_cast<char>(l))), high(_mm256_set1_epi8(static_cast<char>(h))) {}
    };
    static Int clamp(Int v, AnyCode) { return v; }
    static Int clamp(Int v, const Bounds &b) { return _mm256_min_epi8(_mm256_max_epi8(v, b.low), b.high); }

    // 4 pixels' values of LANES channels -> [LANES / 4][4 pixels][4 channels]
    template <class B> static Int pack(const B &bounds, Int a, Int b, Int c, Int d) {
        const Int codes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        return _mm256_xor_si256(clamp(codes, bounds), _mm256_set1_epi8(static_cast<char>(ZERO)));
    }
    template <class B> static void store_quad(Code *p, const B &bounds, Int a, Int b, Int c, Int d) {
        _mm256_store_si256(reinterpret_cast<Int *>(p), pack(bounds, a, b, c, d));
    }
    // 4 rows' values of LANES channels -> [LANES channels][4 rows]
    static void store_column(Code *p, int, Int a, Int b, Int c, Int d) {
        const Int turn = _mm256_broadcastsi128_si256(_mm_set_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400));
        _mm256_store_si256(reinterpret_cast<Int *>(p), _mm256_shuffle_epi8(pack(AnyCode(), a, b, c, d), turn));
    }
    // 4 pixels' values of LANES channels, each pixel to its own place
    template <class B> static void store_pixels(Code *const (&p)[4], const B &bounds, Int a, Int b, Int c, Int d) {
        const Int order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
        const Int v = _mm256_permutevar8x32_epi32(pack(bounds, a, b, c, d), order);
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

struct AvxVnni : YmmBytes<128> {
    using Relu = AvxVnni;
    static constexpr bool PAIRS = false;
    static constexpr int VECTORS = 3; // 12 sums of 16 registers
    static constexpr int ROW_VECTORS = 3;

    // One instruction of assembler, as in simd_avx512.hpp. VEX_PREFIX chooses the encoding: {vex} is AVX-VNNI's own;
    // without, on AVX-512, the same kernels can be tested on processors that have no AVX-VNNI.
    static void dot(Int &sum, Int codes, Int weights) {
        asm volatile(VEX_PREFIX "vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(weights));
    }
};

// AVX2 alone, for codes from 0 to 127: vpmaddubsw adds two products in an int16, which saturates, and two of them are
// at most 127 * 256. So are most sums of four: steps are paired where the weights allow it (Matrix::pair_steps), and
// there one instruction less widens them.
struct Avx2Relu : YmmBytes<0> {
    static constexpr bool PAIRS = true;
    static constexpr int PAIR_WEIGHTS = 32767 / 127; // the most that weights of one sign may add up to
    static constexpr int ROW_VECTORS = 2;

    static void dot(Int &sum, Int codes, Int weights) {
        Int products;
        asm volatile("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
                     : "+x"(sum), "=&x"(products)
                     : "x"(codes), "x"(weights), "xm"(_mm256_set1_epi16(1)));
    }
    static void dot(Int &sum, Int codes, Int weights, Int more_codes, Int more_weights) {
        Int products, more;
        asm volatile("vpmaddubsw %4, %3, %1\n\tvpmaddubsw %6, %5, %2\n\tvpaddw %2, %1, %1\n\t"
                     "vpmaddwd %7, %1, %1\n\tvpaddd %1, %0, %0"
                     : "+x"(sum), "=&x"(products), "=&x"(more)
                     : "x"(codes), "x"(weights), "x"(more_codes), "x"(more_weights), "xm"(_mm256_set1_epi16(1)));
    }
};

// And for all codes, where vpmaddubsw could saturate: in int16.
struct Avx2 : Ymm {
    using Code = int16_t;
    using Weight = int16_t;
    using Relu = Avx2Relu;
    static constexpr bool PAIRS = false;
    static constexpr int K = 2;
    static constexpr int ZERO = 0;
    static constexpr int VECTORS = 2; // 8 sums, and a register for the products
    static constexpr int ROW_VECTORS = 2;

    // Two instructions of assembler, as in simd_avx512.hpp.
    static void dot(Int &sum, Int codes, Int weights) {
        Int products;
        asm volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(codes), "x"(weights));
    }

    struct Bounds {
        Int low, high;
        Bounds(int l, int h) : low(_mm256_set1_epi16(static_cast<short>(l))), high(_mm256_set1_epi16(static_cast<short>(h))) {}
    };
    struct AnyCode : Bounds {
        AnyCode() : Bounds(-128, 127) {}
    };
    // two pixels' values as codes; a lane: 4 channels of a, 4 of b
    static Int pack(const Bounds &b, Int v, Int w) {
        return _mm256_min_epi16(_mm256_max_epi16(_mm256_packs_epi32(v, w), b.low), b.high);
    }

    // 4 pixels' values of LANES channels -> [LANES / 2][4 pixels][2 channels]
    static void store_quad(Code *p, const Bounds &bounds, Int a, Int b, Int c, Int d) {
        const Float ab = _mm256_castsi256_ps(pack(bounds, a, b));
        const Float cd = _mm256_castsi256_ps(pack(bounds, c, d));
        const Int even = _mm256_castps_si256(_mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(2, 0, 2, 0)));
        const Int odd = _mm256_castps_si256(_mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 1, 3, 1)));
        _mm256_store_si256(reinterpret_cast<Int *>(p), _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_store_si256(reinterpret_cast<Int *>(p + 16), _mm256_permute2x128_si256(even, odd, 0x31));
    }
    // 4 rows' values of LANES channels -> [LANES channels][2 rows], and the other two rows `channels` channels on
    static void store_column(Code *p, int channels, Int a, Int b, Int c, Int d) {
        const Int turn = _mm256_broadcastsi128_si256(_mm_set_epi32(0x0f0e0706, 0x0d0c0504, 0x0b0a0302, 0x09080100));
        const AnyCode any;
        _mm256_store_si256(reinterpret_cast<Int *>(p), _mm256_shuffle_epi8(pack(any, a, b), turn));
        _mm256_store_si256(reinterpret_cast<Int *>(p + 2 * channels), _mm256_shuffle_epi8(pack(any, c, d), turn));
    }
    // 4 pixels' values of LANES channels, each pixel to its own place
    static void store_pixels(Code *const (&p)[4], const Bounds &bounds, Int a, Int b, Int c, Int d) {
        const Int ab = _mm256_permute4x64_epi64(pack(bounds, a, b), _MM_SHUFFLE(3, 1, 2, 0));
        const Int cd = _mm256_permute4x64_epi64(pack(bounds, c, d), _MM_SHUFFLE(3, 1, 2, 0));
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
