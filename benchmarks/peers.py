"""Peer networks to time beside ours: spandrel's architectures with random weights, as ONNX files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from export import quantizer as q
from export.graph import to_onnx


def compact() -> nn.Module:
    """RealESRGAN Compact, 16 convolutions of 64 channels, 2x."""
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=16, upscale=2, act_type="prelu")


def span() -> nn.Module:
    """SPAN, 48 channels, 2x."""
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=2)


def plksr_tiny() -> nn.Module:
    """PLKSR-tiny: 64 channels, 12 blocks, 13x13 on a quarter of the channels, 2x, as its authors' options say."""
    from spandrel.architectures.PLKSR import PLKSR

    return PLKSR(dim=64, n_blocks=12, upscaling_factor=2, ccm_type="DCCM", kernel_size=13, use_ea=False)


def merge(model: nn.Module) -> None:
    """Put SPAN's merged convolutions in place of its training branches, which spandrel merges anew in every pass."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "eval_conv") and hasattr(child, "update_params"):
                branches: Any = child
                branches.update_params()
                merged = branches.eval_conv
                relu = nn.LeakyReLU(0.05) if branches.has_relu else None
                setattr(parent, name, nn.Sequential(merged, relu) if relu else merged)


def public_small() -> nn.Module:
    """The public aether_small, 2x: LayerNorm, 11x11 depthwise, erf-GELU, its depthwise branches merged."""
    import arch

    return arch.aether_small(2, drop_path_rate=0.0, fused_init=True)


PEERS = {"compact_16x64": compact, "span_48": span, "plksr_tiny": plksr_tiny, "public_small": public_small}


def write_onnx(name: str, folder: Path, *, int8: bool = False) -> Path:
    """Write a peer as ONNX, int8 by this project's quantiser with ranges of noise."""
    torch.manual_seed(0)
    model = PEERS[name]().eval()
    merge(model)  # torch's exporter crashes on a network that writes its weights in every pass
    return write_network(model, folder / f"{name}_{'int8' if int8 else 'fp32'}.onnx", int8=int8)


def write_network(model: nn.Module, path: Path, *, int8: bool) -> Path:
    """Write a network as ONNX to be timed, int8 with ranges of noise."""
    if int8:
        model = q.quantize(model)
        q.calibrate(model, [torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 64), np.float32))])
    if not hasattr(model, "config"):
        model.__dict__["config"] = SimpleNamespace(in_chans=3)  # what the exporter asks for
    path.write_bytes(to_onnx(model).SerializeToString())
    return path
