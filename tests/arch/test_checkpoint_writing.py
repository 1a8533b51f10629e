"""Writing checkpoint files: complete or not at all, and the same bytes for the same tensors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import arch
from arch import checkpoint

State = dict[str, Tensor]
SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pth"])


@pytest.fixture
def state() -> State:
    return dict(arch.AetherNet(3, 8, (1,), lk_kernel=5).state_dict())


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@SUFFIXES
def test_round_trip_of_dtypes_layouts_and_views(suffix: str, tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = {"rows": base[1:], "columns": base[:, 1], "turned": base.T, "same": base}
    tensors |= {"half": base.half(), "bfloat16": base.bfloat16(), "empty": torch.empty(0), "number": torch.tensor(3)}
    tensors["channels last"] = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    path = tmp_path / f"net{suffix}"
    arch.write_checkpoint(tensors, path)
    assert same(arch.read_checkpoint(path), {k: v.contiguous() for k, v in tensors.items()})
    assert torch.equal(base, torch.arange(12.0).view(3, 4))
    if suffix == ".pth":
        stored = torch.load(path, weights_only=True)
        assert stored["columns"].untyped_storage().nbytes() == 12, "a view must not bring its whole base along"


@SUFFIXES
def test_bytes_depend_on_names_and_tensors_alone(state: State, suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / "b" / f"other{suffix}"
    second.parent.mkdir()
    arch.write_checkpoint(state, first)
    arch.write_checkpoint({k: v.clone().requires_grad_() for k, v in state.items()}, second)
    assert first.read_bytes() == second.read_bytes()
    state["conv_last.bias"][0] += 1
    arch.write_checkpoint(state, second)
    assert first.read_bytes() != second.read_bytes()


@SUFFIXES
def test_the_origin_of_a_training_stands_in_its_file(state: State, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    arch.write_checkpoint(state, path)
    assert checkpoint.read_origin(path) is None
    origin = checkpoint.weights_sha256(arch.read_checkpoint(path))
    arch.write_checkpoint(state, path, origin=origin)
    assert checkpoint.read_origin(path) == origin
    assert same(arch.read_checkpoint(path), state)
    turned = {k: state[k] for k in reversed(state)}
    assert checkpoint.weights_sha256(turned) == origin
    turned["conv_last.bias"] = turned["conv_last.bias"] + 1
    assert checkpoint.weights_sha256(turned) != origin


@SUFFIXES
def test_a_failed_write_leaves_what_was_there(
    state: State, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="a limit on the size of files is needed to act a full disk")
    path = tmp_path / f"net{suffix}"
    arch.write_checkpoint(state, path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        for target in (path, tmp_path / f"new{suffix}"):
            with pytest.raises(arch.CheckpointError, match=r"not written .*too large"):
                arch.write_checkpoint(state, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    monkeypatch.setattr(safetensors.torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        arch.write_checkpoint(state, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_places_that_cannot_be_written(state: State, tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    for name, said in (
        ("none/net.pth", r"not written .*No such file"),
        ("folder.pth", "not written"),
        ("net.onnx", r"written as \.safetensors or \.pth"),
        ("net", r"written as \.safetensors or \.pth"),
        ("net.pt", r"written as \.safetensors or \.pth"),
    ):
        with pytest.raises(arch.CheckpointError, match=said):
            arch.write_checkpoint(state, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.pth"]


def test_safetensors_is_needed_for_its_own_files_alone(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in (".safetensors", ".pth"):
        arch.write_checkpoint(state, tmp_path / f"net{suffix}")
    monkeypatch.delattr(safetensors, "torch")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for call in (arch.read_checkpoint, lambda path: arch.write_checkpoint(state, path)):
        with pytest.raises(arch.CheckpointError, match=r"net\.safetensors: .* pip install safetensors, or"):
            call(tmp_path / "net.safetensors")
    assert same(arch.read_checkpoint(tmp_path / "net.pth"), state)
    arch.write_checkpoint(state, tmp_path / "net.pth")
