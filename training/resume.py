"""The state of a run on disk: complete or not there, in small files, and refused rather than misread."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arch.checkpoint import pickled
from presets.files import sync
from training.errors import TrainingError

SHARD = 14 << 20  # bytes; files of a state are to stay below 15 MiB


def save_state(
    folder: Path,
    config: dict[str, Any],
    stage: str,
    step: int,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    origin: str | None = None,
) -> None:
    """Write the whole state beside the old one, then swap: a kill at any moment leaves a complete state.

    origin: sha256 of the checkpoint that the run began with.
    """
    new, old = folder.with_suffix(".new"), folder.with_suffix(".old")
    parts: dict[str, dict[str, Tensor]] = {"model": dict(model.state_dict()), "ema": ema}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if key != "step":  # it is the same for all
                parts.setdefault(key, {})[name] = value
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for part, tensors in parts.items():
            for number, shard in enumerate(shards(tensors)):
                (new / f"{part}{f'.{number}' if number else ''}.pth").write_bytes(pickled(shard))
        files = sorted(p.name for p in new.iterdir())
        facts = {"step": step, "stage": stage, "origin": origin, "config": config, "files": files}
        (new / "state.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        for path in [*new.iterdir(), new]:
            sync(path)
        if folder.exists():  # otherwise the old one is the only one: a run was killed between these two renames
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise TrainingError(f"{folder}: step {step} was not saved ({error}); the state before it stays.") from error
    shutil.rmtree(old, ignore_errors=True)


def shards(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Split a state dict into copies on the CPU of at most SHARD bytes together; at least one."""
    shard: dict[str, Tensor] = {}
    size = 0
    for key, value in tensors.items():
        if shard and size + value.nbytes > SHARD:
            yield shard
            shard, size = {}, 0
        shard[key] = value.detach().cpu().contiguous().clone()
        size += value.nbytes
    yield shard


def find_state(folder: Path) -> Path | None:
    """Where the state is: `folder`, or beside it where a run was killed between the two renames of `save_state`."""
    return next((path for path in (folder, folder.with_suffix(".old")) if path.exists()), None)


def read_facts(folder: Path) -> dict[str, Any]:
    """A state's step, stage, origin, configuration and files. Raises TrainingError where they are damaged."""
    try:
        facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if not isinstance(facts["step"], int) or not isinstance(facts["config"][facts["stage"]], dict):
            raise ValueError("state.json is not as it was written")
        return facts | {"files": [str(name) for name in facts["files"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> TrainingError:
    return TrainingError(f"{folder} is damaged ({error}); put a whole copy in its place.")


def load_state(
    folder: Path,
    config: dict[str, Any],
    stage: str,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    origin: str | None = None,
) -> int | None:
    """Resume from `folder` where there is a state, and return its step; None where there is none.

    origin: sha256 of the checkpoint that the run would begin with; without it, whatever it began with is right.
    Changes of the schedule are allowed, and said. Raises TrainingError where the state is damaged, or belongs to
    another model, stage, optimizer or origin, rather than start from scratch over it.
    """
    found = find_state(folder)
    if found is None:
        return None
    folder, saved = found, read_facts(found)
    step, theirs = saved["step"], saved["config"]
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}}
    try:
        for name in saved["files"]:
            parts.setdefault(name.partition(".")[0], {}).update(torch.load(folder / name, "cpu", weights_only=True))
    except Exception as error:  # damaged files end in nearly any exception
        raise _damaged(folder, error) from error
    if saved["stage"] != stage:
        raise TrainingError(f"{folder} is the state of stage {saved['stage']}, not of {stage}; give another --out.")
    if origin and saved.get("origin") not in (None, origin):
        other = "began with another checkpoint than is given now: the network was trained on, or init was changed"
        raise TrainingError(f"{folder} {other}. Give another --out, or move the state and its result away.")
    if theirs.get("model") != config.get("model") or theirs.get("variant") != config["variant"]:
        raise TrainingError(f"{folder} is the state of another model; give another --out, or its own config.")
    if (other := theirs.get(stage, {}).get("optimizer", "adamw")) != config[stage].get("optimizer", "adamw"):
        raise TrainingError(f"{folder} is the state of optimizer = {other!r}; give another --out, or that optimizer.")
    try:
        model.load_state_dict(parts.pop("model"))
        saved_ema = parts.pop("ema")
        for key, value in ema.items():
            value.copy_(saved_ema[key])
        for name, parameter in model.named_parameters():
            # laid out in memory as the parameter, as the optimizer would have made it
            mine = {key: tensors[name] for key, tensors in parts.items() if name in tensors}
            state = {key: torch.empty_like(parameter, requires_grad=False).copy_(value) for key, value in mine.items()}
            if state:
                count = torch.tensor(float(step), device=parameter.device)
                optimizer.state[parameter] = {"step": count, **state}
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{folder} does not fit its own configuration ({error}).") from error
    for group in optimizer.param_groups:
        group["step"] = step  # where the packages' optimizers keep it
    changes = [f"{k} {theirs[stage].get(k)} -> {v}" for k, v in config[stage].items() if theirs[stage].get(k) != v]
    changes += [f"{k} {v} -> default" for k, v in theirs[stage].items() if k not in config[stage]]
    print(f"resumed at step {step}{', with ' if changes else ''}{', '.join(changes)}", flush=True)
    return step
