"""The networks that ours are timed beside."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks is not installed

from benchmarks import peers


def test_span_is_written_with_its_branches_merged(tmp_path: Path) -> None:
    path = peers.write_onnx("span_48", tmp_path)
    torch.manual_seed(0)
    model = peers.PEERS["span_48"]().eval()
    image = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        expected = model(image).numpy()
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result = np.asarray(run.run(None, {"input": image.numpy()})[0])
    assert result.shape == (1, 3, 48, 64)
    assert np.abs(result - expected).max() <= 1e-4
