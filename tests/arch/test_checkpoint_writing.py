"""Writing checkpoint files: complete or not at all, and the same bytes for the same tensors."""

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import arch
from arch import checkpoint

from ..conftest import full_disk
from ..nets import same

State = dict[str, Tensor]
SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pth"])


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
def test_bytes_depend_on_names_tensors_and_origin_alone(state: State, suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / "b" / f"other{suffix}"
    second.parent.mkdir()
    arch.write_checkpoint(state, first)
    arch.write_checkpoint({k: v.clone().requires_grad_() for k, v in state.items()}, second)
    assert first.read_bytes() == second.read_bytes()
    assert checkpoint.read_origin(first) is None
    origin = checkpoint.weights_sha256(arch.read_checkpoint(first))
    arch.write_checkpoint(state, second, origin=origin)
    assert checkpoint.read_origin(second) == origin and same(arch.read_checkpoint(second), state)
    turned = {k: state[k] for k in reversed(state)}
    assert checkpoint.weights_sha256(turned) == origin
    turned["conv_last.bias"] = turned["conv_last.bias"] + 1
    assert checkpoint.weights_sha256(turned) != origin
    arch.write_checkpoint(turned, second)
    assert first.read_bytes() != second.read_bytes()


@SUFFIXES
def test_a_failed_write_leaves_what_was_there(state: State, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    arch.write_checkpoint(state, path)
    before = path.read_bytes()
    for target in (path, tmp_path / f"new{suffix}"):
        with full_disk(), pytest.raises(arch.CheckpointError, match=r"not written .*too large"):
            arch.write_checkpoint(state, target)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_places_that_cannot_be_written(state: State, tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    said = dict.fromkeys(("net.onnx", "net", "net.pt"), r"written as \.safetensors or \.pth")
    said |= {"none/net.pth": r"not written .*No such file", "folder.pth": "not written"}
    for name, message in said.items():
        with pytest.raises(arch.CheckpointError, match=message):
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
