"""Reading and writing checkpoint files: containers, hostile and damaged files, complete or no output."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import struct
import sys
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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_round_trip(state: State, suffix: str, tmp_path: Path) -> None:
    mixed = {
        k: v.half()
        if "bias" in k
        else v.to(torch.bfloat16)
        if "ffn" in k
        else v.to(memory_format=torch.channels_last)
        if v.ndim == 4
        else v
        for k, v in state.items()
    } | {"empty": torch.empty(0), "number": torch.tensor(3)}
    arch.write_checkpoint(mixed, tmp_path / f"net{suffix}")
    assert same(arch.read_checkpoint(tmp_path / f"net{suffix}"), mixed)


def test_load_gives_the_network_in_float32_and_eval_mode(state: State, tmp_path: Path) -> None:
    half = {k: v.half() for k, v in state.items()} | {"conv_last.input_quantizer._amax": torch.tensor(1.0)}
    arch.write_checkpoint(half, tmp_path / "net.pth")
    model = arch.load(str(tmp_path / "net.pth"))
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert same(dict(model.state_dict()), {k: v.half().float() for k, v in state.items()})


CONTAINERS = ["params_ema", "params-ema", "params", "net_g", "state_dict", "model_state_dict", "model"]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "net_g."])
@pytest.mark.parametrize("container", [None, *CONTAINERS])
def test_containers_and_prefixes(state: State, container: str | None, prefix: str, tmp_path: Path) -> None:
    inner = {prefix + k: v for k, v in state.items()}
    wrapped = inner if container is None else {container: inner, "iter": 5, "optimizer": {"lr": 0.1}}
    for legacy in (False, True):
        path = saved(wrapped, tmp_path / "net.pth", legacy=legacy)
        assert same(arch.read_checkpoint(path), state)
    safetensors.torch.save_file(inner, tmp_path / "net.safetensors")
    assert same(arch.read_checkpoint(tmp_path / "net.safetensors"), state)


def test_containers_within_containers(state: State, tmp_path: Path) -> None:
    path = saved({"model": {"state_dict": {"params": state}}}, tmp_path / "net.ckpt")
    assert same(arch.read_checkpoint(path), state)


def test_averaged_weights_win(state: State, tmp_path: Path) -> None:
    zeros = {k: torch.zeros_like(v) for k, v in state.items()}
    for container in ({"params": zeros, "params_ema": state}, {"params_ema": state, "params": zeros}):
        assert same(arch.read_checkpoint(saved(container, tmp_path / "net.pth")), state)


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


def test_whole_modules_are_refused_by_name(tmp_path: Path) -> None:
    path = saved(torch.nn.Linear(1, 1), tmp_path / "net.pth")
    with pytest.raises(
        arch.CheckpointError, match=r"it holds torch\.nn\.modules\.linear\.Linear; only tensors"
    ) as caught:
        arch.read_checkpoint(path)
    assert "\x1b" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused_without_unsafe_advice(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), tmp_path / "net.pt")
    with pytest.raises(arch.CheckpointError, match="TorchScript archive") as caught:
        arch.read_checkpoint(tmp_path / "net.pt")
    assert "weights_only" not in str(caught.value)


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


@pytest.mark.parametrize("overlapping", [False, True])
def test_files_that_unpack_to_far_more_than_they_are(state: State, overlapping: bool, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pth"
    saved(state | {"zeros": torch.zeros(1 << 20)}, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as source:
        entries = {entry: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_STORED if overlapping else zipfile.ZIP_DEFLATED) as target:
        for entry, data in entries.items():
            target.writestr(entry.filename, data)
        if overlapping:  # the central directory names one entry many times
            target.filelist += [max(target.filelist, key=lambda entry: entry.file_size)] * 9
    with pytest.raises(arch.CheckpointError, match="unpack to"):
        arch.read_checkpoint(bomb)
    assert len(arch.read_checkpoint(tmp_path / "net.pth")) == len(state) + 1


def test_a_file_that_was_packed_by_others_is_read(state: State, tmp_path: Path) -> None:
    net, packed = (
        saved({k: torch.rand_like(v) for k, v in state.items()}, tmp_path / "net.pth"),
        tmp_path / "packed.pth",
    )
    with zipfile.ZipFile(net) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert packed.stat().st_size < net.stat().st_size
    assert arch.read_checkpoint(packed).keys() == state.keys()


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_bytes_depend_on_names_and_tensors_alone(state: State, suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / "b" / f"other{suffix}"
    second.parent.mkdir()
    arch.write_checkpoint(state, first)
    arch.write_checkpoint({k: v.clone().requires_grad_() for k, v in state.items()}, second)
    assert first.read_bytes() == second.read_bytes()
    state["conv_last.bias"][0] += 1
    arch.write_checkpoint(state, second)
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_failed_write_leaves_what_was_there(
    state: State, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"net{suffix}"
    arch.write_checkpoint(state, path)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(arch.CheckpointError, match=r"not written .*No space left"):
        arch.write_checkpoint({"a": torch.zeros(1000)}, path)
    with pytest.raises(arch.CheckpointError):
        arch.write_checkpoint(state, tmp_path / f"new{suffix}")
    monkeypatch.undo()

    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    monkeypatch.setattr(safetensors.torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        arch.write_checkpoint(state, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_disk_that_fills_up_while_writing(state: State, suffix: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="a limit on the size of files is needed to act a full disk")
    path = tmp_path / f"net{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(arch.CheckpointError, match=r"not written .*too large"):
            arch.write_checkpoint(state, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not any(tmp_path.iterdir())


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


def test_places_that_cannot_be_written(state: State, tmp_path: Path) -> None:
    with pytest.raises(arch.CheckpointError, match=r"not written .*No such file"):
        arch.write_checkpoint(state, tmp_path / "none" / "net.pth")
    for name in ("net.onnx", "net", "net.pt"):
        with pytest.raises(arch.CheckpointError, match=r"written as \.safetensors or \.pth"):
            arch.write_checkpoint(state, tmp_path / name)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(arch.CheckpointError, match="not written"):
        arch.write_checkpoint(state, tmp_path / "folder.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.pth"]


def test_write_leaves_its_tensors_alone_and_copes_with_views(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    views = {"rows": base[1:], "columns": base[:, 1], "turned": base.T, "same": base}
    for suffix in (".pth", ".safetensors"):
        arch.write_checkpoint(views, tmp_path / f"net{suffix}")
        assert same(arch.read_checkpoint(tmp_path / f"net{suffix}"), {k: v.contiguous() for k, v in views.items()})
    content = io.BytesIO((tmp_path / "net.pth").read_bytes())
    stored = torch.load(content, weights_only=True)
    assert stored["columns"].untyped_storage().nbytes() == 12, "a view must not bring its whole base along"
    assert torch.equal(base, torch.arange(12.0).view(3, 4))
