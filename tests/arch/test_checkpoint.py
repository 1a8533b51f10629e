"""Reading checkpoint files: what is no network, hostile and damaged files, each refused in a sentence."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import arch
from arch import checkpoint

from ..nets import same

State = dict[str, Tensor]


def saved(obj: object, path: Path, *, legacy: bool = False) -> Path:
    torch.save(obj, path, _use_new_zipfile_serialization=not legacy)
    return path


def test_load_gives_the_network_in_float32_and_eval_mode(state: State, tmp_path: Path) -> None:
    half = {k: v.half() for k, v in state.items()} | {"conv_last.input_quantizer._amax": torch.tensor(1.0)}
    arch.write_checkpoint(half, tmp_path / "net.pth")
    model = arch.load(str(tmp_path / "net.pth"))
    assert not model.training
    assert same(model.state_dict(), {k: v.half().float() for k, v in state.items()})
    partly = {("module." + k if k.startswith("layers") else k): v for k, v in state.items()}
    assert same(arch.read_checkpoint(saved(partly, tmp_path / "net.pth")), partly), "no prefix of all keys is taken off"


def nested(content: object, depth: int) -> object:
    return {"params": nested(content, depth - 1)} if depth else content


NO_STATE = [
    *((nested({}, depth), "holds dict and no state dict") for depth in (0, 1, 2, 6, 12)),
    (nested({}, 13), "it holds 'params'"),
    ([torch.zeros(1)], "holds list"),
    (torch.zeros(3), "holds Tensor"),
    (3, "holds int"),
    ({"iter": 3, "loss": 0.1}, "it holds 'iter', 'loss'"),
    ({"params": {"b": "text"}}, "no state dict under any of"),
    ({1: torch.zeros(1)}, "entry 1 is a Tensor"),
]


@pytest.mark.parametrize(("content", "message"), NO_STATE)
def test_other_content_is_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(arch.CheckpointError, match=rf"net\.pth: .*{message}"):
        arch.read_checkpoint(saved(content, tmp_path / "net.pth"))


class Hostile:
    """Unpickling it would create the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".PTH"])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_pickles_are_read_and_code_in_them_is_refused_and_not_run(
    form: str, suffix: str, state: State, tmp_path: Path
) -> None:
    trap, path = tmp_path / "trap", tmp_path / f"net{suffix}"
    wrapped = {"params": {f"module.{k}": v for k, v in state.items()}}
    hostile = wrapped | {"extra": Hostile(trap)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(hostile))
    else:
        assert same(arch.read_checkpoint(saved(wrapped, path, legacy=form == "legacy")), state)
        saved(hostile, path, legacy=form == "legacy")
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
    said = {"module.pt": r"holds torch\.nn\.modules\.linear\.Linear; only", "script.pt": "TorchScript archive"}
    for name, message in said.items():
        with pytest.raises(arch.CheckpointError, match=message) as caught:
            arch.read_checkpoint(tmp_path / name)
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
    whole, refused = path.read_bytes(), 0
    for position in range(0, len(whole) - 1, max(1, len(whole) // 90)):
        path.write_bytes(whole[:position])
        with pytest.raises(arch.CheckpointError):
            arch.read_checkpoint(path)
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            arch.read_checkpoint(path)
        except arch.CheckpointError:
            refused += 1
    assert refused > 5


def test_views_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        weights = arch.AetherNet(3, 20_000, (1,)).state_dict()  # 16 GB
    torch.save({key: torch.zeros(1).expand(value.shape) for key, value in weights.items()}, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    with pytest.raises(arch.CheckpointError, match=r"claims .* numbers, more than the file holds"):
        arch.load(tmp_path / "a.pth")


def test_files_that_unpack_to_far_more_than_they_are(state: State, tmp_path: Path) -> None:
    net, packed = tmp_path / "net.pth", tmp_path / "packed.pth"

    def repack(compression: int, repeated: int = 0) -> None:
        """The same entries in another zip file, whose directory names the largest one more often than once."""
        with zipfile.ZipFile(net) as old, zipfile.ZipFile(packed, "w", compression) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
            new.filelist += [max(new.filelist, key=lambda entry: entry.file_size)] * repeated

    saved({k: torch.rand_like(v) for k, v in state.items()}, net)
    repack(zipfile.ZIP_DEFLATED)  # as others may pack it
    assert packed.stat().st_size < net.stat().st_size
    assert same(arch.read_checkpoint(packed), arch.read_checkpoint(net))
    saved(state | {"zeros": torch.zeros(1 << 20)}, net)
    for compression, repeated in ((zipfile.ZIP_DEFLATED, 0), (zipfile.ZIP_STORED, 9)):
        repack(compression, repeated)
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
    arch.write_checkpoint(state, tmp_path / "net.pth")
    (tmp_path / "net.onnx").write_bytes(b"x")
    (tmp_path / "net").write_bytes(b"x")
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 1000)
    said = dict.fromkeys(("none.pth", "."), "there is no such file") | {"net.pth": "at most 1,000 is read"}
    said |= dict.fromkeys(("net.onnx", "net"), r"allowed are \.safetensors, \.pth")
    for name, message in said.items():
        with pytest.raises(arch.CheckpointError, match=message):
            arch.read_checkpoint(tmp_path / name)
