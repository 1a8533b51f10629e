#include "tail.hpp"

#include <algorithm>
#include <cmath>

namespace aether {
namespace {

constexpr int SIZE = 5;             // of two 3x3 convolutions, one after the other
constexpr double LARGEST = 32639;   // 256 * 127 + 127

bool sees(int row, int column, int edges) {
    return !(row == 0 && edges & TOP) && !(row == 2 && edges & BOTTOM) && !(column == 0 && edges & LEFT) &&
           !(column == 2 && edges & RIGHT);
}

} // namespace

// In float64, in one order: every processor and compiler gets the same integers.
Conv fold_tail(const Conv &after, const Conv &first, const std::vector<float> &last, const std::vector<float> &bias,
               int edges) {
    const int outputs = static_cast<int>(bias.size()), channels = after.out, inputs = after.in + first.in;
    std::vector<double> weight(static_cast<size_t>(SIZE) * SIZE * inputs * outputs); // [y][x][input][output]
    std::vector<double> constant(bias.begin(), bias.end());
    for (int tap = 0; tap < 9; tap++) {
        if (!sees(tap / 3, tap % 3, edges))
            continue;
        for (int c = 0; c < channels; c++) {
            const float *const factors = &last[(static_cast<size_t>(tap) * channels + c) * outputs];
            for (int o = 0; o < outputs; o++)
                constant[o] += static_cast<double>(factors[o]) * (static_cast<double>(after.bias[c]) + first.bias[c]);
            for (int y = 0; y < 3; y++)
                for (int x = 0; x < 3; x++) {
                    double *to = &weight[static_cast<size_t>((tap / 3 + y) * SIZE + tap % 3 + x) * inputs * outputs];
                    for (int i = 0; i < inputs; i++, to += outputs) {
                        const Conv &conv = i < after.in ? after : first;
                        const double value =
                            static_cast<double>(conv.scale[c]) * conv.at(c, i < after.in ? i : i - after.in, y, x);
                        for (int o = 0; o < outputs; o++)
                            to[o] += value * factors[o];
                    }
                }
        }
    }
    Conv conv{2 * outputs, inputs, SIZE, std::vector<int8_t>(2 * weight.size()), std::vector<float>(2 * outputs),
              std::vector<float>(2 * outputs)};
    for (int o = 0; o < outputs; o++) {
        double most = 0;
        for (size_t i = o; i < weight.size(); i += outputs)
            most = std::max(most, std::fabs(weight[i]));
        const float step = static_cast<float>(most / LARGEST);
        conv.scale[o] = 256 * step;
        conv.scale[outputs + o] = step;
        conv.bias[outputs + o] = static_cast<float>(constant[o]);
        for (int i = 0; i < inputs; i++)
            for (int k = 0; k < SIZE * SIZE; k++) {
                const double value = weight[(static_cast<size_t>(k) * inputs + i) * outputs + o];
                const double code = step > 0 ? std::nearbyint(value / step) : 0;
                const int both = static_cast<int>(std::min(std::max(code, -LARGEST), LARGEST));
                const int high = (both + 128 + 256 * 128) / 256 - 128; // rounded down: low is from -128 to 127
                const size_t place = static_cast<size_t>(i) * SIZE * SIZE + k, all = weight.size() / outputs;
                conv.weight[o * all + place] = static_cast<int8_t>(high);
                conv.weight[(outputs + o) * all + place] = static_cast<int8_t>(both - 256 * high);
            }
    }
    return conv;
}

} // namespace aether
