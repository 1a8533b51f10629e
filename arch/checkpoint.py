"""Reading and writing checkpoints: .safetensors, or .pth with torch.load(weights_only=True). Nothing executes."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from presets import files

from .errors import CheckpointError

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt")
ORIGIN = "origin"
MOST_UNPACKED = 4  # times the size of a file
MAX_BYTES = 2 << 30  # the largest variant is 73 MB; a trainer's state with optimiser moments stays below this


def read_file(path: Path) -> Any:
    """What a checkpoint file holds, containers and all. Raises CheckpointError as `arch.read_checkpoint` does."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path}: {path.stat().st_size:,} bytes; a checkpoint of at most {MAX_BYTES:,} is read.")
    suffix = path.suffix.lower()
    try:
        if suffix == ".safetensors":
            loaded: Any = safetensors_torch(path).load_file(path)
        elif suffix in PICKLE_SUFFIXES:
            _refuse_bomb(path)
            # The public code stores torch.__version__ beside its weights: a str subclass, harmless.
            with torch.serialization.safe_globals([TorchVersion]):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
        else:
            allowed = ", ".join((".safetensors", *PICKLE_SUFFIXES))
            raise CheckpointError(f"{path}: suffix {suffix or '(none)'} is not a checkpoint's; allowed are {allowed}.")
    except CheckpointError:
        raise
    except Exception as error:  # damaged files end in nearly any exception, struct.error and IndexError too
        raise CheckpointError(f"{path}: not readable as a checkpoint ({_reason(error)}).") from error
    return loaded


def _refuse_bomb(path: Path) -> None:
    """Raise CheckpointError where a zip file would unpack to far more than it is: torch.save does not compress."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        unpacked = sum(entry.file_size for entry in file.infolist())
    if unpacked > MOST_UNPACKED * path.stat().st_size:
        raise CheckpointError(
            f"{path}: its {path.stat().st_size:,} bytes unpack to {unpacked:,}, and weights hardly compress; "
            "save it anew with torch.save."
        )


def read_origin(path: str | os.PathLike[str]) -> str | None:
    """`weights_sha256` of the float network that a quantisation-aware training began with, where the file holds it.

    Raises CheckpointError as `arch.read_checkpoint` does.
    """
    path = Path(path)
    loaded = read_file(path)
    if path.suffix.lower() == ".safetensors":
        with safetensors_torch(path).safe_open(path, "pt") as file:
            loaded = file.metadata()
    origin = loaded.get(ORIGIN) if isinstance(loaded, Mapping) else None
    return origin if isinstance(origin, str) else None


def weights_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """sha256 of a state dict's names, types, shapes and numbers, whatever file they lie in."""
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        value = state_dict[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def safetensors_torch(path: Path) -> ModuleType:
    """safetensors.torch, needed for `path`; CheckpointError where it is not installed, which .pth files do without."""
    try:
        import safetensors.torch
    except ImportError:
        needs = "is read and written by the package safetensors: pip install safetensors, or give a .pth"
        raise CheckpointError(f"{path}: .safetensors {needs}.") from None
    return safetensors.torch


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "TorchScript" in text:  # torch advises to switch the safe loader off
        return "it is a TorchScript archive, which holds code; save model.state_dict()"
    if found := re.search(r"GLOBAL\s+(\S+)", text):
        return f"it holds {found[1]}; only tensors are read, since pickles of other objects can run code"
    if isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or holds more than tensors"
    return text.splitlines()[0] if text else type(error).__name__


def write_checkpoint(
    state_dict: Mapping[str, Tensor], path: str | os.PathLike[str], *, origin: str | None = None
) -> None:
    """Write tensors to `path`, .safetensors or .pth by its suffix, appearing only when complete.

    origin: `weights_sha256` of the float network that a quantisation-aware training began with, for `read_origin`; the
    tensors of a .pth then lie under "params".
    The bytes depend on the tensors, their names and the origin alone.
    Raises CheckpointError for another suffix or a folder that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", ".pth"):
        raise CheckpointError(f"{path}: suffix {suffix or '(none)'}; a checkpoint is written as .safetensors or .pth.")
    state = {k: v.detach().cpu().contiguous().clone() for k, v in state_dict.items()}
    if suffix == ".safetensors":
        data = safetensors_torch(path).save(state, {ORIGIN: origin} if origin else None)
    else:
        data = pickled({"params": state, ORIGIN: origin} if origin else state)
    try:
        files.write(path, data)
    except OSError as error:
        raise CheckpointError(f"{path}: not written ({error.strerror}).") from error


def pickled(content: Mapping[str, Any]) -> bytes:
    """Tensors as torch.save writes them; in memory, since on a full disk it does not raise OSError."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()
