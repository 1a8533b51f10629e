// Gated networks: first convolution, blocks, convolution after them, last convolution in float.
//
// A block is one pass over the frame, in chunks whose intermediate codes stay in the caches. Everything lies in strips
// (strips.hpp), whose columns are the tiles of 4 pixels of all products.
#pragma once
#include "dense.hpp"
#include "strips.hpp"

namespace {

constexpr int CHUNK = 24; // columns

// Lines of memory that will be needed soon, asked for a few at a time between products.
struct Ahead {
    struct Run {
        const char *from;
        ptrdiff_t bytes;
    } runs[5];
    int count = 0, run = 0;

    void add(const void *from, ptrdiff_t bytes) { runs[count++] = {static_cast<const char *>(from), bytes}; }
    AETHER_INLINE void ask(int lines) {
        for (; run < count && lines > 0; run++) {
            Run &r = runs[run];
            for (; r.bytes > 0 && lines > 0; lines--, r.from += 64, r.bytes -= 64)
                __builtin_prefetch(r.from);
            if (r.bytes > 0)
                return;
        }
    }
};

template <class S> struct PackedBlock {
    Depthwise<S> depthwise;
    Matrix<S> gates, fc2;

    void pack(const Block &b) {
        depthwise.pack(b);
        const int all = b.gate.out / S::LANES, half = tile_vectors(all, S::GATES);
        const Conv *gate = &b.gate, *main = &b.main;
        gates.pack(
            2 * all, 2 * half, 1, b.gate.in / S::K,
            [=](int t, int v, int l) {
                return Lane{v < half ? gate : main, (t * half + v % half) * S::LANES + l};
            },
            [](int k) { return Tap{k, 0, 0}; });
        fc2.pack_point(b.fc2, S::VECTORS);
    }
};

template <class S> class Gated final : public aether::Form {
    using Code = typename S::Code;

  public:
    explicit Gated(const Model &m)
        : m_(m), depth_(static_cast<int>(m.blocks.size())), blocks_(new PackedBlock<S>[depth_]),
          last_vectors_(divide_up(m.outputs(), S::LANES)) {
        first_.pack_rows(m.first, STORED, S::ROW_VECTORS);
        after_.pack_rows(m.after, m.channels, S::ROW_VECTORS);
        for (int i = 0; i < depth_; i++)
            blocks_[i].pack(m.blocks[i]);
        const int lanes = last_vectors_ * S::LANES, outputs = m.outputs(), taps = 9 * m.channels;
        last_ = static_cast<float *>(last_buffer_.get(sizeof(float) * lanes * (taps + 1)));
        for (int t = 0; t <= taps; t++)
            for (int l = 0; l < lanes; l++)
                last_[t * lanes + l] = l >= outputs ? 0 : t ? m.last_weight[(t - 1) * outputs + l] : m.last_bias[l];
    }
    ~Gated() override { delete[] blocks_; }

    void run(const Picture &p, aether::Workers &workers) override {
        const int width = p.width + 2 * m_.border, height = p.height + 2 * m_.border, channels = m_.channels;
        const int strips = divide_up(height, QUAD);
        Image<S> image;
        image.width = width, image.height = height, image.pitch = Image<S>::pitch_of(width);
        const int image_rows = strips * QUAD + 2;
        image.codes =
            static_cast<Code *>(workers.frames[0].get(sizeof(Code) * image.pitch * static_cast<size_t>(image_rows)));
        const size_t as_strips = Strips<S>::bytes(width, strips, channels);
        const size_t as_rows = Rows<S>::bytes(width, height, channels);
        const size_t bytes = as_strips > as_rows ? as_strips : as_rows;
        Code *from = static_cast<Code *>(workers.frames[1].get(bytes));
        Code *to = static_cast<Code *>(workers.frames[2].get(bytes));
        const Stream stream(static_cast<float *>(workers.frames[3].get(Stream::bytes(width, strips, channels))), width,
                            strips, channels);
        const size_t middle = static_cast<size_t>(CHUNK + S::COLUMNS) * QUAD;
        const size_t scratch = sizeof(Code) * middle * (channels + (m_.hidden + 63) / 64 * 64);
        char *const memory = static_cast<char *>(workers.scratch.get(scratch * workers.threads()));

        run_pass(workers, image_rows, [&](int y, int) { image.fill(m_, p, y, image_rows); });
        run_pass(workers, strips + 2, [&](int unit, int) {
            Strips<S>(from, width, strips, channels).clear_around(unit - 1);
            Strips<S>(to, width, strips, channels).clear_around(unit - 1);
            stream.clear_around(unit - 1);
        });
        // Before the convolution after the blocks, codes go into rows, as it takes them.
        const auto pass = [&](bool is_last, auto work) {
            const Strips<S> next(to, width, strips, channels);
            const Rows<S> rows(to, width, height, channels);
            run_pass(workers, strips, [&](int s, int thread) {
                if (is_last)
                    for (int y = s * QUAD; y < smaller((s + 1) * QUAD, height); y++)
                        rows.clear_around(y);
                const int inside = smaller(QUAD, height - s * QUAD);
                const auto put_column = [&](int x, int channel, const typename S::Int(&codes)[QUAD]) AETHER_INLINED {
                    S::store_column(next.at(x, s) + channel * S::K, channels, codes[0], codes[1], codes[2], codes[3]);
                };
                const auto put_rows = [&](int x, int channel, const typename S::Int(&codes)[QUAD]) AETHER_INLINED {
                    alignas(64) Code beyond[S::LANES];
                    Code *places[QUAD];
                    AETHER_UNROLL for (int p = 0; p < QUAD; p++) places[p] =
                        p < inside ? rows.at(x, s * QUAD + p) + channel : beyond;
                    S::store_pixels(places, codes[0], codes[1], codes[2], codes[3]);
                };
                if (is_last) {
                    work(s, thread, put_rows, nullptr);
                } else {
                    work(s, thread, put_column, &next);
                    next.clear_rows(inside, s, 0, width);
                }
            });
            Code *const swap = from;
            from = to, to = swap;
        };
        pass(depth_ == 0, [&](int s, int, auto &put, const Strips<S> *) { first_strip(image, stream, s, put); });
        for (int i = 0; i < depth_; i++) {
            const Strips<S> codes(from, width, strips, channels);
            pass(i + 1 == depth_, [&](int s, int thread, auto &put, const Strips<S> *next) {
                Code *const a = reinterpret_cast<Code *>(memory + thread * scratch);
                block_strip(i, codes, stream, s, a, a + middle * channels, put, next);
            });
        }
        const Rows<S> rows(from, width, height, channels);
        run_pass(workers, height, [&](int y, int) { after_row(rows, image, stream, y); });
        if (height % QUAD != 0)
            for (int y = height; y < strips * QUAD; y++)
                for (int x = 0; x < width; x++)
                    std::memset(stream.pixel(x, y), 0, sizeof(float) * channels);
        run_pass(workers, p.height, [&](int y, int) { last_row(stream, p, y); });
    }

  private:
    float step_after(int block) const {
        return block + 1 < depth_ ? m_.blocks[block + 1].inverse_step : m_.after_inverse_step;
    }

    template <class Put> void first_strip(const Image<S> &image, const Stream &stream, int s, Put &put) const {
        const auto inverse_step = S::set(step_after(-1));
        with_constant<S::ROW_VECTORS>(first_.vectors, [&](auto n) AETHER_APART {
            constexpr int N = decltype(n)::value;
            for (int x = 0; x < stream.width; x++)
                for (int tile = 0; tile < first_.tiles; tile++) {
                    const Code *pixels[QUAD];
                    AETHER_UNROLL for (int p = 0; p < QUAD; p++) pixels[p] = image.around(x, s * QUAD + p);
                    typename S::Int sums[QUAD][N];
                    sum_products<S, QUAD, N, S::K>(first_, tile, pixels, image.pitch, sums);
                    AETHER_UNROLL for (int v = 0; v < N; v++) {
                        const int channel = (tile * N + v) * S::LANES;
                        typename S::Int codes[QUAD];
                        AETHER_UNROLL for (int p = 0; p < QUAD; p++) {
                            const auto it = value<S>(sums[p][v], first_.scale + channel, first_.bias + channel);
                            S::store(stream.at(x, s) + p * stream.channels + channel, it);
                            codes[p] = S::round_to_code(S::mul(it, inverse_step));
                        }
                        put(x, channel, codes);
                    }
                }
        });
    }

    template <class Put>
    void block_strip(int block, const Strips<S> &from, const Stream &stream, int s, Code *middle, Code *product,
                     Put &put, const Strips<S> *next) const {
        const PackedBlock<S> &b = blocks_[block];
        const int chunks = divide_up(from.width, CHUNK);
        for (int i = 0; i < chunks; i++) {
            const int x = from.width * i / chunks, columns = from.width * (i + 1) / chunks - x;
            b.depthwise.run(from, x, s, columns, middle);
            Ahead ahead;
            const ptrdiff_t bytes = columns * from.column * static_cast<ptrdiff_t>(sizeof(Code));
            ahead.add(stream.at(x, s), columns * stream.column * static_cast<ptrdiff_t>(sizeof(float)));
            if (next)
                ahead.add(next->at(x, s), bytes);
            if (i + 1 < chunks)
                for (int strip = -1; strip <= 1; strip++)
                    ahead.add(from.at(x + columns + SIDE, s + strip), bytes);
            multiply_gates(b.gates, columns, middle, product, ahead);
            add_products(b.fc2, step_after(block), columns, product, stream, x, s, put);
        }
    }

    // relu(gate) * main of a chunk, as codes.
    void multiply_gates(const Matrix<S> &m, int columns, const Code *from, Code *to, Ahead &ahead) const {
        const auto zero = S::set(0);
        const int lines = divide_up(60, m.tiles);
        with_constant<S::GATES>(m.vectors / 2, [&](auto n) AETHER_APART {
            constexpr int HALF = decltype(n)::value, N = 2 * HALF;
            for (int tile = 0; tile < m.tiles; tile++) {
                const float *scale = m.scale + static_cast<size_t>(tile) * N * S::LANES;
                const float *bias = m.bias + static_cast<size_t>(tile) * N * S::LANES;
                for (int column = 0; column < columns; column++) {
                    ahead.ask(lines);
                    typename S::Int sums[QUAD][N];
                    quad_sums(m, tile, from + static_cast<ptrdiff_t>(column) * QUAD * m_.channels, sums);
                    Code *place = to + (static_cast<ptrdiff_t>(column) * m_.hidden + tile * HALF * S::LANES) * QUAD;
                    AETHER_UNROLL for (int v = 0; v < HALF; v++) {
                        const int gate = v * S::LANES, main = (v + HALF) * S::LANES;
                        typename S::Int codes[QUAD];
                        AETHER_UNROLL for (int p = 0; p < QUAD; p++) codes[p] = S::round_to_code(
                            S::mul(S::max(value<S>(sums[p][v], scale + gate, bias + gate), zero),
                                   value<S>(sums[p][v + HALF], scale + main, bias + main)));
                        S::store_quad(place + v * S::LANES * QUAD, codes[0], codes[1], codes[2], codes[3]);
                    }
                }
            }
        });
    }

    // fc2 of a chunk, added to the residual stream; put gets the next layer's codes.
    template <class Put>
    void add_products(const Matrix<S> &m, float step, int columns, const Code *from, const Stream &stream, int x, int s,
                      Put &put) const {
        const auto inverse_step = S::set(step);
        with_constant<S::VECTORS>(m.vectors, [&](auto n) AETHER_APART {
            constexpr int N = decltype(n)::value;
            for (int tile = 0; tile < m.tiles; tile++)
                for (int column = 0; column < columns; column++) {
                    typename S::Int sums[QUAD][N];
                    quad_sums(m, tile, from + static_cast<ptrdiff_t>(column) * QUAD * m_.hidden, sums);
                    float *const residual = stream.at(x + column, s);
                    AETHER_UNROLL for (int v = 0; v < N; v++) {
                        const int channel = (tile * N + v) * S::LANES;
                        typename S::Int codes[QUAD];
                        AETHER_UNROLL for (int p = 0; p < QUAD; p++) {
                            float *const place = residual + p * m_.channels + channel;
                            const auto it = S::add(S::load(static_cast<const float *>(place)),
                                                   value<S>(sums[p][v], m.scale + channel, m.bias + channel));
                            S::store(place, it);
                            codes[p] = S::round_to_code(S::mul(it, inverse_step));
                        }
                        put(x + column, channel, codes);
                    }
                }
        });
    }

    template <int N>
    static AETHER_INLINE void quad_sums(const Matrix<S> &m, int tile, const Code *column, typename S::Int (&sums)[QUAD][N]) {
        const Code *pixels[QUAD];
        AETHER_UNROLL for (int p = 0; p < QUAD; p++) pixels[p] = column + p * S::K;
        sum_products<S, QUAD, N, QUAD * S::K>(m, tile, pixels, 0, sums);
    }

    // The convolution after the blocks, and the first one once more, into the residual stream, which is done with.
    void after_row(const Rows<S> &codes, const Image<S> &image, const Stream &stream, int y) const {
        with_constant<S::ROW_VECTORS>(after_.vectors, [&](auto n) AETHER_APART {
            constexpr int N = decltype(n)::value, M = S::ROW_PIXELS;
            convolve_row<S, M, N>(after_, codes, codes.channels, 0, codes.width, y, [&](int tile, int x, auto &sums) AETHER_INLINED {
                float *const place = stream.pixel(x, y);
                const int count = smaller(M, codes.width - x);
                alignas(64) float kept[M][N * S::LANES];
                AETHER_UNROLL for (int v = 0; v < N; v++) {
                    const int channel = (tile * N + v) * S::LANES;
                    AETHER_UNROLL for (int p = 0; p < M; p++) S::store(
                        kept[p] + v * S::LANES, value<S>(sums[p][v], after_.scale + channel, after_.bias + channel));
                }
                const Code *pixels[M];
                AETHER_UNROLL for (int p = 0; p < M; p++) pixels[p] = image.around(x, y) + p * STORED;
                sum_products<S, M, N, S::K>(first_, tile, pixels, image.pitch, sums);
                AETHER_UNROLL for (int v = 0; v < N; v++) {
                    const int channel = (tile * N + v) * S::LANES;
                    AETHER_UNROLL for (int p = 0; p < M; p++) if (p < count) S::store(
                        place + p * stream.column + channel,
                        S::add(S::load(kept[p] + v * S::LANES),
                               value<S>(sums[p][v], first_.scale + channel, first_.bias + channel)));
                }
            });
        });
    }

    void last_row(const Stream &stream, const Picture &p, int y) const {
        with_constant<48 / S::LANES>(last_vectors_, [&](auto n) AETHER_APART {
            constexpr int N = decltype(n)::value, M = S::FLOAT_PIXELS;
            const int channels = m_.channels;
            for (int x = 0; x < p.width; x += M) {
                const float *pixels[3][M]; // those beyond the frame are computed from the last pixel, and not kept
                for (int row = 0; row < 3; row++)
                    AETHER_UNROLL for (int i = 0; i < M; i++) pixels[row][i] =
                        stream.pixel(smaller(x + i, p.width - 1) + m_.border - 1, y + m_.border + row - 1);
                typename S::Float sums[M][N];
                AETHER_UNROLL for (int i = 0; i < M; i++)
                    AETHER_UNROLL for (int v = 0; v < N; v++) sums[i][v] = S::load(last_ + v * S::LANES);
                const float *w = last_ + N * S::LANES;
                for (int tap = 0; tap < 9; tap++) {
                    const float *at[M];
                    AETHER_UNROLL for (int i = 0; i < M; i++) at[i] = pixels[tap / 3][i] + tap % 3 * stream.column;
                    for (int c = 0; c < channels; c++, w += N * S::LANES)
                        AETHER_UNROLL for (int i = 0; i < M; i++) {
                            const auto it = S::set(at[i][c]);
                            AETHER_UNROLL for (int v = 0; v < N; v++) sums[i][v] =
                                S::fma(S::load(w + v * S::LANES), it, sums[i][v]);
                        }
                }
                alignas(64) float values[N * S::LANES];
                AETHER_UNROLL for (int i = 0; i < M; i++) {
                    if (x + i >= p.width)
                        break;
                    AETHER_UNROLL for (int v = 0; v < N; v++) S::store(values + v * S::LANES, sums[i][v]);
                    put_pixel(m_, p, x + i, y, values);
                }
            }
        });
    }

    const Model &m_;
    const int depth_;
    Matrix<S> first_, after_;
    PackedBlock<S> *blocks_;
    const int last_vectors_;
    float *last_ = nullptr; // [bias, then 9 taps x channels][LANES * last_vectors_]
    Buffer last_buffer_;
};

} // namespace
