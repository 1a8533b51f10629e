"""A configuration file: the network, and the schedule of each stage. Everything is checked before anything is read."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import arch
from arch.registry import locate
from presets import Kind
from training.degrade import Video
from training.errors import TrainingError
from training.optimizer import OPTIMIZERS

DEGRADATIONS = {"bicubic": None, "video": Video}
TARGETS = ("both", "mean", "teacher")
KINDS = {"int": int, "float": (int, float), "str": str, "dict[str, float]": dict}  # tuples otherwise
SHARES = ("final_lr", "ema", "freeze_norm", "float32_from", "freeze_ranges", "flat", "bilevel")  # numbers from 0 to 1
LARGEST = 1e9  # of every other number; keeps infinity out
OTHERS = {  # options that the stage does not have
    "float": ("freeze_ranges", "calibration_batches"),
    "qat": ("anneal", "freeze_norm", "float32_from", "teacher"),
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """Schedule of one stage. lr follows linear warm-up and a cosine to lr * final_lr."""

    steps: int
    lr: float
    batch: int = 16
    patch: int = 48  # LR pixels
    warmup: int = 200
    final_lr: float = 0.01
    ema: float = 0.999
    luma: float = 0.0  # weight of luma's L1 distance beside that of R, G and B
    fft_weight: float = 0.05  # weight of the L1 distance between spectra, beside L1
    anneal: tuple[float, float] = (0.0, 0.0)  # shares of the steps between which the window goes from 1 to 0
    freeze_norm: float = 1.0  # share of the steps after which batch norms keep their averages, as when deployed
    float32_from: float = 0.85  # share of the float stage after which bf16 autocast ends, where there is bf16
    freeze_ranges: float = 1.0  # qat: share of the steps after which ranges are frozen
    calibration_batches: int = 16  # qat
    save_every: int = 500
    init: str = ""  # a checkpoint to start from, or a released network ("small_2x"); qat: one with ranges
    seed: int = 0
    flat: float = 0.02  # share of crops of one constant colour
    bilevel: float = 0.0  # share of crops whose channels are 0 or 255 at every pixel
    shares: dict[str, float] = dataclasses.field(default_factory=dict)  # see training.data.share; by area without it
    degradation: str = "bicubic"  # how LR is made: "bicubic", or "video" (training.degrade)
    teacher: str = ""  # float: a network, named so too, whose answer is a target beside HR; qat: the float one is that
    answers: str = ""  # folder that training.answers wrote for these images; instead of a teacher's, computed anew
    target: str = "both"  # with a teacher or answers: HR and the answer, their "mean", or the answer alone, "teacher"
    ensemble: int = 0  # 2, 4 or 8: the teacher's answer is its mean over so many flips
    optimizer: str = "adamw"  # "adan" needs pytorch_optimizer


def read_config(path: Path, name: str) -> tuple[dict[str, Any], Stage]:
    """A configuration and the schedule of one stage, whose checkpoints are paths; released networks have become theirs.

    Raises TrainingError where either is not as it should be, presets.PresetError where a release is damaged.
    """
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is not readable as a configuration ({error}).") from None
    section, start = config.get(name), config.get("float")
    whole = "model" in config or (isinstance(start, dict) and "init" in start)
    if config.get("variant") not in arch.VARIANTS or not whole or not isinstance(section, dict):
        needed = f"variant (one of {', '.join(arch.VARIANTS)}), [model] or an init in [float], and [{name}]"
        raise TrainingError(f"{path}: needed are {needed}.")
    if misplaced := [key for key in OTHERS[name] if key in section]:
        raise TrainingError(f"{path}: section [{name}] has no {', '.join(misplaced)}: the other stage has.")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}
    try:
        stage = Stage(**values)
    except TypeError as error:
        raise TrainingError(f"{path}: section [{name}]: {error}.") from None
    for field in dataclasses.fields(Stage):
        if wrong := type_error(str(field.type), field.name, getattr(stage, field.name)):
            raise TrainingError(f"{path}: section [{name}]: {field.name} is {wrong}.")
    if min(stage.steps, stage.batch, stage.patch, stage.save_every, stage.warmup, stage.calibration_batches) < 1:
        raise TrainingError(f"{path}: section [{name}]: a size or a number of steps is below 1.")
    choices = {"degradation": DEGRADATIONS, "optimizer": OPTIMIZERS, "ensemble": (0, 2, 4, 8), "target": TARGETS}
    for key, allowed in choices.items():
        if (value := getattr(stage, key)) not in allowed:
            names = ", ".join(map(str, allowed))
            raise TrainingError(f"{path}: section [{name}]: {key} is {value!r}; allowed are {names}.")
    if name == "float" and not stage.teacher and (stage.ensemble or (stage.target != "both" and not stage.answers)):
        raise TrainingError(f"{path}: section [float]: ensemble and target need a teacher; give its checkpoint.")
    if stage.answers and (stage.teacher or stage.ensemble or stage.degradation != "bicubic"):
        others = "a teacher, an ensemble or another degradation than bicubic"
        raise TrainingError(f"{path}: section [{name}]: answers are computed beforehand, and go with no {others}.")
    kinds: dict[str, Kind] = {"init": "qat" if name == "qat" else "notfused", "teacher": "notfused"}
    files = {key: str(locate(given, kind)) for key, kind in kinds.items() if (given := getattr(stage, key))}
    return config, dataclasses.replace(stage, **files)


def type_error(kind: str, name: str, value: Any) -> str:
    """What is wrong with an option's value; empty where it is right."""
    if not isinstance(value, KINDS.get(kind, tuple)) or isinstance(value, bool):
        return f"{value!r}, no {kind}"
    if isinstance(value, tuple):
        ascending = len(value) == 2 and 0 <= value[0] <= value[1] <= 1
        return "" if ascending else f"{list(value)}; allowed are two shares of the steps, [from, to]"
    largest = 1 if name in SHARES else LARGEST
    numbers = value.values() if isinstance(value, dict) else [value] if isinstance(value, int | float) else []
    if not all(isinstance(n, int | float) and 0 <= n <= largest for n in numbers):
        return f"{value}; allowed are numbers from 0 to {largest:g}"
    return ""
