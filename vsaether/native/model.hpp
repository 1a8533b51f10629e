// A network as the kernels need it: integer weights, and float factors that turn a sum of products of codes into a value
// or into the next layer's code. Read from a model blob (vsaether/native_model.py writes it).
//
// The arithmetic, which every form computes alike, to the bit:
//   sum   = sum of int8 code * int8 weight, exact in int32
//   value = fma(float(sum), scale, bias)                                    in float32
//   code  = round to nearest even of min(max(value, low), high), low >= -128, high <= 127
// Where a layer's output goes into the next one as codes alone, scale and bias hold the factor 1 / step already.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace aether {

constexpr int IMAGE_CHANNELS = 3;
constexpr float IMAGE_MEAN = 0.5F;
constexpr int MAX_SIDE = 1 << 16; ///< of a frame, in pixels

/// An integer convolution of out x in x kernel x kernel; in is 1 where it is depthwise.
struct Conv {
    int out = 0, in = 0, kernel = 0;
    std::vector<int8_t> weight;
    std::vector<float> scale, bias; ///< one an output

    int8_t at(int o, int i, int y, int x) const {
        return weight[((static_cast<size_t>(o) * in + i) * kernel + y) * kernel + x];
    }
};

/// x + fc2(relu(gate(y)) * main(y)) with y = clip(depthwise(x)), all of codes. Of gate the scale is 1, which main holds:
/// relu(sum + gate's bias) * fma(sum, main's scale, main's bias).
struct Block {
    float inverse_step = 0; ///< code of the block's input = value * inverse_step
    Conv depthwise;         ///< gives codes of fc1's input
    int low = 0, high = 0;   ///< and these are their bounds
    Conv gate, main;        ///< main gives the product's codes: its factor holds fc2's 1 / step
    Conv fc2;
};

/// Either a gated network: first, blocks, tail;
/// or a dense one: first, layers, all 3x3 with ReLU, and an integer last.
struct Model {
    bool gated = false;
    int channels = 0, hidden = 0, kernel = 0, scale = 0;
    int border = 0; ///< pixels by which the picture is continued, its edge repeated
    float image_inverse_step = 0;
    Conv first;
    std::vector<Block> blocks;
    float tail_inverse_step = 0;
    std::vector<Conv> tails; ///< of a gated network (tail.hpp): one, or without border one of each set of Edges
    std::vector<Conv> layers;
    Conv last; ///< of a dense network

    int outputs() const { return IMAGE_CHANNELS * scale * scale; }
};

/// Throws std::runtime_error with one sentence if the blob is none of ours, damaged, or holds factors that are no
/// finite numbers of a sensible size.
Model read_model(const void *blob, size_t size);

} // namespace aether
