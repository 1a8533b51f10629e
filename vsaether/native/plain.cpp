// The plain form: what each layer computes, in loops that can be read against the definition. It runs on every
// processor, and the others must give its output to the bit.
#include "form.hpp"
#include "tail.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace aether {
namespace {

/// Rows of pixels of `channels` values each, surrounded by `pad` pixels of zeros.
template <class T> class Image {
  public:
    Image(int width, int height, int channels, int pad)
        : pad_(pad), channels_(channels), pitch_(static_cast<size_t>(width + 2 * pad) * channels),
          values_(pitch_ * (height + 2 * pad)) {}

    T *at(int x, int y) { return &values_[(y + pad_) * pitch_ + static_cast<size_t>(x + pad_) * channels_]; }
    const T *at(int x, int y) const { return const_cast<Image *>(this)->at(x, y); }

  private:
    int pad_, channels_;
    size_t pitch_;
    std::vector<T> values_;
};

using Codes = Image<int8_t>;

constexpr int AROUND = 2; // pixels of zeros that the 5x5 convolution at the end sees

template <class F> class Each final : public Task {
  public:
    explicit Each(F f) : f_(f) {}
    void operator()(int unit, int) override { f_(unit); }

  private:
    F f_;
};

// f(unit) for every unit, on all threads.
template <class F> void each(Workers &workers, int units, F f) {
    Each<F> task(f);
    workers.run(units, task);
}

// A comparison that is false, as with no number, chooses the bound: so do the vector instructions.
float clamp(float v, float low, float high) {
    v = v > low ? v : low;
    return v < high ? v : high;
}

int8_t code(float v, int low = -128, int high = 127) {
    return static_cast<int8_t>(std::nearbyintf(clamp(v, static_cast<float>(low), static_cast<float>(high))));
}

/// Weights with the input channels innermost, as the codes lie: [out][y][x][in].
std::vector<int8_t> channels_last(const Conv &c) {
    std::vector<int8_t> weight;
    weight.reserve(c.weight.size());
    for (int o = 0; o < c.out; o++)
        for (int y = 0; y < c.kernel; y++)
            for (int x = 0; x < c.kernel; x++)
                for (int i = 0; i < c.in; i++)
                    weight.push_back(c.at(o, i, y, x));
    return weight;
}

int32_t dot(const int8_t *a, const int8_t *b, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/// a * b + c, rounded once: as one instruction does it. std::fma rounds twice in some C libraries (mingw-w64's).
float multiply_add(float a, float b, float c) {
    const double product = static_cast<double>(a) * b; // exact
    double sum = product + c;
    // What was rounded off the sum (Knuth's TwoSum). If anything, the sum's last bit is made odd, after which rounding
    // it to a float gives what rounding the exact sum gives: Boldo and Melquiond, Emulation of FMA (2008).
    const double part = sum - product, error = (product - (sum - part)) + (c - part);
    int64_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    if (std::isfinite(sum) && error != 0 && bits % 2 == 0) {
        bits += (error > 0) == (sum > 0) ? 1 : -1;
        std::memcpy(&sum, &bits, sizeof sum);
    }
    return static_cast<float>(sum);
}

float value(const Conv &c, int o, int32_t sum) { return multiply_add(static_cast<float>(sum), c.scale[o], c.bias[o]); }

/// A convolution ready to run: values at a pixel.
struct Dense {
    const Conv &conv;
    std::vector<int8_t> weight;

    explicit Dense(const Conv &c) : conv(c), weight(channels_last(c)) {}

    float operator()(const Codes &codes, int x, int y, int o) const {
        const int k = conv.kernel, n = k * conv.in;
        int32_t sum = 0;
        for (int i = 0; i < k; i++)
            sum += dot(codes.at(x - k / 2, y + i - k / 2), &weight[static_cast<size_t>(o * k + i) * n], n);
        return value(conv, o, sum);
    }
};

Codes image_codes(const Model &m, const Picture &p) {
    const int width = p.width + 2 * m.border, height = p.height + 2 * m.border;
    Codes codes(width, height, IMAGE_CHANNELS, AROUND);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < IMAGE_CHANNELS; c++) {
                const int sx = std::clamp(x - m.border, 0, p.width - 1);
                const int sy = std::clamp(y - m.border, 0, p.height - 1);
                codes.at(x, y)[c] = code((p.in[c][sy * p.in_stride + sx] - IMAGE_MEAN) * m.image_inverse_step);
            }
    return codes;
}

// The shuffle of the outputs of one pixel (border included) to scale x scale pixels, and the picture itself added.
void put_pixel(const Model &m, const Picture &p, int x, int y, const float *values) {
    const int r = m.scale;
    for (int c = 0; c < IMAGE_CHANNELS; c++)
        for (int i = 0; i < r; i++)
            for (int j = 0; j < r; j++)
                p.out[c][(y * r + i) * p.out_stride + x * r + j] =
                    values[(c * r + i) * r + j] + p.in[c][y * p.in_stride + x];
}

class Plain final : public Form {
  public:
    explicit Plain(const Model &m) : m_(m), first_(m.first), last_(m.last) {
        for (const Block &b : m.blocks)
            blocks_.push_back({b, Dense(b.gate), Dense(b.main), Dense(b.fc2)});
        for (const Conv &c : m.layers)
            layers_.emplace_back(c);
    }

    void run(const Picture &p, Workers &workers) override { m_.gated ? gated(p, workers) : dense(p, workers); }

  private:
    struct DenseBlock {
        const Block &block;
        Dense gate, main, fc2;
    };

    void gated(const Picture &p, Workers &workers) {
        const int width = p.width + 2 * m_.border, height = p.height + 2 * m_.border, channels = m_.channels;
        const Codes image = image_codes(m_, p);
        Image<float> stream(width, height, channels, 0);
        each(workers, height, [&](int y) {
            for (int x = 0; x < width; x++)
                for (int c = 0; c < channels; c++)
                    stream.at(x, y)[c] = first_(image, x, y, c);
        });
        Codes codes(width, height, channels, std::max(AROUND, m_.kernel / 2));
        const auto quantise = [&](float inverse_step) {
            each(workers, height, [&](int y) {
                for (int x = 0; x < width; x++)
                    for (int c = 0; c < channels; c++)
                        codes.at(x, y)[c] = code(stream.at(x, y)[c] * inverse_step);
            });
        };
        for (const DenseBlock &b : blocks_) {
            quantise(b.block.inverse_step);
            each(workers, height, [&](int y) {
                for (int x = 0; x < width; x++)
                    add_block(b, codes, x, y, stream.at(x, y));
            });
        }
        quantise(m_.tail_inverse_step);
        each(workers, p.height, [&](int y) {
            for (int x = 0; x < p.width; x++) {
                int edges = 0;
                if (m_.border == 0)
                    edges = (x == 0) * LEFT + (x == p.width - 1) * RIGHT + (y == 0) * TOP + (y == p.height - 1) * BOTTOM;
                put_pixel(m_, p, x, y, tail(m_.tails[edges], codes, image, x + m_.border, y + m_.border).data());
            }
        });
    }

    void add_block(const DenseBlock &b, const Codes &codes, int x, int y, float *stream) const {
        const Conv &dw = b.block.depthwise;
        std::vector<int8_t> middle(m_.channels), product(m_.hidden);
        for (int c = 0; c < m_.channels; c++) {
            int32_t sum = 0;
            for (int i = 0; i < dw.kernel; i++)
                for (int j = 0; j < dw.kernel; j++)
                    sum += codes.at(x + j - dw.kernel / 2, y + i - dw.kernel / 2)[c] * dw.at(c, 0, i, j);
            middle[c] = code(value(dw, c, sum), b.block.low, b.block.high);
        }
        const auto point = [](const Dense &d, const std::vector<int8_t> &in, int o) {
            return value(d.conv, o, dot(in.data(), &d.weight[static_cast<size_t>(o) * d.conv.in], d.conv.in));
        };
        const auto gate = [&](const std::vector<int8_t> &in, int o) {
            return static_cast<float>(dot(in.data(), &b.gate.weight[static_cast<size_t>(o) * m_.channels], m_.channels)) +
                   b.block.gate.bias[o];
        };
        for (int o = 0; o < m_.hidden; o++)
            product[o] = code(std::max(gate(middle, o), 0.0F) * point(b.main, middle, o));
        for (int c = 0; c < m_.channels; c++)
            stream[c] = stream[c] + point(b.fc2, product, c);
    }

    std::vector<float> tail(const Conv &conv, const Codes &codes, const Codes &image, int x, int y) const {
        const auto sum = [&](int row) {
            int32_t total = 0;
            for (int i = 0; i < conv.in; i++)
                for (int v = 0; v < conv.kernel; v++)
                    for (int h = 0; h < conv.kernel; h++) {
                        const int at_x = x + h - conv.kernel / 2, at_y = y + v - conv.kernel / 2;
                        const int8_t it =
                            i < m_.channels ? codes.at(at_x, at_y)[i] : image.at(at_x, at_y)[i - m_.channels];
                        total += it * conv.at(row, i, v, h);
                    }
            return total;
        };
        std::vector<float> values(m_.outputs());
        for (int o = 0; o < m_.outputs(); o++) {
            const int low = m_.outputs() + o;
            values[o] = multiply_add(static_cast<float>(sum(o)), conv.scale[o], value(conv, low, sum(low)));
        }
        return values;
    }

    void dense(const Picture &p, Workers &workers) {
        const int width = p.width + 2 * m_.border, height = p.height + 2 * m_.border, channels = m_.channels;
        const auto layer = [&](const Dense &conv, const Codes &in, Codes &out) {
            each(workers, height, [&](int y) {
                for (int x = 0; x < width; x++)
                    for (int c = 0; c < channels; c++)
                        out.at(x, y)[c] = code(conv(in, x, y, c), 0); // the bound 0 is ReLU
            });
        };
        Codes codes(width, height, channels, 1), next(width, height, channels, 1);
        layer(first_, image_codes(m_, p), codes);
        for (const Dense &conv : layers_) {
            layer(conv, codes, next);
            std::swap(codes, next);
        }
        each(workers, p.height, [&](int y) {
            std::vector<float> values(m_.outputs());
            for (int x = 0; x < p.width; x++) {
                for (int o = 0; o < m_.outputs(); o++)
                    values[o] = last_(codes, x + m_.border, y + m_.border, o);
                put_pixel(m_, p, x, y, values.data());
            }
        });
    }

    const Model &m_;
    Dense first_, last_;
    std::vector<DenseBlock> blocks_;
    std::vector<Dense> layers_;
};

} // namespace

Form *make_plain(const Model &model) { return new Plain(model); }

} // namespace aether
