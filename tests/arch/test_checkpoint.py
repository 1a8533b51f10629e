"""Reading checkpoint files: what is no network, hostile and damaged files, each refused in a sentence."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import arch
from arch import checkpoint

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    return dict(arch.AetherNet(3, 8, (1,), lk_kernel=5).state_dict())


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def saved(obj: object, path: Path, *, legacy: bool = False) -> Path:
    torch.save(obj, path, _use_new_zipfile_serialization=not legacy)
    return path


def test_load_gives_the_network_in_float32_and_eval_mode(state: State, tmp_path: Path) -> None:
    half = {k: v.half() for k, v in state.items()} | {"conv_last.input_quantizer._amax": torch.tensor(1.0)}
    arch.write_checkpoint(half, tmp_path / "net.pth")
    model = arch.load(str(tmp_path / "net.pth"))
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert same(dict(model.state_dict()), {k: v.half().float() for k, v in state.items()})


def test_a_prefix_of_some_keys_only_stays(state: State, tmp_path: Path) -> None:
    partly = {("module." + k if k.startswith("layers") else k): v for k, v in state.items()}
    assert same(arch.read_checkpoint(saved(partly, tmp_path / "net.pth")), partly)


def nested(content: object, depth: int) -> object:
    return {"params": nested(content, depth - 1)} if depth else content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds dict and no state dict"),
        *((nested({}, depth), "holds dict and no state dict") for depth in (2, 6, 12)),
        (nested({}, 13), "it holds 'params'"),
        ([torch.zeros(1)], "holds list"),
        (torch.zeros(3), "holds Tensor"),
        (3, "holds int"),
        ({"iter": 3, "loss": 0.1}, "it holds 'iter', 'loss'"),
        ({"params": {}}, "holds dict and no state dict"),
        ({"params": {"b": "text"}}, "no state dict under any of"),
        ({1: torch.zeros(1)}, "entry 1 is a Tensor"),
    ],
)
def test_other_content_is_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(arch.CheckpointError, match=message) as caught:
        arch.read_checkpoint(saved(content, tmp_path / "net.pth"))
    assert str(tmp_path / "net.pth") in str(caught.value)


class Hostile:
    """Unpickling it would create the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".PTH"])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_pickles_is_refused_and_not_run(form: str, suffix: str, state: State, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / f"net{suffix}"
    content = {"params": state, "extra": Hostile(trap)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        saved(content, path, legacy=form == "legacy")
    with pytest.raises(arch.CheckpointError, match=r"only tensors are read|more than tensors"):
        arch.read_checkpoint(path)
    assert not trap.exists()
    # The trap works: whoever unpickles it without care runs it.
    pickle.loads(pickle.dumps(Hostile(trap)))
    assert trap.exists()


@pytest.mark.filterwarnings("ignore")
def test_whole_modules_are_refused_by_name_and_without_unsafe_advice(tmp_path: Path) -> None:
    saved(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), tmp_path / "script.pt")
    for name, said in (
        ("module", r"holds torch\.nn\.modules\.linear\.Linear; only"),
        ("script", "TorchScript archive"),
    ):
        with pytest.raises(arch.CheckpointError, match=said) as caught:
            arch.read_checkpoint(tmp_path / f"{name}.pt")
        assert "weights_only" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_and_damaged_files(form: str, tmp_path: Path) -> None:
    """Cut anywhere, or with any byte flipped: tensors (a flip in the numbers shows nowhere) or a CheckpointError."""
    small = {"a.weight": torch.arange(6.0), "b": torch.ones(2)}
    path = tmp_path / ("net.safetensors" if form == "safetensors" else "net.pth")
    if form == "safetensors":
        safetensors.torch.save_file(small, path)
    else:
        saved(small, path, legacy=form == "legacy")
    whole = path.read_bytes()
    stride = max(1, len(whole) // 90)
    for length in range(0, len(whole) - 1, stride):
        path.write_bytes(whole[:length])
        with pytest.raises(arch.CheckpointError):
            arch.read_checkpoint(path)
    refused = 0
    for position in range(0, len(whole), stride):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            arch.read_checkpoint(path)
        except arch.CheckpointError:
            refused += 1
    assert refused > 5


def header(content: object, length: int | None = None, payload: bytes = b"") -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        header({"a": F32}, length=2**63),
        header({"a": F32}, length=200_000_000),
        header({"a": F32}, length=0),
        header({"a": F32}),
        header({"a": F32 | {"shape": [2**40]}}, payload=bytes(8)),
        header({"a": F32 | {"data_offsets": [0, 2**40]}}, payload=bytes(8)),
        header({"a": F32 | {"data_offsets": [8, 0]}}, payload=bytes(8)),
        header({"a": F32, "b": F32 | {"data_offsets": [4, 12]}}, payload=bytes(12)),
        header([1, 2]),
        b"\xff" * 64,
        b"",
    ],
)
def test_hostile_safetensors_headers(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(arch.CheckpointError, match="not readable as a checkpoint"):
        arch.read_checkpoint(path)


def test_views_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        weights = arch.AetherNet(3, 20_000, (1,)).state_dict()  # 16 GB
    torch.save({key: torch.zeros(1).expand(value.shape) for key, value in weights.items()}, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    with pytest.raises(arch.CheckpointError, match=r"claims .* numbers, more than the file holds"):
        arch.load(tmp_path / "a.pth")


def repack(source: Path, target: Path, compression: int, repeated: int = 0) -> None:
    """The same entries in another zip file, whose directory names the largest one more often than once."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.filelist += [max(new.filelist, key=lambda entry: entry.file_size)] * repeated


def test_files_that_unpack_to_far_more_than_they_are(state: State, tmp_path: Path) -> None:
    net, packed = tmp_path / "net.pth", tmp_path / "packed.pth"
    saved({k: torch.rand_like(v) for k, v in state.items()}, net)
    repack(net, packed, zipfile.ZIP_DEFLATED)  # as others may pack it
    assert packed.stat().st_size < net.stat().st_size
    assert same(arch.read_checkpoint(packed), arch.read_checkpoint(net))
    saved(state | {"zeros": torch.zeros(1 << 20)}, net)
    for compression, repeated in ((zipfile.ZIP_DEFLATED, 0), (zipfile.ZIP_STORED, 9)):
        repack(net, packed, compression, repeated)
        with pytest.raises(arch.CheckpointError, match="unpack to"):
            arch.read_checkpoint(packed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_not_finite_are_named(state: State, value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    state["layers.0.0.ffn.fc2.weight"][3, 2] = value
    arch.write_checkpoint({k: v.to(dtype) for k, v in state.items()}, tmp_path / "net.pth")
    with pytest.raises(arch.CheckpointError, match=r"net\.pth: layers\.0\.0\.ffn\.fc2\.weight: 1 of .*NaN or inf"):
        arch.load(tmp_path / "net.pth")


def test_missing_foreign_and_too_large_files(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(arch.CheckpointError, match="there is no such file"):
        arch.read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(arch.CheckpointError, match="there is no such file"):
        arch.read_checkpoint(tmp_path)
    for name in ("net.onnx", "net"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(arch.CheckpointError, match=r"allowed are \.safetensors, \.pth"):
            arch.read_checkpoint(tmp_path / name)
    arch.write_checkpoint(state, tmp_path / "net.pth")
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 1000)
    with pytest.raises(arch.CheckpointError, match="at most 1,000 is read"):
        arch.read_checkpoint(tmp_path / "net.pth")


def test_load_names_the_file(tmp_path: Path, state: State) -> None:
    del state["conv_last.bias"]
    arch.write_checkpoint(state, tmp_path / "cut.pth")
    with pytest.raises(arch.CheckpointError, match=r"cut\.pth: truncated.*conv_last\.bias is missing"):
        arch.load(tmp_path / "cut.pth")
