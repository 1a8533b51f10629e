"""First step of an export: a checkpoint is read and fused, and known for what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import arch
import presets
from arch.checkpoint import read_origin, weights_sha256
from arch.keys import is_observed
from presets.files import sha256

from .errors import ExportError


@dataclass(frozen=True)
class Source:
    """A checkpoint, read: the network as it was given, the fused one, and the state dict with its ranges."""

    given: arch.Upscaler
    fused: arch.Upscaler
    state: Mapping[str, Tensor]

    @property
    def config(self) -> arch.Config:
        """The network's configuration."""
        return self.given.config

    @property
    def name(self) -> str:
        """Engine name of the configuration without its precision: small_2x, custom_2x."""
        return f"{self.config.variant.removeprefix('aether_')}_{self.config.scale}x"

    @property
    def quantized(self) -> bool:
        """Whether the checkpoint comes from quantisation-aware training that learnt the ranges int8 needs."""
        return any(not is_observed(key) for key in arch.split_ranges(self.state)[1])

    @property
    def observed(self) -> bool:
        """Whether the checkpoint comes from torch.ao's quantisation-aware training.

        Its observers hold the ranges of weights and of modules' outputs, not of what convolutions read: int8 takes the
        weights, whose ranges are their own, and is calibrated.
        """
        return not self.quantized and bool(arch.split_ranges(self.state)[1])


def read(path: str | os.PathLike[str]) -> Source:
    """Read and fuse a checkpoint. Raises arch.CheckpointError where it is none, ExportError where it does not fuse."""
    state = arch.read_checkpoint(path)
    try:
        given = arch.from_state_dict(state)
    except arch.CheckpointError as error:
        raise arch.CheckpointError(f"{path}: {error}") from None
    try:
        return Source(given, arch.fuse(given), state)
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from error


def read_trained(path: Path, network: Source, source: Path) -> tuple[Source, str | None]:
    """The checkpoint of quantisation-aware training that belongs to a network, and which weights it began with.

    source: where the network was read. Those weights are None where they are not known. Raises ExportError for a
    checkpoint without ranges, and for that of another network or of other weights.
    """
    trained = read(path)
    if not trained.quantized and not trained.observed:
        raise ExportError(f"{path}: holds no ranges, so it is no checkpoint of quantisation-aware training.")
    if (theirs := trained.fused.config) != (ours := network.fused.config):
        raise ExportError(f"{path}: is {theirs}, another network than {source}: {ours}.")
    return trained, check_origin(source, network, path)


def check_origin(source: Path, network: Source, qat: Path) -> str | None:
    """`arch.checkpoint.weights_sha256` of the float network that `qat` began with, None where that is not known.

    It is known of checkpoints in which training.train wrote it down, and of those of the presets.
    Raises ExportError where it is another network than that of `source`.
    """
    known = [origin] if (origin := read_origin(qat)) else []
    own = sha256(qat)
    for name in () if known else presets.names():
        files = presets.load(name)["files"]
        if files.get("qat", {}).get("sha256") == own:
            paths = [presets.path(name, kind) for kind in ("notfused", "fused") if kind in files]
            known = [weights_sha256(arch.read_checkpoint(path)) for path in paths]
    if known and weights_sha256(network.state) not in known:
        raise ExportError(
            f"{qat}: was trained from other weights than those of {source} (sha256 {known[0][:12]}); give the "
            "*_notfused checkpoint that it began with."
        )
    return known[0] if known else None
