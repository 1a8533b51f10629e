"""Building blocks of the networks: stochastic depth, the large-kernel convolution, gated nets, norms, upsampling."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Gate = Literal["gelu", "relu"]
Norm = Literal["layer", "batch"]

SCALES = (1, 2, 3, 4, 8)

BATCH_NORM_LIMIT = 4.0
"""What follows a batch norm is clamped to +-4 of its standard deviations.

A gated net is quadratic in its input in every block, and at inference batch norm no longer adapts to the picture:
10 of 320 crops, text and line art, made the residual stream of a trained net grow to 1e30. Clamped, the same
weights are stable on all of those tried, for 0.01 dB on Set5.
"""


class DropPath(nn.Module):
    """Stochastic depth per sample (Huang et al., 2016): drops a whole residual branch with probability `rate`.

    Identity at inference and at rate 0; survivors are scaled by 1 / (1 - rate) so that the expectation stays.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"DropPath rate is {rate}; it must be in [0, 1).")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)


class ReparamLargeKernelConv(nn.Module):
    """Depthwise `lk_kernel` x `lk_kernel` convolution with a parallel `sk_kernel` branch (Ding et al., RepLKNet, 2022).

    Both branches are linear, so they are merged into one kernel before the convolution, in training too: the
    result is the same, and one convolution is cheaper than two.

    With `deployed_kernel` < `lk_kernel` a window multiplies the merged kernel: 1 inside the central
    `deployed_kernel` square and `outer` outside of it. Training takes `outer` from 1 to 0 (`anneal`); at 0 the
    crop to the central square is exact, and is what the forward pass then uses. The buffer `window` holds
    (deployed_kernel, outer), so that the option is found from a state dict alone.

    Shapes: (N, dim, H, W) -> (N, dim, H, W), zero padding.
    """

    window: Tensor

    def __init__(
        self,
        dim: int,
        lk_kernel: int = 11,
        sk_kernel: int = 3,
        *,
        deployed_kernel: int | None = None,
        fused: bool = False,
    ) -> None:
        super().__init__()
        for name, k in (
            ("lk_kernel", lk_kernel),
            ("sk_kernel", sk_kernel),
            ("deployed_kernel", deployed_kernel),
        ):
            if k is not None and (k < 1 or k % 2 == 0):
                raise ValueError(f"{name} is {k}; it must be an odd number of at least 1.")
        if sk_kernel > lk_kernel:
            raise ValueError(f"sk_kernel {sk_kernel} is larger than lk_kernel {lk_kernel}.")
        self.dim, self.lk_kernel, self.sk_kernel = dim, lk_kernel, sk_kernel
        self.deployed_kernel = deployed_kernel
        self.fused = fused
        if fused:
            self.fused_conv = nn.Conv2d(dim, dim, lk_kernel, padding=lk_kernel // 2, groups=dim)
            return
        self.lk_conv = nn.Conv2d(dim, dim, lk_kernel, groups=dim, bias=False)
        self.sk_conv = nn.Conv2d(dim, dim, sk_kernel, groups=dim, bias=False)
        self.lk_bias = nn.Parameter(torch.zeros(dim))
        self.sk_bias = nn.Parameter(torch.zeros(dim))
        if deployed_kernel is not None:
            if not sk_kernel <= deployed_kernel <= lk_kernel:
                raise ValueError(
                    f"deployed_kernel is {deployed_kernel}; it must lie between sk_kernel {sk_kernel} "
                    f"and lk_kernel {lk_kernel}."
                )
            self.register_buffer("window", torch.tensor([float(deployed_kernel), 1.0]))
            self._crops = False  # what `settle` last found, in the window of `_seen`
            self._seen: tuple[Tensor, int] | None = None

    def anneal(self, outer: float) -> None:
        """Set the factor on the taps outside the deployed square: 1 = full kernel, 0 = cropped exactly."""
        if self.deployed_kernel is None or self.fused:
            raise ValueError("This convolution has no window: it was built without deployed_kernel, or is fused.")
        if not 0.0 <= outer <= 1.0:
            raise ValueError(f"The window's outer factor is {outer}; it must be in [0, 1].")
        self.window[1] = outer
        self._crops, self._seen = outer == 0.0, (self.window, self._window_version())

    def settle(self) -> None:
        """Find whether the window crops the kernel: by its buffer, which is the one truth, whoever wrote it.

        To ask a GPU would stop it in every block, so there it is asked only where the buffer's version says that it
        was written to. Compiled code cannot ask: a network settles its windows before a pass through compiled blocks,
        and a network that is compiled as a whole takes what anneal, load_state_dict or an eager pass found last.
        """
        window = self.window
        if window.is_meta or torch.compiler.is_compiling():
            return
        version = self._window_version()
        known = self._seen is not None and self._seen[0] is window and self._seen[1] == version >= 0
        if window.device.type == "cpu" or not known:
            self._crops, self._seen = float(window[1]) == 0.0, (window, version)

    def _window_version(self) -> int:
        """How often the window was written to; -1 where torch does not count that."""
        return -1 if self.window.is_inference() else self.window._version

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        if self.deployed_kernel is not None and not self.fused:
            self.settle()

    def clear_cropped(self) -> None:
        """Zero the taps outside the deployed square once the window has cropped them: it then opens on the same filter.

        Nothing is done without a window, or where its outer factor is above 0.
        """
        if self.fused or self.deployed_kernel is None:
            return
        self.settle()
        if not self._crops:
            return
        crop = (self.lk_kernel - self.deployed_kernel) // 2
        inside = torch.ones(self.deployed_kernel, self.deployed_kernel).to(self.lk_conv.weight)
        with torch.no_grad():
            self.lk_conv.weight.mul_(F.pad(inside, [crop] * 4))

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """The one equivalent depthwise kernel (dim, 1, k, k) and its bias (dim,)."""
        if self.fused:
            assert self.fused_conv.bias is not None
            return self.fused_conv.weight, self.fused_conv.bias
        pad = (self.lk_kernel - self.sk_kernel) // 2
        kernel = self.lk_conv.weight + F.pad(self.sk_conv.weight, [pad] * 4)
        if self.deployed_kernel is not None:
            crop = (self.lk_kernel - self.deployed_kernel) // 2
            inner = kernel[:, :, crop : crop + self.deployed_kernel, crop : crop + self.deployed_kernel]
            self.settle()
            if self._crops:
                kernel = inner
            else:
                outer = self.window[1]
                kernel = outer * kernel + (1.0 - outer) * F.pad(inner, [crop] * 4)
        return kernel, self.lk_bias + self.sk_bias

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return self.fused_conv(x)
        return self.convolve(x, *self.kernel_and_bias())

    def convolve(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """Depthwise convolution of x with `kernel` (dim, 1, k, k); a trainer may put a faster one in its place."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # The backward pass of a bfloat16 depthwise convolution takes 2.5 times as long as in float32 there.
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(x.float(), kernel.float(), bias, padding=kernel.shape[-1] // 2, groups=self.dim)
        return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2, groups=self.dim)


class GatedFFN(nn.Module):
    """Gated feed-forward net (Shazeer, GLU variants, 2020): fc2(act(fc1_gate(x)) * fc1_main(x)).

    It works over the last dimension, with dropout after the product and after fc2.
    `gate` "gelu" is the public network's erf-GELU; "relu" wakes up faster in training and quantises better, and
    is marked in the state dict by the empty buffer `relu_gate`.

    Shapes: (..., dim) -> (..., dim).
    """

    def __init__(self, dim: int, hidden: int, gate: Gate = "gelu", drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1_gate = nn.Linear(dim, hidden)
        self.fc1_main = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop_rate)
        self.gate: Gate = gate
        if gate == "relu":
            self.register_buffer("relu_gate", torch.empty(0))
        elif gate != "gelu":
            raise ValueError(f"gate is {gate!r}; allowed are 'gelu' and 'relu'.")

    def forward(self, x: Tensor) -> Tensor:
        act = F.relu if self.gate == "relu" else F.gelu
        return self.drop(self.fc2(self.drop(act(self.fc1_gate(x)) * self.fc1_main(x))))


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (N, C, H, W), written without transposes.

    Without `affine` the weight and bias have been folded into the next 1x1 convolution. `eps` is a buffer: it
    belongs to the function, and it tells a fused layer-norm net from one whose norm folded away.
    """

    eps: Tensor

    def __init__(self, dim: int, eps: float, *, affine: bool) -> None:
        super().__init__()
        self.register_buffer("eps", torch.tensor(eps))
        self.weight = nn.Parameter(torch.ones(dim, 1, 1)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim, 1, 1)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x * torch.rsqrt((x * x).mean(1, keepdim=True) + self.eps)
        return x if self.weight is None or self.bias is None else x * self.weight + self.bias


class FusedGatedFFN(nn.Module):
    """GatedFFN on (N, dim, H, W): one 1x1 convolution to 2 * hidden channels (gate first), gate, product, fc2.

    The gate "silu" is that of the later public layout.
    """

    def __init__(self, dim: int, hidden: int, gate: Gate | Literal["silu"]) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, 2 * hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.act = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}[gate]
        if gate == "relu":
            self.register_buffer("relu_gate", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        gate, main = self.fc1(x).chunk(2, dim=1)
        return self.fc2(self.act(gate) * main)


def repeat_channels(x: Tensor, times: int) -> Tensor:
    """(N, C, H, W) -> (N, C * times, H, W), each channel `times` times in a row: PixelShuffle makes it nearest.

    Written as a concatenation of slices, which exports to one Concat instead of Expand and Reshape.
    """
    return torch.cat([x[:, c : c + 1] for c in range(x.shape[1]) for _ in range(times)], dim=1)


def upsample_factors(scale: int) -> tuple[int, ...]:
    """PixelShuffle factors of the convolutional tail: 1 -> (), 2 -> (2,), 3 -> (3,), 4 -> (2, 2), 8 -> (2, 2, 2)."""
    if scale not in SCALES:
        raise ValueError(f"scale is {scale}; allowed are {', '.join(map(str, SCALES))}.")
    return (3,) if scale == 3 else (2,) * (scale.bit_length() - 1)


def tail_radius(scale: int) -> int:
    """Reach of the convolutional tail behind conv_before_upsample, in LR pixels, rounded up."""
    reach, size = 0.0, 1
    for factor in upsample_factors(scale):
        reach += 1 / size
        size *= factor
    return math.ceil(reach + 1 / size)
