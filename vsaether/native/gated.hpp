// Gated networks: first convolution, blocks, and the folded convolution at the end (tail.hpp).
//
// A block is one pass over the frame, in chunks whose intermediate codes stay in the caches. Everything lies in strips
// (strips.hpp), whose columns are the tiles of 4 pixels of all products.
#pragma once
#include "dense.hpp"
#include "strips.hpp"
#include "tail.hpp"

namespace {

constexpr int CHUNK = 24; // columns
constexpr int PART = 4 * CHUNK; // columns, the fewest into which strips are divided
constexpr int UNITS = 8;        // of work a thread, at least, so that all end at about the same time

struct Columns {
    int from, to;
};

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
          tails_(new Tail[m.tails.size()]) {
        first_.pack_rows(m.first, STORED, S::ROW_VECTORS);
        for (int i = 0; i < depth_; i++)
            blocks_[i].pack(m.blocks[i]);
        for (size_t i = 0; i < m.tails.size(); i++)
            tails_[i].pack(m.tails[i], m);
    }
    ~Gated() override {
        delete[] blocks_;
        delete[] tails_;
    }

    void run(const Picture &p, aether::Workers &workers) override {
        const int width = p.width + 2 * m_.border, height = p.height + 2 * m_.border, channels = m_.channels;
        const int strips = divide_up(height, QUAD);
        Image<S> image;
        image.width = width, image.height = height, image.pitch = Image<S>::pitch_of(width);
        const int image_rows = strips * QUAD + 2 * AROUND;
        image.codes =
            static_cast<Code *>(workers.frames[0].get(sizeof(Code) * image.pitch * static_cast<size_t>(image_rows)));
        const size_t as_strips = Strips<S>::bytes(width, strips, channels);
        const size_t as_rows = Rows<S>::bytes(width, height, channels);
        const size_t bytes = as_strips > as_rows ? as_strips : as_rows;
        Code *from = static_cast<Code *>(workers.frames[1].get(bytes));
        Code *to = static_cast<Code *>(workers.frames[2].get(bytes));
        const Stream stream(static_cast<float *>(workers.frames[3].get(Stream::bytes(width, strips, channels))), width,
                            channels);
        const size_t middle = static_cast<size_t>(CHUNK + S::COLUMNS) * QUAD;
        const size_t scratch = sizeof(Code) * middle * (channels + (m_.hidden + 63) / 64 * 64);
        char *const memory = static_cast<char *>(workers.scratch.get(scratch * workers.threads()));

        run_pass(workers, image_rows, [&](int y, int) { image.fill(m_, p, y); });
        run_pass(workers, strips + 2, [&](int unit, int) {
            Strips<S>(from, width, strips, channels).clear_around(unit - 1);
            Strips<S>(to, width, strips, channels).clear_around(unit - 1);
        });
        // Before the convolution at the end, codes go into rows, as it takes them.
        const auto pass = [&](bool is_last, auto work) {
            const Strips<S> next(to, width, strips, channels);
            const Rows<S> rows(to, width, height, channels);
            const int parts = smaller(divide_up(width, PART), divide_up(UNITS * workers.threads(), strips));
            run_pass(workers, strips * parts, [&](int unit, int thread) {
                const int s = unit / parts, part = unit % parts;
                const Columns columns = {width * part / parts, width * (part + 1) / parts};
                if (is_last && part == 0)
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
                    S::store_pixels(places, typename S::AnyCode(), codes[0], codes[1], codes[2], codes[3]);
                };
                if (is_last) {
                    work(s, columns, thread, put_rows, nullptr);
                } else {
                    work(s, columns, thread, put_column, &next);
                    next.clear_rows(inside, s, columns.from, columns.to);
                }
            });
            Code *const swap = from;
            from = to, to = swap;
        };
        pass(depth_ == 0, [&](int s, Columns columns, int, auto &put, const Strips<S> *) {
            first_strip(image, stream, s, columns, put);
        });
        for (int i = 0; i < depth_; i++) {
            const Strips<S> codes(from, width, strips, channels);
            pass(i + 1 == depth_, [&](int s, Columns columns, int thread, auto &put, const Strips<S> *next) {
                Code *const a = reinterpret_cast<Code *>(memory + thread * scratch);
                block_strip(i, codes, stream, s, columns, a, a + middle * channels, put, next);
            });
        }
        const Rows<S> rows(from, width, height, channels);
        run_pass(workers, p.height, [&](int y, int) { tail_row(rows, image, p, y); });
    }

  private:
    float step_after(int block) const {
        return block + 1 < depth_ ? m_.blocks[block + 1].inverse_step : m_.tail_inverse_step;
    }

    template <class Put> void first_strip(const Image<S> &image, const Stream &stream, int s, Columns columns, Put &put) const {
        const auto inverse_step = S::set(step_after(-1));
        with_constant<S::ROW_VECTORS>(first_.vectors, [&](auto n) AETHER_APART {
            constexpr int N = decltype(n)::value;
            for (int x = columns.from; x < columns.to; x++)
                for (int tile = 0; tile < first_.tiles; tile++) {
                    const Code *pixels[QUAD];
                    AETHER_UNROLL for (int p = 0; p < QUAD; p++) pixels[p] = image.at(x - 1, s * QUAD + p - 1);
                    typename S::Int sums[QUAD][N];
                    begin_sums<S>(first_, tile, sums);
                    add_segments<S>(first_, tile, pixels, image.pitch, sums);
                    AETHER_UNROLL for (int v = 0; v < N; v++) {
                        const int channel = (tile * N + v) * S::LANES;
                        typename S::Int codes[QUAD];
                        AETHER_UNROLL for (int p = 0; p < QUAD; p++) {
                            const auto it = value<S>(sums[p][v], first_.scale + channel, first_.bias + channel);
                            S::store(stream.at(x, s) + p * stream.channels + channel, it);
                            codes[p] = S::round(S::mul(it, inverse_step));
                        }
                        put(x, channel, codes);
                    }
                }
        });
    }

    template <class Put>
    void block_strip(int block, const Strips<S> &from, const Stream &stream, int s, Columns all, Code *middle,
                     Code *product, Put &put, const Strips<S> *next) const {
        const PackedBlock<S> &b = blocks_[block];
        const int width = all.to - all.from, chunks = divide_up(width, CHUNK);
        for (int i = 0; i < chunks; i++) {
            const int x = all.from + width * i / chunks, columns = all.from + width * (i + 1) / chunks - x;
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

    // relu(gate) * main of a chunk, as codes. (gate's scale is in main's: multiplications keep the products' ports busy.)
    void multiply_gates(const Matrix<S> &m, int columns, const Code *from, Code *to, Ahead &ahead) const {
        const auto zero = S::set(0), most = S::set(1000.0F); // what is too large for an int32 would turn negative
        const int lines = divide_up(60, m.tiles);
        with_constant<S::GATES>(m.vectors / 2, [&](auto n) AETHER_APART {
            constexpr int HALF = decltype(n)::value, N = 2 * HALF;
            for (int tile = 0; tile < m.tiles; tile++) {
                const float *scale = m.scale + static_cast<size_t>(tile) * N * S::LANES;
                const float *bias = m.bias + static_cast<size_t>(tile) * N * S::LANES;
                const auto ask = [&] AETHER_INLINED { ahead.ask(lines); };
                quad_tile<N, HALF>(m, tile, columns, from, ask, [&](int column, int v, const typename S::Int(&sums)[QUAD][N]) AETHER_INLINED {
                    const int gate = v * S::LANES, main = (v + HALF) * S::LANES;
                    typename S::Int codes[QUAD];
                    AETHER_UNROLL for (int p = 0; p < QUAD; p++) codes[p] = S::round(
                        S::min(S::mul(S::max(S::add(S::to_float(sums[p][v]), S::load(bias + gate)), zero),
                                      value<S>(sums[p][v + HALF], scale + main, bias + main)), most));
                    Code *place = to + (static_cast<ptrdiff_t>(column) * m_.hidden + (tile * HALF + v) * S::LANES) * QUAD;
                    S::store_quad(place, typename S::AnyCode(), codes[0], codes[1], codes[2], codes[3]);
                });
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
                quad_tile<N, N>(m, tile, columns, from, [] AETHER_INLINED {}, [&](int column, int v, const typename S::Int(&sums)[QUAD][N]) AETHER_INLINED {
                    const int channel = (tile * N + v) * S::LANES;
                    float *const residual = stream.at(x + column, s) + channel;
                    typename S::Int codes[QUAD];
                    AETHER_UNROLL for (int p = 0; p < QUAD; p++) {
                        float *const place = residual + p * m_.channels;
                        const auto it = S::add(S::load(static_cast<const float *>(place)),
                                               value<S>(sums[p][v], m.scale + channel, m.bias + channel));
                        S::store(place, it);
                        codes[p] = S::round(S::mul(it, inverse_step));
                    }
                    put(x + column, channel, codes);
                });
        });
    }

    // One tile of outputs of all columns: finish gets the sums of each column, for each v < PARTS once. Where there are
    // registers for it, that happens while the next column's products are added up: they keep two of the execution
    // ports busy, and all the rest of the work goes to others (without that, gates take 1.06 of the time, fc2 1.2).
    template <int N, int PARTS, class Before, class Finish>
    static AETHER_INLINE void quad_tile(const Matrix<S> &m, int tile, int columns, const Code *from, Before before,
                                        Finish finish) {
        typename S::Int done[QUAD][N];
        begin_sums<S>(m, tile, done);
        const ptrdiff_t codes_a_column = static_cast<ptrdiff_t>(m.steps) * QUAD * S::K;
        for (int column = 0; column < columns; column++, from += codes_a_column) {
            before();
            const Code *pixels[QUAD];
            AETHER_UNROLL for (int p = 0; p < QUAD; p++) pixels[p] = from + p * S::K;
            const typename S::Weight *w = m.tile(tile);
            typename S::Int sums[QUAD][N];
            begin_sums<S>(m, tile, sums);
            int step = 0;
            if (S::OVERLAPPED && column > 0)
                AETHER_UNROLL for (int v = 0; v < PARTS; v++) {
                    const int end = m.steps * (v + 1) / (PARTS + 1) / UNROLLED * UNROLLED;
                    add_steps<S, QUAD, N, QUAD * S::K, UNROLLED>(w, pixels, step, end, sums);
                    step = end;
                    finish(column - 1, v, done);
                }
            add_steps<S, QUAD, N, QUAD * S::K, UNROLLED>(w, pixels, step, m.steps, sums);
            if (S::OVERLAPPED)
                AETHER_UNROLL for (int p = 0; p < QUAD; p++)
                    AETHER_UNROLL for (int v = 0; v < N; v++) done[p][v] = sums[p][v];
            else
                AETHER_UNROLL for (int v = 0; v < PARTS; v++) finish(column, v, sums);
        }
        if (S::OVERLAPPED)
            AETHER_UNROLL for (int v = 0; v < PARTS; v++) finish(columns - 1, v, done);
    }

    // The convolution at the end, its two sources one after the other.
    struct Tail {
        Matrix<S> codes, image;
        Buffer buffer;
        const float *high = nullptr, *low = nullptr, *bias = nullptr; // of the outputs, and zeros

        void pack(const Conv &c, const Model &m) {
            codes.pack_rows(c, m.channels, S::ROW_VECTORS);
            image.pack_rows(c, STORED, S::ROW_VECTORS, m.channels);
            const int outputs = m.outputs();
            auto *factors = static_cast<float *>(buffer.get(3 * OUTPUTS * sizeof(float)));
            high = factors, low = factors + OUTPUTS, bias = low + OUTPUTS;
            for (int i = 0; i < 3 * OUTPUTS; i++)
                factors[i] = 0;
            for (int o = 0; o < outputs; o++) {
                factors[o] = c.scale[o];
                factors[OUTPUTS + o] = c.scale[outputs + o];
                factors[2 * OUTPUTS + o] = c.bias[outputs + o];
            }
        }
    };

    void tail_row(const Rows<S> &codes, const Image<S> &image, const Picture &p, int y) const {
        using namespace aether;
        if (m_.border > 0)
            return tail_run(tails_[0], codes, image, p, 0, p.width, y);
        const int edges = (y == 0) * TOP + (y == p.height - 1) * BOTTOM;
        tail_run(tails_[edges + LEFT + (p.width == 1) * RIGHT], codes, image, p, 0, 1, y);
        tail_run(tails_[edges], codes, image, p, 1, p.width - 1, y);
        if (p.width > 1)
            tail_run(tails_[edges + RIGHT], codes, image, p, p.width - 1, p.width, y);
    }

    void tail_run(const Tail &tail, const Rows<S> &codes, const Image<S> &image, const Picture &picture, int from,
                  int to, int y) const {
        // Scale 2 has 24 outputs, on AVX-512 a vector and a half: a case of its own, one more than there are vectors.
        const int most = S::ROW_VECTORS, kind = tail.codes.half ? most + 1 : tail.codes.vectors;
        with_constant<S::ROW_VECTORS + S::HALVES>(kind, [&](auto n) AETHER_APART {
            constexpr bool HALF = decltype(n)::value > S::ROW_VECTORS;
            constexpr int N = HALF ? 2 : decltype(n)::value, M = S::ROW_PIXELS;
            const int reach = AROUND - m_.border, outputs = m_.outputs();
            // Each output is two sums, a high and a low one, which lie `outputs` values apart.
            alignas(64) float sums_of[M][2 * OUTPUTS];
            alignas(64) float values[OUTPUTS];
            for (int x = from; x < to; x += M) {
                for (int tile = 0; tile < tail.codes.tiles; tile++) {
                    const Code *pixels[M], *colours[M];
                    AETHER_UNROLL for (int p = 0; p < M; p++) pixels[p] = codes.at(x + p - reach, y - reach);
                    AETHER_UNROLL for (int p = 0; p < M; p++) colours[p] = image.at(x + p - reach, y - reach);
                    typename S::Int sums[M][N];
                    begin_sums<S>(tail.codes, tile, sums);
                    add_segments<S, M, N, HALF>(tail.codes, tile, pixels, codes.pitch, sums);
                    const int32_t *start = tail.image.start + tile * N * S::LANES;
                    AETHER_UNROLL for (int v = 0; v < N; v++) {
                        const auto more = S::load(start + v * S::LANES);
                        AETHER_UNROLL for (int p = 0; p < M; p++) sums[p][v] = S::add(sums[p][v], more);
                    }
                    add_segments<S, M, N, HALF>(tail.image, tile, colours, image.pitch, sums);
                    AETHER_UNROLL for (int v = 0; v < N; v++)
                        AETHER_UNROLL for (int p = 0; p < M; p++)
                            S::store(sums_of[p] + (tile * N + v) * S::LANES, S::to_float(sums[p][v]));
                }
                for (int p = 0; p < smaller(M, to - x); p++) {
                    for (int o = 0; o < outputs; o += S::LANES)
                        S::store(values + o,
                                 S::fma(S::load_unaligned(sums_of[p] + o), S::load(tail.high + o),
                                        S::fma(S::load_unaligned(sums_of[p] + outputs + o), S::load(tail.low + o),
                                               S::load(tail.bias + o))));
                    put_pixel(m_, picture, x + p, y, values);
                }
            }
        });
    }

    static constexpr int OUTPUTS = 64; // 48 of scale 4, and what a vector reaches beyond
    const Model &m_;
    const int depth_;
    Matrix<S> first_;
    PackedBlock<S> *blocks_;
    Tail *tails_; // as in the model
};

} // namespace
