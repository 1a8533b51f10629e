"""What a training minimises: distances from HR and from a teacher's answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.metrics import BT601
from training.config import Stage


def target(stage: Stage, hr: Tensor, answer: Tensor) -> Tensor:
    """What the network is to give: HR, an answer to LR, or their mean (see `Stage.target`)."""
    return hr if stage.target == "both" else answer if stage.target == "teacher" else (answer + hr) / 2


@torch.no_grad()
def mean_of_flips(network: nn.Module, lr: Tensor, count: int) -> Tensor:
    """The network's answer (N, 3, s*H, s*W), the mean over 1, 2, 4 or 8 flips and transposes of (N, 3, H, W).

    The geometric self-ensemble (Timofte et al., Seven ways to improve example-based super resolution, 2016): better
    than the network, and as a target free of the noise that HR has.
    """
    total: Tensor | None = None
    for number in range(count):
        axes = [axis for bit, axis in ((1, 2), (2, 3)) if number & bit]
        turned = lr.flip(axes).transpose(2, 3) if number & 4 else lr.flip(axes)
        sr = network(turned.contiguous(memory_format=torch.channels_last))
        back = (sr.transpose(2, 3) if number & 4 else sr).flip(axes)
        total = back if total is None else total + back
    assert total is not None
    return total / count


def distance(error: Tensor, luma: float) -> Tensor:
    """Mean |error| of R, G and B (N, 3, H, W), plus `luma` times that of Y as `export.metrics.luma` weighs it.

    Eyes, 4:2:0 video and the benchmarks take detail from Y; a small network should spend its capacity there.
    """
    loss = error.abs().mean()
    if luma:
        # by numbers: a tensor made of them here would make a GPU wait for the host
        y = sum(weight / sum(BT601) * error[:, channel] for channel, weight in enumerate(BT601))
        assert isinstance(y, Tensor)
        loss = loss + luma * y.abs().mean()
    return loss


def spectral(error: Tensor) -> Tensor:
    """L1 norm of the error's orthonormal spectrum (Cho et al., MIMO-UNet, 2021)."""
    return torch.view_as_real(torch.fft.rfft2(error, norm="ortho")).abs().mean()
