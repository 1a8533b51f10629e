"""All networks: from what a trainer saved, or the name of a released one, to its configuration and its module."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import presets

from . import checkpoint, wrappers
from .aethernet import AetherNetConfig
from .errors import CheckpointError
from .keys import split_ranges
from .later import AetherNetLaterConfig
from .tiny import AetherTinyConfig
from .upscaler import Config, Upscaler

NETWORKS: tuple[type[Config], ...] = (
    AetherNetLaterConfig,
    AetherNetConfig,
    AetherTinyConfig,
)
"""One row a network."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a checkpoint file, on the CPU, containers and prefixes taken off (`unwrap`).

    Raises CheckpointError where the file is missing, of another type, damaged, too large, holds more than plain data
    (pickles that would execute code are refused by torch's weights-only loader), or no one network.
    """
    loaded = checkpoint.read_file(Path(path))
    try:
        return unwrap(loaded)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def unwrap(loaded: object) -> dict[str, Tensor]:
    """The one network in a loaded object (see `arch.wrappers.unwrap`)."""
    return wrappers.unwrap(loaded, _marks())


def detect(loaded: object) -> bool:
    """Whether an object holds the weights of a network of these, bare or in a container.

    Damaged ones count: `inspect` names what is wrong. Weights of other architectures that spandrel knows do not.
    """
    try:
        states = [split_ranges(found.state)[0].keys() for found in wrappers.networks(loaded, _marks())]
    except CheckpointError:
        return False
    return any(form <= state for state in states for network in NETWORKS for form in network.forms)


def inspect(state_dict: Mapping[str, Tensor]) -> Config:
    """The configuration that a state dict belongs to: every size and option, from its keys and shapes alone.

    Quantiser buffers (`split_ranges`) are passed over. The check is complete: a module built from the
    returned configuration loads the dict strictly.

    Raises CheckpointError for foreign, mixed (fused and unfused) or truncated dicts, naming what is missing, and for
    numbers that are not finite.
    """
    state, _ = split_ranges(wrappers.usable(state_dict))
    network = next((n for n in NETWORKS if _begins(state, n.first) and _begins(state, n.body)), None)
    if network is None:
        marks = ", or ".join(f"{first}* with {body}*" for first, body in _marks())
        raise CheckpointError(
            f"not an AetherNet checkpoint: its first keys are {', '.join(list(state)[:4]) or '(none)'}; "
            f"{marks} were expected."
        )
    config = network.from_state(state)
    _check_complete(state, config)
    for key, value in state.items():
        # A pickle of a few bytes can name a view of any size, and copying that would fill memory.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{key} claims {value.numel():,} numbers, more than the file holds.")
        if value.is_floating_point() and (bad := int((~torch.isfinite(value.float())).sum())):
            raise CheckpointError(
                f"{key}: {bad:,} of {value.numel():,} numbers are NaN or infinite; its training failed."
            )
    return config


def from_state_dict(state_dict: Mapping[str, Tensor], *, img_range: float = 1.0) -> Upscaler:
    """The network of a state dict, in eval mode and in float32; quantiser buffers are left out.

    img_range: only for networks that were trained with another one than 1.0 (it is not in checkpoints).
    Raises CheckpointError as `inspect` does.
    """
    config = inspect(state_dict)
    if img_range != getattr(config, "img_range", img_range):
        config = dataclasses.replace(config, img_range=img_range)
    model = config.build()
    known = model.state_dict().keys()
    model.load_state_dict({k: v for k, v in state_dict.items() if k in known})
    return model.float().eval()


def load(source: str | os.PathLike[str], *, img_range: float = 1.0) -> Upscaler:
    """The network of a checkpoint file, or a released one by its name ("small_2x"), on the CPU (`from_state_dict`).

    Of a released network it is the float form with its training branches.
    Raises CheckpointError as `read_checkpoint` and `inspect` do, presets.PresetError where a release is damaged.
    """
    path = locate(source)
    state = read_checkpoint(path)
    try:
        return from_state_dict(state, img_range=img_range)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def locate(source: str | os.PathLike[str], kind: presets.Kind = "notfused") -> Path:
    """The checkpoint file that a path or a released network's name ("small_2x") stands for.

    kind: of a released network, the file as trained, or with the ranges of its quantisation-aware training ("qat").
    Raises presets.PresetError where the release is damaged; a path may be of no file.
    """
    path = Path(source)
    if isinstance(source, str) and not path.suffix and source in presets.names():  # a checkpoint has a suffix
        return presets.verified(source, kind)
    return path


def _marks() -> list[tuple[str, str]]:
    return [(network.first, network.body) for network in NETWORKS]


def _begins(state: Mapping[str, Tensor], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)


def _check_complete(state: Mapping[str, Tensor], config: Config) -> None:
    """Compare names, shapes and kinds of numbers with a module of the configuration, built without memory."""
    try:
        with torch.device("meta"):
            expected = config.build().state_dict()
    except ValueError as error:
        raise CheckpointError(f"foreign or damaged AetherNet checkpoint: {error}") from error
    missing = [k for k in expected if k not in state and not k.endswith(".num_batches_tracked")]
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise CheckpointError(f"truncated or mixed AetherNet checkpoint: {missing[0]}{more} missing.")
    if unknown := [k for k in state if k not in expected and k not in config.extras]:
        more = f" and {len(unknown) - 1} more do" if len(unknown) > 1 else " does"
        raise CheckpointError(f"mixed or foreign AetherNet checkpoint: {unknown[0]}{more} not belong to it.")
    for key, value in state.items():
        if key in expected and value.shape != expected[key].shape:
            shapes = f"{tuple(value.shape)}; {tuple(expected[key].shape)} was expected"
            raise CheckpointError(f"{key} has shape {shapes}.")
        if key in expected and value.is_floating_point() != expected[key].is_floating_point():
            kind = "floating-point" if expected[key].is_floating_point() else "integer"
            raise CheckpointError(f"{key} is of type {value.dtype}; {kind} numbers were expected.")
