"""Triton's kernels of aether_small's block, for GPUs: depthwise convolution, fc1, ReLU gate, fc2 and skip in one.

A program computes BH x BW pixels with all their channels: the depthwise convolution from the cache into registers, then
fc1 and fc2 on the matrix units, HB hidden channels at a time. Products are fp16, sums float32. `benchmarks.gpu_block`
calls them and says how pictures lie.
"""

# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# (To a type checker Triton's kernels are not what they are to Triton's compiler.)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _depthwise(x, kernel, bias, base, c, row, limit, C: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr):
    """Some channels `c` of the depthwise convolution at the pixels `base`, clamped, in fp16."""
    total = tl.load(bias + c)[None, :] + tl.zeros([base.shape[0], c.shape[0]], tl.float32)
    for dy in tl.range(0, K, num_stages=1):  # unrolled, its loads take all registers there are
        if HALF:
            line = tl.zeros([base.shape[0], c.shape[0]], tl.float16)
            for dx in tl.static_range(K):
                pixel = tl.load(x + base[:, None] + c[None, :] + (dy * row + dx * C))
                line += pixel * tl.load(kernel + (dy * K + dx) * C + c)[None, :]
            total += line.to(tl.float32)
        else:
            for dx in tl.static_range(K):
                pixel = tl.load(x + base[:, None] + c[None, :] + (dy * row + dx * C))
                weight = tl.load(kernel + (dy * K + dx) * C + c)
                total += pixel.to(tl.float32) * weight.to(tl.float32)[None, :]
    return tl.minimum(tl.maximum(total, -limit), limit).to(tl.float16)


@triton.jit
def _tile(height, width, row, C: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr):
    """Of a program's BH * BW pixels: where each begins in the unpadded image, and whether it is one of its own.

    What stands over computes its neighbour's pixels again and stores nothing.
    """
    columns = tl.cdiv(width, BW)
    tile = tl.program_id(0)
    p = tl.arange(0, BH * BW)
    top = (tile // columns) * BH + p // BW
    left = (tile % columns) * BW + p % BW
    base = tl.minimum(top, height - 1) * row + tl.minimum(left, width - 1) * C
    return base, (top < height) & (left < width)


@triton.jit
def fused_block(
    x,
    y,
    kernel,
    kernel_bias,
    fc1,
    fc1_bias,
    fc2,
    fc2_bias,
    height,
    width,
    limit,
    K: tl.constexpr,
    G: tl.constexpr,
    H: tl.constexpr,
    HB: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    HALF: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One block of 3 * G channels and H hidden ones, from padded x to padded y (module docstring).

    kernel is (K * K, C), fc1 (C, 2H) with the gate first, fc2 (H, C), all fp16; biases are float32.
    """
    C: tl.constexpr = 3 * G
    R: tl.constexpr = K // 2
    row = (width + 2 * R) * C
    base, inside = _tile(height, width, row, C, BH, BW)
    c0 = tl.arange(0, G)
    c1 = c0 + G
    c2 = c0 + 2 * G
    a0 = _depthwise(x, kernel, kernel_bias, base, c0, row, limit, C, K, HALF)
    a1 = _depthwise(x, kernel, kernel_bias, base, c1, row, limit, C, K, HALF)
    a2 = _depthwise(x, kernel, kernel_bias, base, c2, row, limit, C, K, HALF)

    out0 = tl.zeros([BH * BW, G], tl.float32)
    out1 = tl.zeros([BH * BW, G], tl.float32)
    out2 = tl.zeros([BH * BW, G], tl.float32)
    for start in tl.range(0, H, HB, num_stages=STAGES):
        h = start + tl.arange(0, HB)
        gate = tl.dot(a0, tl.load(fc1 + c0[:, None] * (2 * H) + h[None, :]))
        gate = tl.dot(a1, tl.load(fc1 + c1[:, None] * (2 * H) + h[None, :]), gate)
        gate = tl.dot(a2, tl.load(fc1 + c2[:, None] * (2 * H) + h[None, :]), gate)
        main = tl.dot(a0, tl.load(fc1 + c0[:, None] * (2 * H) + H + h[None, :]))
        main = tl.dot(a1, tl.load(fc1 + c1[:, None] * (2 * H) + H + h[None, :]), main)
        main = tl.dot(a2, tl.load(fc1 + c2[:, None] * (2 * H) + H + h[None, :]), main)
        gate = tl.maximum(gate + tl.load(fc1_bias + h)[None, :], 0.0)
        product = (gate * (main + tl.load(fc1_bias + H + h)[None, :])).to(tl.float16)
        out0 = tl.dot(product, tl.load(fc2 + h[:, None] * C + c0[None, :]), out0)
        out1 = tl.dot(product, tl.load(fc2 + h[:, None] * C + c1[None, :]), out1)
        out2 = tl.dot(product, tl.load(fc2 + h[:, None] * C + c2[None, :]), out2)

    centre = base + R * row + R * C
    _add_skip(x, y, fc2_bias, out0, centre, c0, inside)
    _add_skip(x, y, fc2_bias, out1, centre, c1, inside)
    _add_skip(x, y, fc2_bias, out2, centre, c2, inside)


@triton.jit
def paired_block(
    x,
    y,
    kernel,
    kernel_bias,
    fc1,
    fc1_bias,
    fc2,
    fc2_bias,
    height,
    width,
    limit,
    K: tl.constexpr,
    G: tl.constexpr,
    H: tl.constexpr,
    HB: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    HALF: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The same with fewer and wider products: 2 * G and G channels, and a gate beside its own main in fc1.

    fc1's columns, and its biases, are gate 0, main 0, gate 1, main 1 and so on: one product makes both, and the matrix
    units leave the two of a pair in one thread.
    """
    C: tl.constexpr = 3 * G
    R: tl.constexpr = K // 2
    row = (width + 2 * R) * C
    base, inside = _tile(height, width, row, C, BH, BW)
    c0 = tl.arange(0, 2 * G)
    c1 = tl.arange(0, G) + 2 * G
    a0 = _depthwise(x, kernel, kernel_bias, base, c0, row, limit, C, K, HALF)
    a1 = _depthwise(x, kernel, kernel_bias, base, c1, row, limit, C, K, HALF)

    out0 = tl.zeros([BH * BW, 2 * G], tl.float32)
    out1 = tl.zeros([BH * BW, G], tl.float32)
    for start in tl.range(0, H, HB, num_stages=STAGES):
        pair = 2 * start + tl.arange(0, 2 * HB)
        both = tl.dot(a0, tl.load(fc1 + c0[:, None] * (2 * H) + pair[None, :]))
        both = tl.dot(a1, tl.load(fc1 + c1[:, None] * (2 * H) + pair[None, :]), both)
        both += tl.load(fc1_bias + pair)[None, :]
        gate, main = tl.split(tl.reshape(both, [BH * BW, HB, 2]))
        product = (tl.maximum(gate, 0.0) * main).to(tl.float16)
        h = start + tl.arange(0, HB)
        out0 = tl.dot(product, tl.load(fc2 + h[:, None] * C + c0[None, :]), out0)
        out1 = tl.dot(product, tl.load(fc2 + h[:, None] * C + c1[None, :]), out1)

    centre = base + R * row + R * C
    _add_skip(x, y, fc2_bias, out0, centre, c0, inside)
    _add_skip(x, y, fc2_bias, out1, centre, c1, inside)


@triton.jit
def _add_skip(x, y, bias, out, centre, c, inside):
    """y = x + out + bias for some channels."""
    at = centre[:, None] + c[None, :]
    out += tl.load(bias + c)[None, :] + tl.load(x + at).to(tl.float32)
    tl.store(y + at, out.to(tl.float16), mask=inside[:, None])
