"""Trained in a trainer, upscaled in VapourSynth: detection, int8 export and the filter, with nothing in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from spandrel import ImageModelDescriptor, ModelLoader

import arch

# In a process of its own: openvino's Python package, which export.build uses, cannot share one with the plugin.
UPSCALE = """
import sys
import numpy as np
import vapoursynth as vs
from PIL import Image
import vsaether

pixels = np.array(Image.open(sys.argv[2]).convert("RGB"))
clip = vs.core.std.BlankClip(width=pixels.shape[1], height=pixels.shape[0], format=vs.RGB24, length=1)

def fill(n, f):
    f = f.copy()
    for plane in range(3):
        np.asarray(f[plane])[:] = pixels[:, :, plane]
    return f

clip = vsaether.upscale(clip.std.ModifyFrame(clip, fill), engine=sys.argv[1])
frame = clip.get_frame(0)
Image.fromarray(np.dstack([np.asarray(frame[p]) for p in range(3)])).save(sys.argv[3])
"""


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of 8-bit colour values, in dB."""
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


@pytest.mark.parametrize(
    "trainer", ["neosr_wheel_run", "neosr_run", "neosr_qat_run", "trainner_run", "trainner_qat_run"]
)
def test_checkpoint_of_a_trainer_upscales_in_vapoursynth(
    trainer: str, request: pytest.FixtureRequest, run: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    checkpoint = request.getfixturevalue(trainer).checkpoint
    arch.install(ignore_duplicates=True)
    descriptor = ModelLoader().load_from_file(checkpoint)
    assert isinstance(descriptor, ImageModelDescriptor)
    assert descriptor.architecture.id == "AetherNet" and descriptor.scale == 2

    options = ("--int8", "--calibration", data / "val" / "hr", "--model", checkpoint, "--out", tmp_path / "engines")
    run("-m", "export.build", *options, cwd=tmp_path)
    (engine,) = (tmp_path / "engines").glob("*_int8.onnx")

    source = sorted((data / "val" / "lr").glob("*.png"))[0]
    (tmp_path / "upscale.py").write_text(UPSCALE)
    run(tmp_path / "upscale.py", engine, source, tmp_path / "result.png", cwd=tmp_path)
    result = np.array(Image.open(tmp_path / "result.png")).astype(float)
    lr = np.array(Image.open(source).convert("RGB"))
    expected = descriptor(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0).numpy() * 255
    assert result.shape == expected.shape == (64, 64, 3)
    nearest = lr.astype(float).repeat(2, 0).repeat(2, 1)
    print(f"int8 in VapourSynth against the trained network: {psnr(result, expected):.1f} dB")
    assert psnr(result, expected) > 50
    assert psnr(nearest, expected) < 40, "the network must do far more than its image residual"
