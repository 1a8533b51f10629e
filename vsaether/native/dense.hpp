// Dense networks: 3x3 convolutions with ReLU, codes from layer to layer. A frame of codes lies in rows of pixels of all
// their channels, so that the three pixels of a kernel's row are one run of codes.
#pragma once
#include "image.hpp"

namespace {

// Rows of pixels of `channels` codes, with AROUND pixels of zeros around, and as many more to the right as tiles reach
// over.
template <class S> struct Rows {
    int width, height, channels;
    ptrdiff_t pitch;
    typename S::Code *codes;

    static ptrdiff_t pitch_of(int width, int channels) {
        const ptrdiff_t pitch = static_cast<ptrdiff_t>(width + 2 * AROUND + S::ROW_PIXELS) * channels;
        return pitch * static_cast<ptrdiff_t>(sizeof(typename S::Code)) % 4096 == 0 ? pitch + 64 : pitch;
    }
    static size_t bytes(int width, int height, int channels) {
        return static_cast<size_t>(pitch_of(width, channels)) * (height + 2 * AROUND) * sizeof(typename S::Code);
    }
    Rows(typename S::Code *memory, int w, int h, int c)
        : width(w), height(h), channels(c), pitch(pitch_of(w, c)), codes(memory) {}

    typename S::Code *at(int x, int y) const {
        return codes + (y + AROUND) * pitch + static_cast<ptrdiff_t>(x + AROUND) * channels;
    }

    void clear(typename S::Code *from, typename S::Code *to) const {
        while (from < to)
            *from++ = S::ZERO;
    }
    // What is around row y: its ends, and the rows beyond the first and the last.
    void clear_around(int y) const {
        clear(at(-AROUND, y), at(0, y));
        clear(at(width, y), at(-AROUND, y) + pitch);
        if (y == 0)
            clear(at(-AROUND, -AROUND), at(-AROUND, 0));
        if (y == height - 1)
            clear(at(-AROUND, height), at(-AROUND, height + AROUND));
    }
};

// One row of a 3x3 convolution: epilogue(tile, x, sums) for every M pixels, or QUAD where no more are left; it cuts off
// what is beyond the row's end.
template <class S, int M, int N, class Source, class Epilogue>
AETHER_INLINE void convolve_row(const Matrix<S> &m, const Source &source, int pixel, int from, int to, int y,
                                Epilogue epilogue) {
    static_assert(M == QUAD || M == 2 * QUAD);
    const auto convolve = [&](auto count, int tile, int x) AETHER_INLINED {
        constexpr int COUNT = decltype(count)::value;
        const typename S::Code *pixels[COUNT];
        AETHER_UNROLL for (int p = 0; p < COUNT; p++) pixels[p] = source.at(x - 1, y - 1) + p * pixel;
        typename S::Int sums[COUNT][N];
        begin_sums<S>(m, tile, sums);
        add_segments<S>(m, tile, pixels, source.pitch, sums);
        epilogue(tile, x, sums);
    };
    for (int tile = 0; tile < m.tiles; tile++) {
        int x = from;
        for (; x < to - (M - QUAD); x += M)
            convolve(std::integral_constant<int, M>(), tile, x);
        if (M > QUAD && x < to)
            convolve(std::integral_constant<int, QUAD>(), tile, x);
    }
}

template <class S> class Dense final : public aether::Form {
    using Relu = typename S::Relu; // all layers but the first take codes that are not negative

  public:
    explicit Dense(const Model &m)
        : m_(m), depth_(static_cast<int>(m.layers.size())), layers_(new Matrix<Relu>[depth_]) {
        first_.pack_rows(m.first, STORED, S::ROW_VECTORS);
        for (int i = 0; i < depth_; i++)
            layers_[i].pack_rows(m.layers[i], m.channels, Relu::ROW_VECTORS);
        last_.pack_rows(m.last, m.channels, Relu::ROW_VECTORS);
    }
    ~Dense() override { delete[] layers_; }

    void run(const Picture &p, aether::Workers &workers) override {
        const int width = p.width + 2 * m_.border, height = p.height + 2 * m_.border;
        Image<S> image;
        image.width = width, image.height = height, image.pitch = Image<S>::pitch_of(width);
        const int rows = height + 2 * AROUND;
        image.codes = static_cast<typename S::Code *>(
            workers.frames[0].get(image.pitch * sizeof(typename S::Code) * static_cast<size_t>(rows)));
        const size_t bytes = Rows<Relu>::bytes(width, height, m_.channels);
        Rows<Relu> a(static_cast<typename Relu::Code *>(workers.frames[1].get(bytes)), width, height, m_.channels);
        Rows<Relu> b(static_cast<typename Relu::Code *>(workers.frames[2].get(bytes)), width, height, m_.channels);

        run_pass(workers, rows, [&](int y, int) { image.fill(m_, p, y); });
        run_pass(workers, height, [&](int y, int) {
            a.clear_around(y);
            b.clear_around(y);
            layer_row(first_, image, STORED, a, y);
        });
        Rows<Relu> *from = &a, *to = &b;
        for (int i = 0; i < depth_; i++) {
            run_pass(workers, height, [&](int y, int) { layer_row(layers_[i], *from, m_.channels, *to, y); });
            Rows<Relu> *const swap = from;
            from = to, to = swap;
        }
        run_pass(workers, p.height, [&](int y, int) { last_row(*from, p, y); });
    }

  private:
    template <class T, class Source>
    static void layer_row(const Matrix<T> &m, const Source &source, int pixel, const Rows<Relu> &to, int y) {
        with_constant<T::ROW_VECTORS>(m.vectors, [&](auto n) AETHER_APART {
            constexpr int N = decltype(n)::value, M = T::ROW_PIXELS;
            const typename Relu::Bounds relu(0, 127);
            convolve_row<T, M, N>(m, source, pixel, 0, to.width, y, [&](int tile, int x, auto &sums) AETHER_INLINED {
                constexpr int COUNT = std::extent_v<std::remove_reference_t<decltype(sums)>>;
                alignas(64) typename Relu::Code beyond[T::LANES];
                AETHER_UNROLL for (int v = 0; v < N; v++) {
                    const int channel = (tile * N + v) * T::LANES;
                    typename T::Int codes[COUNT];
                    AETHER_UNROLL for (int p = 0; p < COUNT; p++) codes[p] =
                        T::round(value<T>(sums[p][v], m.scale + channel, m.bias + channel));
                    AETHER_UNROLL for (int p = 0; p < COUNT; p += QUAD) {
                        typename Relu::Code *places[QUAD];
                        AETHER_UNROLL for (int i = 0; i < QUAD; i++) places[i] =
                            x + p + i < to.width ? to.at(x + p + i, y) + channel : beyond;
                        Relu::store_pixels(places, relu, codes[p], codes[p + 1], codes[p + 2], codes[p + 3]);
                    }
                }
            });
        });
    }

    void last_row(const Rows<Relu> &from, const Picture &picture, int y) const {
        const int border = m_.border;
        with_constant<Relu::ROW_VECTORS>(last_.vectors, [&](auto n) AETHER_APART {
            constexpr int N = decltype(n)::value, M = Relu::ROW_PIXELS;
            // Scales up to 4 have 48 outputs; a tile may hold a part of them.
            alignas(64) float values[M][48 + 16];
            for (int x = 0; x < picture.width; x += M) {
                for (int tile = 0; tile < last_.tiles; tile++) {
                    const typename Relu::Code *pixels[M];
                    AETHER_UNROLL for (int p = 0; p < M; p++) pixels[p] =
                        from.at(x + p + border - 1, y + border - 1);
                    typename Relu::Int sums[M][N];
                    begin_sums<Relu>(last_, tile, sums);
                    add_segments<Relu>(last_, tile, pixels, from.pitch, sums);
                    AETHER_UNROLL for (int v = 0; v < N; v++) {
                        const int channel = (tile * N + v) * Relu::LANES;
                        AETHER_UNROLL for (int p = 0; p < M; p++) Relu::store(
                            values[p] + channel, value<Relu>(sums[p][v], last_.scale + channel, last_.bias + channel));
                    }
                }
                for (int p = 0; p < smaller(M, picture.width - x); p++)
                    put_pixel(m_, picture, x + p, y, values[p]);
            }
        });
    }

    const Model &m_;
    const int depth_;
    Matrix<S> first_;
    Matrix<Relu> last_;
    Matrix<Relu> *layers_;
};

} // namespace
