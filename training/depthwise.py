"""Depthwise convolution on a GPU in Triton, forward and backward: torch's own take most of a training step there.

Layout is channels_last: a program has a strip of pixels of one row and a group of channels, and every load is of
neighbouring channels. Sums are float32 whatever the tensors are. Nothing here is imported without a GPU.
"""

# pyright: reportGeneralTypeIssues=false, reportCallIssue=false
# Triton's language is no Python that a type checker knows.

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

ROWS = 4  # output rows of a program of `_convolve`; each input row that it loads serves up to K of them
STRIP = 16  # pixels
GROUP = 32  # channels


@triton.jit
def _convolve(  # noqa: ANN202
    x, kernel, bias, out, height, width, channels,  # noqa: ANN001
    K: tl.constexpr, BIAS: tl.constexpr, STRIP: tl.constexpr, GROUP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """out[b, y, x, c] = bias[c] + the sum over taps of kernel[tap, c] * x[b, y + ky - K/2, x + kx - K/2, c].

    Four rows at once, written out: an input row is loaded once for all of them.
    """
    strips = tl.cdiv(width, STRIP)
    first = (tl.program_id(0) // strips) * 4
    px = (tl.program_id(0) % strips) * STRIP + tl.arange(0, STRIP)
    c = tl.program_id(1) * GROUP + tl.arange(0, GROUP)
    image = tl.program_id(2).to(tl.int64) * height * width * channels
    here = c < channels
    start = tl.zeros([GROUP], tl.float32)
    if BIAS:
        start = tl.load(bias + c, here, 0.0).to(tl.float32)
    sum0 = tl.zeros([STRIP, GROUP], tl.float32) + start[None, :]
    sum1, sum2, sum3 = sum0, sum0, sum0
    for row in tl.static_range(K + 3):
        y = first + row - K // 2
        for kx in tl.static_range(K):
            at = px + kx - K // 2
            inside = (at >= 0) & (at < width) & (y >= 0) & (y < height)
            place = image + (y * width + at)[:, None] * channels + c[None, :]
            value = tl.load(x + place, inside[:, None] & here[None, :], 0.0).to(tl.float32)
            if row < K:
                sum0 += value * tl.load(kernel + (row * K + kx) * channels + c, here, 0.0)[None, :]
            if row >= 1 and row < K + 1:
                sum1 += value * tl.load(kernel + ((row - 1) * K + kx) * channels + c, here, 0.0)[None, :]
            if row >= 2 and row < K + 2:
                sum2 += value * tl.load(kernel + ((row - 2) * K + kx) * channels + c, here, 0.0)[None, :]
            if row >= 3:
                sum3 += value * tl.load(kernel + ((row - 3) * K + kx) * channels + c, here, 0.0)[None, :]
    place = image + (first * width + px)[:, None] * channels + c[None, :]
    inside = (px < width)[:, None] & here[None, :]
    line = width * channels
    tl.store(out + place, sum0.to(out.dtype.element_ty), inside & (first < height))
    tl.store(out + place + line, sum1.to(out.dtype.element_ty), inside & (first + 1 < height))
    tl.store(out + place + 2 * line, sum2.to(out.dtype.element_ty), inside & (first + 2 < height))
    tl.store(out + place + 3 * line, sum3.to(out.dtype.element_ty), inside & (first + 3 < height))


@triton.jit
def _correlate(  # noqa: ANN202
    x, gradient, out, height, width, channels, lines, share,  # noqa: ANN001
    K: tl.constexpr, TAPS: tl.constexpr, STRIP: tl.constexpr, GROUP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """out[part, ky * K + kx, c] = the sum over a part's pixels of gradient[b, y, x, c] * x[b, y + ky - K/2, ...].

    A part is `share` of all `lines` = batch * height rows; a program has one ky, and TAPS >= K values of kx.
    """
    part, ky = tl.program_id(0), tl.program_id(2)
    c = tl.program_id(1) * GROUP + tl.arange(0, GROUP)
    here = c < channels
    taps = tl.arange(0, TAPS)
    total = tl.zeros([TAPS, STRIP, GROUP], tl.float32)
    for line in range(part * share, tl.minimum(part * share + share, lines)):
        y = line % height + ky - K // 2
        if (y >= 0) & (y < height):
            line64 = tl.full((), 0, tl.int64) + line  # pixels times channels may pass 2^31
            for left in range(0, width, STRIP):
                px = left + tl.arange(0, STRIP)
                place = (line64 * width + px)[:, None] * channels + c[None, :]
                g = tl.load(gradient + place, (px < width)[:, None] & here[None, :], 0.0).to(tl.float32)
                at = px[None, :] + taps[:, None] - K // 2
                inside = (at >= 0) & (at < width) & (taps < K)[:, None]
                place = ((line64 + ky - K // 2) * width + at)[:, :, None] * channels + c[None, None, :]
                value = tl.load(x + place, inside[:, :, None] & here[None, None, :], 0.0).to(tl.float32)
                total += value * g[None, :, :]
    place = (part * K * K + ky * K + taps)[:, None] * channels + c[None, :]
    tl.store(out + place, tl.sum(total, 1), (taps < K)[:, None] & here[None, :])


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) with the channels of a pixel side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def _launch(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """`_convolve` of (N, C, H, W) with (C, 1, k, k)."""
    x, out = _rows(x), torch.empty_like(x, memory_format=torch.channels_last)
    n, c, h, w = x.shape
    taps = kernel.float().flatten(1).T.contiguous()
    grid = (triton.cdiv(h, ROWS) * triton.cdiv(w, STRIP), triton.cdiv(c, GROUP), n)
    options = {"K": kernel.shape[-1], "BIAS": bias is not None, "STRIP": STRIP, "GROUP": GROUP}
    _convolve[grid](x, taps, taps if bias is None else bias.float(), out, h, w, c, **options, num_warps=4)
    return out


@torch.library.custom_op("aether::depthwise", mutates_args=())
def depthwise(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Depthwise convolution of (N, C, H, W) with (C, 1, k, k), k odd, and bias (C,); zero padding, the size stays."""
    return _launch(x, kernel, bias)


@torch.library.custom_op("aether::depthwise_backward", mutates_args=())
def depthwise_backward(gradient: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by x, kernel and bias of `depthwise`; sums in a fixed order: they are the same every time."""
    gradient, x = _rows(gradient), _rows(x)
    n, c, h, w = x.shape
    k, lines = kernel.shape[-1], n * h
    parts = min(lines, 1056)  # some for each multiprocessor
    share = triton.cdiv(lines, parts)
    sums = torch.zeros(parts, k * k, c, dtype=torch.float32, device=x.device)
    options = {"K": k, "TAPS": triton.next_power_of_2(k), "STRIP": STRIP, "GROUP": GROUP}
    grid = (parts, triton.cdiv(c, GROUP), k)
    _correlate[grid](x, gradient, sums, h, w, c, lines, share, **options, num_warps=4)
    by_kernel = sums.sum(0).T.contiguous().view(kernel.shape).to(kernel.dtype)
    by_bias = gradient.sum((0, 2, 3), dtype=torch.float32)
    return _launch(gradient, kernel.flip(2, 3), None).to(x.dtype), by_kernel, by_bias


@depthwise.register_fake
def _(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@depthwise_backward.register_fake
def _(gradient: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    by_bias = torch.empty(x.shape[1], dtype=torch.float32, device=x.device)
    return torch.empty_like(x, memory_format=torch.channels_last), kernel.new_empty(kernel.shape), by_bias


def _save(ctx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ANN001
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN001
    return depthwise_backward(gradient, *ctx.saved_tensors)


depthwise.register_autograd(_backward, setup_context=_save)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """`depthwise` in bf16 under autocast, as torch's convolution is; kernel and bias stay float32."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return depthwise(x, kernel.float(), bias.float())


def check(device: str, channels: int = 48, size: int = 5, pixels: tuple[int, int] = (13, 21)) -> float:
    """Largest difference of result and gradients from torch's in float64, each relative to the largest value.

    channels, size: of the kernels. pixels: height and width.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, channels, *pixels), (channels, 1, size, size), (channels,))
    given = [torch.randn(s, generator=generator).to(device).requires_grad_() for s in shapes]
    x, kernel, bias = given
    wanted = F.conv2d(x.double(), kernel.double(), bias.double(), padding=size // 2, groups=channels)
    back = torch.randn(wanted.shape, generator=generator).to(device)
    right = [wanted, *torch.autograd.grad(wanted, given, back.double())]
    found = depthwise(x, kernel, bias)
    mine = [found, *torch.autograd.grad(found, given, back)]
    return max(float((a - b).detach().abs().max() / b.abs().max()) for a, b in zip(mine, right, strict=True))
