#include "model.hpp"

#include "tail.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace aether {
namespace {

constexpr char MAGIC[8] = {'A', 'E', 'T', 'H', 'E', 'R', '0', '1'};
constexpr float LARGEST = 1e15F; // no product or sum of such factors and integer sums is infinite minus infinite
constexpr float SMALLEST = 1e-15F;
constexpr double LARGEST_VALUE = 1 << 30; // of what is rounded to an int32

[[noreturn]] void fail(const std::string &what) { throw std::runtime_error("the model blob " + what); }

class Reader {
  public:
    Reader(const void *data, size_t size) : at_(static_cast<const char *>(data)), left_(size) {}

    template <class T> std::vector<T> take(size_t count) {
        if (count > left_ / sizeof(T))
            fail("is cut short");
        std::vector<T> values(count);
        std::memcpy(values.data(), at_, count * sizeof(T));
        at_ += count * sizeof(T);
        left_ -= count * sizeof(T);
        return values;
    }

    std::vector<float> factors(size_t count) {
        auto values = take<float>(count);
        for (float v : values)
            if (!(std::fabs(v) <= LARGEST))
                fail("holds a factor that is no finite number of sensible size");
        return values;
    }

    float step() {
        const float value = factors(1)[0];
        if (!(value >= SMALLEST))
            fail("holds a step of codes that is not positive");
        return value;
    }

    bool empty() const { return left_ == 0; }

  private:
    const char *at_;
    size_t left_;
};

// The convolution with its input's step: values come out as they are.
Conv read_conv(Reader &r, int out, int in, int kernel, float step) {
    Conv conv{out, in, kernel, r.take<int8_t>(static_cast<size_t>(out) * in * kernel * kernel), r.factors(out),
              r.factors(out)};
    for (float &s : conv.scale)
        s = static_cast<float>(static_cast<double>(step) * s);
    return conv;
}

// Multiplies what comes out.
void multiply(Conv &conv, double factor) {
    for (auto *values : {&conv.scale, &conv.bias})
        for (float &v : *values)
            v = static_cast<float>(v * factor);
}

Block read_block(Reader &r, const Model &m) {
    Block b;
    const float step = r.step();
    b.inverse_step = 1 / step;
    b.depthwise = read_conv(r, m.channels, 1, m.kernel, step);
    const auto clip = r.take<float>(2);
    if (!(clip[0] < clip[1]))
        fail("holds an empty range to clip to");
    const float middle = r.step();
    multiply(b.depthwise, 1.0 / middle);
    const float low = std::max(-128.0F, clip[0] / middle), high = std::min(127.0F, clip[1] / middle);
    b.low = static_cast<int>(std::nearbyintf(low));
    b.high = static_cast<int>(std::nearbyintf(high));
    if (!(low < high))
        fail("clips to a range that has no codes");
    b.gate = read_conv(r, m.hidden, m.channels, 1, middle);
    b.main = read_conv(r, m.hidden, m.channels, 1, middle);
    const float product = r.step();
    for (int c = 0; c < m.hidden; c++) {
        const double scale = b.gate.scale[c];
        if (!(scale > 0))
            fail("holds a gate's scale that is not positive");
        b.gate.bias[c] = static_cast<float>(b.gate.bias[c] / scale);
        b.gate.scale[c] = 1;
        for (auto *values : {&b.main.scale, &b.main.bias})
            (*values)[c] = static_cast<float>((*values)[c] * (scale / product));
    }
    b.fc2 = read_conv(r, m.channels, m.hidden, 1, product);
    return b;
}

void read_gated(Reader &r, Model &m, int depth) {
    const float step = r.step();
    m.image_inverse_step = 1 / step;
    m.first = read_conv(r, m.channels, IMAGE_CHANNELS, 3, step);
    for (int i = 0; i < depth; i++)
        m.blocks.push_back(read_block(r, m));
    const float codes = r.step();
    m.tail_inverse_step = 1 / codes;
    const Conv after = read_conv(r, m.channels, m.channels, 3, codes);
    const auto weight = r.factors(static_cast<size_t>(9) * m.channels * m.outputs());
    const auto bias = r.factors(m.outputs());
    for (int edges = 0; edges < (m.border > 0 ? 1 : EDGES); edges++)
        m.tails.push_back(fold_tail(after, m.first, weight, bias, edges));
}

void read_dense(Reader &r, Model &m, int depth) {
    float step = r.step();
    m.image_inverse_step = 1 / step;
    Conv conv = read_conv(r, m.channels, IMAGE_CHANNELS, 3, step);
    for (int i = 0; i <= depth; i++) {
        step = r.step();
        multiply(conv, 1.0 / step);
        if (i == 0)
            m.first = std::move(conv);
        else
            m.layers.push_back(std::move(conv));
        conv = read_conv(r, i < depth ? m.channels : m.outputs(), m.channels, 3, step);
    }
    m.last = std::move(conv);
}

// The most that a layer's sums can be worth, in any output.
double most(const Conv &conv, int output) {
    const size_t count = static_cast<size_t>(conv.in) * conv.kernel * conv.kernel;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += std::abs(conv.weight[output * count + i]);
    return 128 * sum * std::fabs(conv.scale[output]) + std::fabs(conv.bias[output]);
}

// Whether all that is rounded to a code, before it is clamped, is a number that fits into an int32.
bool fits(const Model &m) {
    bool good = true;
    const auto see = [&](double value) { good = good && value < LARGEST_VALUE; };
    std::vector<double> stream;
    for (int c = 0; c < m.channels; c++)
        stream.push_back(most(m.first, c));
    for (const Block &b : m.blocks) {
        for (int c = 0; c < m.channels; c++) {
            see(stream[c] * b.inverse_step);
            see(most(b.depthwise, c));
            stream[c] += most(b.fc2, c);
        }
        // Their product may be larger, and is clamped before it is rounded; they are numbers, so that it is one.
        for (int c = 0; c < m.hidden; c++)
            good = good && std::max(most(b.gate, c), most(b.main, c)) < LARGEST * LARGEST;
    }
    for (int c = 0; c < m.channels; c++) {
        see(m.gated ? stream[c] * m.tail_inverse_step : stream[c]);
        for (const Conv &conv : m.layers)
            see(most(conv, c));
    }
    for (int o = 0; o < m.last.out; o++)
        see(most(m.last, o));
    for (const Conv &conv : m.tails)
        for (int o = 0; o < conv.out; o++)
            see(most(conv, o));
    return good;
}

} // namespace

Model read_model(const void *blob, size_t size) {
    Reader r(blob, size);
    if (size < sizeof MAGIC || std::memcmp(r.take<char>(sizeof MAGIC).data(), MAGIC, sizeof MAGIC) != 0)
        fail("is none that vsaether wrote for this version");
    const auto header = r.take<uint32_t>(7);
    const auto within = [](uint32_t value, uint32_t low, uint32_t high, uint32_t multiple) {
        return value >= low && value <= high && value % multiple == 0;
    };
    if (header[0] > 1 || !within(header[1], 16, 512, 16) || !within(header[4], 0, 256, 1) ||
        !within(header[5], 1, 4, 1) || !within(header[6], 0, 64, 1))
        fail("describes a network that these kernels do not compute");
    Model m;
    m.gated = header[0] == 1;
    m.channels = static_cast<int>(header[1]);
    m.hidden = static_cast<int>(header[2]);
    m.kernel = static_cast<int>(header[3]);
    m.scale = static_cast<int>(header[5]);
    m.border = static_cast<int>(header[6]);
    if (m.gated && (!within(header[2], 16, 1024, 16) || (m.kernel != 3 && m.kernel != 5 && m.kernel != 7)))
        fail("describes a network that these kernels do not compute");
    if (!m.gated && (m.hidden != 0 || m.kernel != 3))
        fail("describes a network that these kernels do not compute");
    (m.gated ? read_gated : read_dense)(r, m, static_cast<int>(header[4]));
    if (!r.empty())
        fail("is longer than the network that it describes");
    if (!fits(m))
        fail("holds factors with which codes would not be numbers of sensible size");
    return m;
}

} // namespace aether
