// Gated networks: first convolution, blocks, convolution after them, last convolution in float.
//
// A block is one pass over the frame, in chunks whose intermediate codes stay in the caches. Everything lies in strips
// of 4 rows, and in them in columns (4 rows of one x), the tiles of 4 pixels of all products:
//   codes of a block's input   Strips:  [strip][x][4 / K][channels][K rows]    a dword: K rows of a channel
//   residual stream            float32: [strip][x][4 rows][channels]
//   codes between the products (chunk): [x][channels / K][4 rows][K channels]  a dword: K channels of a row
#pragma once
#include "dense.hpp"

namespace {

using aether::Block;

constexpr int SIDE = 4; // columns of zeros left of a frame of codes; a kernel reaches 3
constexpr int CHUNK = 24; // columns

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

// The residual stream, with one column and one strip of zeros around.
struct Stream {
    int width, strips, channels;
    ptrdiff_t column, strip; // floats
    float *values;

    static size_t bytes(int width, int strips, int channels) {
        return static_cast<size_t>(width + 2) * (strips + 2) * QUAD * channels * sizeof(float);
    }
    Stream(float *memory, int w, int n, int c)
        : width(w), strips(n), channels(c), column(static_cast<ptrdiff_t>(QUAD) * c), strip((w + 2) * column),
          values(memory) {}
    float *at(int x, int s) const { return values + (s + 1) * strip + (x + 1) * column; }
    float *pixel(int x, int y) const { // y from -1
        return at(x, (y + QUAD) / QUAD - 1) + static_cast<ptrdiff_t>((y + QUAD) % QUAD) * channels;
    }
    void clear_around(int s) const {
        if (s < 0 || s >= strips) {
            std::memset(at(-1, s), 0, strip * sizeof(float));
        } else {
            std::memset(at(-1, s), 0, column * sizeof(float));
            std::memset(at(width, s), 0, column * sizeof(float));
        }
    }
};

// Depthwise weights in the order of their use: [LANES channels][row group][x][phase][LANES][K].
// A row group is K rows, counted from a strip's first; a phase is one of a strip's 4 rows.
template <class S> struct Depthwise {
    int kernel = 0, groups = 0, vectors = 0; // vectors a group of LANES channels
    const typename S::Weight *weights = nullptr;
    const int32_t *start = nullptr;
    const float *scale = nullptr, *bias = nullptr;
    float low = 0, high = 0;

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
            const auto lowest = S::set(low), highest = S::set(high);
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
                    AETHER_UNROLL for (int phase = 0; phase < QUAD; phase++) codes[phase] = S::round_to_code(S::min(
                        S::max(value<S>(sums[c][phase], scale + channel, bias + channel), lowest), highest));
                    S::store_quad(to + (column + c) * from.column + channel * QUAD, codes[0], codes[1], codes[2],
                                  codes[3]);
                }
            }
        }
    }

    Buffer buffer_;
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
        with_constant<S::ROW_VECTORS>(first_.vectors, [&](auto n) {
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
        with_constant<S::GATES>(m.vectors / 2, [&](auto n) {
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
        with_constant<S::VECTORS>(m.vectors, [&](auto n) {
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
        with_constant<S::ROW_VECTORS>(after_.vectors, [&](auto n) {
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
        with_constant<48 / S::LANES>(last_vectors_, [&](auto n) {
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
                    const ptrdiff_t offset = tap % 3 * stream.column;
                    const float *const *row = pixels[tap / 3];
                    for (int c = 0; c < channels; c++, w += N * S::LANES)
                        AETHER_UNROLL for (int i = 0; i < M; i++) {
                            const auto it = S::set(row[i][offset + c]);
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
