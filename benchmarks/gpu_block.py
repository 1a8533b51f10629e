"""aether_small's block as one kernel: depthwise convolution, fc1, ReLU gate, fc2 and skip, for GPUs, in Triton.

    python -m benchmarks.gpu_block                        # checks it on the GPU
    TRITON_INTERPRET=1 python -m benchmarks.gpu_block     # and without one

Layer by layer, a block of small_2x moves 2688 bytes a pixel through device memory, most of them between fc1 and fc2;
here only its input and its output are, 384 bytes. (`benchmarks.gpu_kernels`).

Pictures lie as (H + 2r, W + 2r, C), r the kernel's radius, and the frame of r pixels is zero: the convolution's
padding, which no load then has to ask about.
"""

# pyright: reportCallIssue=false
# (To a type checker Triton's kernels take no num_warps.)

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor, nn

from arch.aethernet import AetherNetConfig, FusedAetherBlock
from arch.layers import BATCH_NORM_LIMIT, repeat_channels
from benchmarks.gpu_kernels import fused_block, paired_block

GROUP = 32
"""Channels in one tensor: Triton's shapes are powers of two, so 96 channels are three times 32."""

CHANNELS = 3 * GROUP
FLOAT32_SUMS, HALF_ROWS = 0, 1


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a block is cut up: a program's pixels, hidden channels a step, warps, stages of the weights' loads.

    `rows`: FLOAT32_SUMS, or HALF_ROWS to sum each row of the depthwise kernel in fp16 (two products an instruction),
    and the rows in float32. `registers`: a thread's at most. `paired`: `paired_block` instead of `fused_block`.
    """

    height: int = 8
    width: int = 16
    hidden: int = 32
    warps: int = 8
    stages: int = 2
    rows: int = FLOAT32_SUMS
    registers: int | None = None
    paired: bool = False


SCHEDULES = (
    Schedule(8, 8, 32, 4, 2, HALF_ROWS),
    Schedule(8, 8, 32, 4, 2, HALF_ROWS, paired=True),
    Schedule(8, 16, 32, 8, 2, HALF_ROWS, paired=True),
    Schedule(8, 8, 64, 4, 2, HALF_ROWS, paired=True),
    Schedule(8, 8, 32, 4, 2, HALF_ROWS, 128, paired=True),
    Schedule(8, 16, 32, 8, 2, HALF_ROWS, 128, paired=True),
    Schedule(8, 8, 32, 4, 1, HALF_ROWS, paired=True),
    Schedule(16, 16, 32, 8, 2, HALF_ROWS, paired=True),
    Schedule(8, 8, 32, 4, 2, paired=True),
    Schedule(8, 16, 32, 4, 2, HALF_ROWS),
)
"""Those worth timing on a card."""


@dataclasses.dataclass
class BlockWeights:
    """A FusedAetherBlock's weights as the kernels read them; `pairs` are fc1's with gate and main in turns."""

    kernel: Tensor
    kernel_bias: Tensor
    fc1: Tensor
    fc1_bias: Tensor
    fc2: Tensor
    fc2_bias: Tensor
    pairs: Tensor
    pairs_bias: Tensor

    @classmethod
    def of(cls, block: FusedAetherBlock) -> BlockWeights:
        """The weights of one block, on its device."""
        conv, fc1, fc2 = block.conv, block.ffn.fc1, block.ffn.fc2
        assert conv.bias is not None and fc1.bias is not None and fc2.bias is not None
        half: Callable[[Tensor], Tensor] = lambda t: t.detach().half().contiguous()  # noqa: E731
        hidden = fc2.weight.shape[1]
        order = torch.arange(2 * hidden).view(2, hidden).T.flatten()  # gate 0, main 0, gate 1, ...
        return cls(
            half(conv.weight.flatten(1).T),
            conv.bias.detach().float(),
            half(fc1.weight[:, :, 0, 0].T),
            fc1.bias.detach().float(),
            half(fc2.weight[:, :, 0, 0].T),
            fc2.bias.detach().float(),
            half(fc1.weight[order, :, 0, 0].T),
            fc1.bias.detach().float()[order].contiguous(),
        )


def run_block(x: Tensor, y: Tensor, weights: BlockWeights, schedule: Schedule) -> None:
    """One block, from x to y, both (H + 2r, W + 2r, 96) fp16 and contiguous; of y the inner H x W are written."""
    taps, hidden = weights.kernel.shape[0], weights.fc2.shape[0]
    k = round(taps**0.5)
    height, width = x.shape[0] - 2 * (k // 2), x.shape[1] - 2 * (k // 2)
    tiles = triton.cdiv(height, schedule.height) * triton.cdiv(width, schedule.width)
    fc1, fc1_bias = (weights.pairs, weights.pairs_bias) if schedule.paired else (weights.fc1, weights.fc1_bias)
    (paired_block if schedule.paired else fused_block)[(tiles,)](
        x,
        y,
        weights.kernel,
        weights.kernel_bias,
        fc1,
        fc1_bias,
        weights.fc2,
        weights.fc2_bias,
        height,
        width,
        BATCH_NORM_LIMIT,
        K=k,
        G=GROUP,
        H=hidden,
        HB=schedule.hidden,
        BH=schedule.height,
        BW=schedule.width,
        HALF=schedule.rows == HALF_ROWS,
        STAGES=schedule.stages,
        num_warps=schedule.warps,
        maxnreg=schedule.registers,
    )


class BlockwiseNet(nn.Module):
    """A FusedAetherNet of small_2x's kind, its blocks run by `fused_block`: (1, 3, H, W) fp16 -> (1, 3, 2H, 2W) fp16.

    The two picture-sized buffers that the blocks take turns in are made for one size, `prepare`.
    Raises ValueError for a network of another kind.
    """

    def __init__(self, net: Any, schedule: Schedule = SCHEDULES[0]) -> None:
        super().__init__()
        config = getattr(net, "config", None)
        if not isinstance(config, AetherNetConfig) or not (
            config.fused == "full"
            and (config.norm, config.gate, config.tail) == ("batch", "relu", "direct")
            and config.embed_dim == CHANNELS
            and config.hidden % 64 == 0
            and config.image_residual
        ):
            raise ValueError(f"{config} is not a fused network of {CHANNELS} channels, batch norm and ReLU gates.")
        self.net, self.schedule, self.config = net, schedule, config
        self.radius = config.lk_kernel // 2
        self.weights = [BlockWeights.of(m) for m in net.modules() if isinstance(m, FusedAetherBlock)]
        self.buffers_of: list[Tensor] = []

    def prepare(self, height: int, width: int, device: torch.device | str) -> None:
        """Make the buffers for pictures of that size."""
        edge = 2 * (self.config.border + self.radius)
        shape = (height + edge, width + edge, CHANNELS)
        self.buffers_of = [torch.zeros(shape, dtype=torch.float16, device=device) for _ in range(2)]

    def inner(self, buffer: Tensor) -> Tensor:
        """A buffer without its frame, as (1, C, H, W), channels last."""
        r = self.radius
        return buffer[r:-r, r:-r].permute(2, 0, 1)[None]

    def head(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Picture -> (centred picture, first features), continued by the border."""
        b = self.config.border
        x = (F.pad(image, [b] * 4, mode="replicate") if b else image) - self.net.mean
        x = x.contiguous(memory_format=torch.channels_last)
        return x, self.net.conv_first(x)

    def tail(self, features: Tensor, first: Tensor, x: Tensor) -> Tensor:
        """The blocks' result -> picture."""
        s, b = self.config.scale, self.config.border
        y = self.net.conv_after_body(features.contiguous(memory_format=torch.channels_last)) + first
        y = self.net.conv_last(y) + repeat_channels(x, s * s)
        y = F.pixel_shuffle(y, s) + self.net.mean
        return y[:, :, b * s : y.shape[2] - b * s, b * s : y.shape[3] - b * s]

    def forward(self, image: Tensor) -> Tensor:
        source, target = self.buffers_of
        x, first = self.head(image)
        self.inner(source).copy_(first)
        for weights in self.weights:
            run_block(source, target, weights, self.schedule)
            source, target = target, source
        return self.tail(self.inner(source), first, x)


def check_block(
    device: str, height: int, width: int, schedule: Schedule, *, kernel: int = 5, hidden: int = 192
) -> dict[str, float]:
    """Error of a block of random weights against torch in float32 on the same fp16 values.

    `error` is ||y - reference|| over the norm of what the block adds to its input, `layers` the same of torch's own
    fp16, layer by layer; a pixel that was not written makes it NaN. `written_outside` counts values that were written
    to the frame.
    """
    torch.manual_seed(0)
    config = AetherNetConfig(CHANNELS, (1,), hidden, kernel, 3, norm="batch", gate="relu", fused="full")
    block = FusedAetherBlock(config).to(device).half()
    x = torch.randn(1, CHANNELS, height, width, device=device).half()
    r = kernel // 2
    padded = F.pad(x, [r] * 4)[0].permute(1, 2, 0).contiguous()
    y = torch.full_like(padded, torch.nan)
    run_block(padded, y, BlockWeights.of(block), schedule)
    with torch.no_grad():
        layers = block(x).float()
        reference = block.float()(x.float())
    got = y[r:-r, r:-r].permute(2, 0, 1)[None].float()
    y[r:-r, r:-r] = torch.nan
    change = reference - x.float()  # what the block adds: the skip would hide an error in it
    return {
        "error": float((got - reference).norm() / change.norm()),
        "layers": float((layers - reference).norm() / change.norm()),
        "written_outside": float((~y.isnan()).sum()),
    }


def main() -> int:
    """Check every schedule on a small picture."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    worst = 0.0
    for schedule in SCHEDULES:
        result = check_block(device, 19, 37, schedule)
        print(schedule, result)
        worst = max(worst, result["error"], result["written_outside"])
    return 0 if worst < 5e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
