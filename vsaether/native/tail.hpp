// The two convolutions after the blocks, and the first one that is added between them, as one integer convolution.
#pragma once
#include "model.hpp"

namespace aether {

/// Sides on which the last convolution sees zeros, in bits: the picture ends there, without a border.
enum Edge { LEFT = 1, RIGHT = 2, TOP = 4, BOTTOM = 8, EDGES = 16 };

/// last(after(codes) + first(image)), a 5x5 convolution, of which each weight is 256 * high + low, two int8:
/// `outputs` rows of high ones, then as many of low ones; inputs are the channels' codes, then the image's.
///   value = fma(float(sum of high), scale of high, fma(float(sum of low), scale of low, bias of low))
/// last: float32 [3][3][channels][outputs], with a bias an output. At a picture's edge, another one (`edges`).
Conv fold_tail(const Conv &after, const Conv &first, const std::vector<float> &last, const std::vector<float> &bias,
               int edges);

} // namespace aether
