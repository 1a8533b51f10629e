"""What a training step asks of the host, and Triton's depthwise convolution where its interpreter runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from arch.layers import ReparamLargeKernelConv
from training import accelerate

from .conftest import Run, toy

INTERPRETED = """
from training import depthwise
for channels, size in ((20, 3), (33, 5)):
    print(depthwise.check("cpu", channels, size))
"""


class Seen(TorchDispatchMode):
    """Counts the operations that are run in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """The operations of every training step."""
    seen: list[Counter[str]] = []

    def call(self: accelerate.Replayed, key: object) -> None:
        with monkeypatch.context() as patch, Seen() as mode:
            # a CPU is asked for the window in every pass, where that costs nothing
            patch.setattr(ReparamLargeKernelConv, "settle", lambda conv: None)
            self.function()
        seen.append(mode.names)

    monkeypatch.setattr(accelerate.Replayed, "__call__", call)
    return seen


SMALL = {"scale": 2, "drop_path_rate": 0.0, "norm": "batch", "gate": "relu", "deployed_kernel": 5, "border": 2}
STOPS = {"_local_scalar_dense", "item", "nonzero", "masked_select", "lift_fresh", "equal"}
VIEWS = {"view", "_unsafe_view", "expand", "transpose", "t", "slice", "select", "detach", "permute", "unsqueeze"}


@pytest.mark.parametrize("variant", ["aether_tiny", "aether_small"])
@pytest.mark.parametrize("stage", ["float", "qat"])
def test_a_step_asks_the_host_for_nothing(run: Run, steps: list[Counter[str]], variant: str, stage: str) -> None:
    """No value is read back and no tensor is made of Python numbers: either makes a GPU wait, and ends a capture."""
    config = toy()
    if variant == "aether_small":
        config |= {"variant": variant, "model": SMALL}
    for each in ("float", "qat"):
        config[each] |= {"optimizer": "muon", "steps": 2, "luma": 2.0, "flat": 0.3, "bilevel": 0.3}
    assert run("net", config=config) == 0
    if stage == "qat":
        steps.clear()
        assert run("net", "--stage", "qat", config=config) == 0
    assert len(steps) == 2
    assert not STOPS & steps[1].keys(), steps[1]  # the first makes the optimizer's state
    assert steps[1]["convolution"] > 2


def test_batches_of_one_shape_cost_no_more_launches(run: Run, steps: list[Counter[str]]) -> None:
    """Crops are made by indexing, however many there are."""
    config = toy()
    config["float"] |= {"steps": 2, "optimizer": "muon"}
    for size in (2, 16):
        config["float"]["batch"] = size
        assert run(f"{size}", config=config) == 0
    assert steps[1] == steps[3]
    assert sum(count for name, count in steps[1].items() if name not in VIEWS) < 500


def test_tritons_depthwise_convolution_is_torchs() -> None:
    pytest.importorskip("triton", reason="Triton is not part of torch on this platform")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    errors = [float(word) for word in done.stdout.split()]
    assert len(errors) == 2
    assert max(errors) < 1e-5


def test_the_average_is_exponential() -> None:
    averages, values = [torch.zeros(3), torch.ones(2)], [torch.ones(3), torch.zeros(2)]
    accelerate.moving_average(averages, values, torch.tensor(0.9))
    assert torch.allclose(averages[0], torch.full((3,), 0.1))
    assert torch.allclose(averages[1], torch.full((2,), 0.9))
