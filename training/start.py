"""What a stage starts from: a network fresh or of a checkpoint, its teacher, and its fake-quantised form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import arch
from export import quantizer
from export.equalise import equalise
from export.ranges import load_quantized
from training.config import Stage
from training.errors import TrainingError
from training.resume import find_state, read_facts


def build_network(config: dict[str, Any], weights: Path | None, *, grow: bool = True) -> arch.Upscaler:
    """The configuration's float network, fresh or from a checkpoint, which it must fit; without [model], as there.

    With `grow` a smaller one fits too, where the network can grow (see `arch.Upscaler.grown`).
    """
    torch.manual_seed(config.get("float", {}).get("seed", 0))
    given = arch.load(weights) if weights else None
    if given is not None and "model" not in config:
        if (given.config.variant, given.config.fused) != (config["variant"], "none"):
            raise TrainingError(f"{weights} is no {config['variant']} as it is trained; give a *_notfused checkpoint.")
        return given.train()
    try:
        model = arch.VARIANTS[config["variant"]](**config["model"])
    except (TypeError, ValueError) as error:
        raise TrainingError(f"section [model]: {error}.") from None
    if model.config.in_chans != 3:
        raise TrainingError(f"section [model]: in_chans is {model.config.in_chans}; the training data is RGB, 3.")
    if given is not None:
        if grow:
            given = given.grown(model.config)
        if (theirs := given.config) != model.config:
            raise TrainingError(f"{weights} holds {theirs}; the configuration asks for {model.config}.")
        model.load_state_dict(given.state_dict())
    return model


def find_teacher(network: arch.Upscaler, start: Path | None, stage: Stage) -> arch.Upscaler:
    """The teacher, fused: the checkpoint that the float stage names, or the float network itself in the qat stage."""
    path = Path(stage.teacher) if stage.teacher else start
    try:
        teacher = arch.fuse(arch.load(stage.teacher) if stage.teacher else network)
    except ValueError as error:
        raise TrainingError(f"{path}: {error}") from None
    theirs, needed = (teacher.scale, teacher.config.in_chans), (network.scale, 3)
    if theirs != needed:
        raise TrainingError(f"{path}: its scale and channels are {theirs}; a teacher here needs {needed}.")
    return teacher


def fake_quantise(teacher: nn.Module, stage: Stage, batches: list[Tensor]) -> nn.Module:
    """The fused network equalised and fake-quantised, with ranges that are learnt with the weights."""
    model = quantizer.quantize(equalise(teacher, batches))
    quantizer.calibrate(model, batches)
    quantizer.learn_ranges(model)
    return model


def trained_ranges(teacher: arch.Upscaler, stage: Stage) -> nn.Module:
    """The fake-quantised network of the checkpoint that the qat stage begins with; its ranges go on being learnt."""
    state = arch.read_checkpoint(stage.init)
    model = load_quantized(state) if arch.split_ranges(state)[1] else None
    if model is None or getattr(model, "config", None) != teacher.config:
        found = "a float network" if model is None else getattr(model, "config", None)
        raise TrainingError(
            f"{stage.init} holds {found}; init of the qat stage is a checkpoint of quantisation-aware training of "
            f"{teacher.config}."
        )
    quantizer.learn_ranges(model)
    return model


def refuse_unfinished(state: Path) -> None:
    """Raise TrainingError where the float stage has stopped before its end: its learning rate is still high."""
    if folder := find_state(state):
        facts = read_facts(folder)
        if (step := facts["step"]) < (steps := facts["config"]["float"]["steps"]):
            how = f"finish it, or end it there: run it once with steps = {max(step, 1)}"
            raise TrainingError(f"{folder}: the float stage stands at step {step} of {steps}; {how}.")
