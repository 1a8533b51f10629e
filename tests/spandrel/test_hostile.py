"""Damaged and hostile files: refused, with nothing of theirs executed and no memory filled."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from spandrel import ModelLoader
from torch import Tensor

import arch


class Executes:
    """Unpickled without care, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def state() -> dict[str, Tensor]:
    return dict(arch.AetherNet(3, 8, (1, 1)).state_dict())


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".pt"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_pickles_that_execute(suffix: str, legacy: bool, inside: bool, tmp_path: Path) -> None:
    """Beside the weights, or in place of one of them; in torch's format or as a bare pickle."""
    executed = tmp_path / "executed"
    path = tmp_path / f"model{suffix}"
    weights: dict[str, Any] = state()
    holds = weights | {"conv_last.bias": Executes(executed)} if inside else {"params": weights, "x": Executes(executed)}
    if legacy:
        path.write_bytes(pickle.dumps(holds))
    else:
        torch.save(holds, path)
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        ModelLoader().load_from_file(path)
    assert not executed.exists()
    # The file is what it is said to be: whoever unpickles it without care executes it.
    if legacy:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert executed.exists()


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 0.5, 0.99])
def test_truncated_files(suffix: str, kept: float, tmp_path: Path) -> None:
    whole, path = (
        tmp_path / ("whole.pth" if suffix != ".safetensors" else "whole.safetensors"),
        tmp_path / f"model{suffix}",
    )
    arch.write_checkpoint(state(), whole)
    data = whole.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError)):
        ModelLoader().load_from_file(path)


@pytest.mark.parametrize("header", [2**63 - 1, 2**40, 10**8 + 1, 400])
def test_huge_headers(header: int, tmp_path: Path) -> None:
    """A safetensors file begins with the size of its header."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        struct.pack("<Q", header) + b'{"conv_first.weight":{"dtype":"F32","shape":[8,3,3,3],"data_offsets":['
    )
    with pytest.raises(Exception, match=r"(?i)header"):
        ModelLoader().load_from_file(path)


def test_headers_that_claim_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    text = b'{"conv_first.weight":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(Exception, match=r"(?i)header|metadata|offset|buffer"):
        ModelLoader().load_from_file(path)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("conv_first.weight", (8, 3, 5, 5)),
        ("conv_first.weight", (8,)),
        ("conv_last.weight", (5, 8, 3, 3)),
        ("layers.0.0.conv.lk_conv.weight", (8, 1, 10, 10)),
        ("layers.1.0.ffn.fc2.weight", (8, 7)),
        ("layers.1.0.conv.lk_bias", (0,)),
    ],
)
def test_wrong_shapes(key: str, shape: tuple[int, ...]) -> None:
    """A sentence that names what is wrong, instead of a network which computes something else."""
    with pytest.raises(arch.CheckpointError):
        ModelLoader().load_from_state_dict(state() | {key: torch.zeros(shape)})


def test_missing_and_foreign_keys() -> None:
    weights = state()
    del weights["layers.1.0.ffn.fc2.bias"]
    with pytest.raises(arch.CheckpointError, match=r"layers\.1\.0\.ffn\.fc2\.bias is missing"):
        ModelLoader().load_from_state_dict(weights)
    with pytest.raises(arch.CheckpointError, match="attention"):
        ModelLoader().load_from_state_dict(state() | {"attention.weight": torch.zeros(1)})


def test_views_larger_than_the_file(tmp_path: Path) -> None:
    """Every tensor a view of one number: 30 kB that would unfold to 16 GB."""
    with torch.device("meta"):
        weights = arch.AetherNet(3, 20_000, (1,)).state_dict()
    size = sum(v.numel() for v in weights.values()) * 4
    assert size > 10**10
    path = tmp_path / "model.pth"
    torch.save({k: torch.zeros(1).expand(v.shape) for k, v in weights.items()}, path)
    assert path.stat().st_size < 100_000
    with pytest.raises(arch.CheckpointError, match="more than the file holds"):
        ModelLoader().load_from_file(path)


def test_zip_with_a_pickle_of_another_kind(tmp_path: Path) -> None:
    """torch's container around a pickle that calls a builtin."""
    buffer = io.BytesIO()
    torch.save({}, buffer)
    path = tmp_path / "model.pth"
    executed = tmp_path / "executed"
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            evil = f"cposix\nmkdir\n(V{executed}\ntR.".encode()
            target.writestr(name, evil if name.endswith("data.pkl") else source.read(name))
    with pytest.raises(pickle.UnpicklingError, match="forbidden"):
        ModelLoader().load_from_file(path)
    assert not executed.exists()
