"""What the report says of an engine: quality on the bundled images, agreement, nodes and time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from . import pictures, runtimes
from .pipeline import BuiltEngine, kept_float
from .quality import score
from .quantizer import float_layers
from .source import Source

Array = np.ndarray[Any, np.dtype[np.float32]]
FRAME = (270, 480)  # of the frame that is timed


def float_outputs(source: Source) -> list[Array]:
    """The float network's outputs for the bundled evaluation images."""
    with torch.no_grad():
        return [source.fused(lr).numpy() for lr, _ in _pairs(source.config)]


def describe(engine: BuiltEngine, config: Any, expected: Sequence[Array]) -> dict[str, Any]:
    """Quality on the bundled images, agreement with torch, node counts and time per frame of one engine.

    expected: what `float_outputs` gives.
    """
    frame = torch.rand(1, config.in_chans, *FRAME, generator=torch.Generator().manual_seed(0)).numpy()
    quality, times = {}, {}
    for backend in runtimes.BACKENDS:
        run = runtimes.load(engine.data, backend)
        errors: list[float] = []

        def upscale(x: Array, run: runtimes.Run = run, errors: list[float] = errors) -> Array:
            out = run(x)
            errors.append(float(np.mean((out - expected[len(errors)]) ** 2)))
            return out

        psnr = score(upscale, ((lr.numpy(), hr) for lr, hr in _pairs(config)), ssim=False)["psnr"]
        mean = float(np.mean(errors))
        quality[backend] = {
            "psnr_y": round(psnr, 4),
            "psnr_to_float": round(-10 * math.log10(mean), 2) if mean else None,
        }
        times[backend] = round(runtimes.milliseconds(run, frame), 1)
    return {
        "opset": engine.proto.opset_import[0].version,
        "quality": quality,
        "agreement": {k: dataclasses.asdict(v) for k, v in engine.agreement.items()},
        "nodes": engine.counts,
        "ms_480x270": times,
    }


def reference(config: Any, expected: Sequence[Array]) -> dict[str, Any]:
    """Y-PSNR of the float network and of bicubic on the bundled evaluation images, and their number."""
    pairs = [(lr.numpy(), hr) for lr, hr in _pairs(config)]
    outputs = iter(expected)
    found = score(lambda _: next(outputs), pairs, ssim=False)
    facts = {"count": found["images"], "psnr_y_float": round(found["psnr"], 4)}
    return facts | ({"psnr_y_bicubic": round(score(None, pairs, ssim=False)["psnr"], 4)} if config.scale > 1 else {})


def int8_facts(engine: BuiltEngine, trained: Source) -> dict[str, Any]:
    """Where an int8 engine's ranges come from, what it computes in float, and why."""
    ranges = "learnt in training" if trained.quantized else "calibrated, mse"
    if trained.observed:
        ranges += "; torch.ao's observers, which the checkpoint holds, saw outputs and not what is rounded here"
    why = float_layers(engine.model)
    untrained = "has no range in the checkpoint" if trained.quantized else "left out"
    rest = {"QuantizeLinear", "DequantizeLinear", "Conv"}
    return {
        "ranges": ranges,
        "float_convolutions": {n: why.get(n, untrained) for n in kept_float(engine.model)},
        "float_operators": {k: v for k, v in engine.counts.items() if k not in rest},
    }


def _pairs(config: Any) -> list[tuple[torch.Tensor, Any]]:
    return pictures.evaluation(config.scale, config.in_chans)
