"""How a step is computed: it asks the host for nothing; Triton's convolution, torch's compiler, Muon."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import arch
from arch.layers import ReparamLargeKernelConv
from training import accelerate, optimizer

from .conftest import Config, Patch, Runs, trained

INTERPRETED = """
from training import depthwise
for channels, size in ((20, 3), (33, 5)):  # a group of channels and a part of one; strips and rows the same
    print(depthwise.check("cpu", channels, size, (5, 18)))
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
def steps(monkeypatch: Patch) -> list[Counter[str]]:
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


SMALL = {
    "variant": "aether_small",
    "model": {"drop_path_rate": 0.0, "norm": "batch", "gate": "relu", "deployed_kernel": 5, "border": 2},
}
STOPS = {"_local_scalar_dense", "item", "nonzero", "masked_select", "lift_fresh", "equal"}
VIEWS = {"view", "_unsafe_view", "expand", "transpose", "t", "slice", "select", "detach", "permute", "unsqueeze"}


@pytest.mark.parametrize("network", [{}, SMALL], ids=["tiny", "small"])
def test_a_step_asks_the_host_for_nothing(run: Runs, steps: list[Counter[str]], network: Config) -> None:
    """No value is read back and no tensor is made of Python numbers: either makes a GPU wait, and ends a capture."""
    stage = {"optimizer": "muon", "steps": 2, "luma": 2.0, "flat": 0.3, "bilevel": 0.3}
    run.stages("net", **network, float=stage, qat=stage)
    assert len(steps) == 4
    for asked in (steps[1], steps[3]):  # the first of a stage makes the optimizer's state
        assert not STOPS & asked.keys(), asked
        assert asked["convolution"] > 2


def test_batches_of_one_shape_cost_no_more_launches(run: Runs, steps: list[Counter[str]]) -> None:
    """Crops are made by indexing, however many there are."""
    for size in (2, 16):
        run(f"{size}", float={"steps": 2, "optimizer": "muon", "batch": size})
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
    torch.testing.assert_close(averages, [torch.full((3,), 0.1), torch.full((2,), 0.9)])


needs_compiler = pytest.mark.skipif(
    not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")),
    reason="torch.compile needs a C++ compiler, and there is none here",
)


@pytest.fixture
def passes(monkeypatch: Patch) -> list[Any]:
    """What torch.compile has compiled, once for every pass through it."""
    seen: list[Any] = []
    real = torch.compile

    def spy(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = real(function)
        return lambda *args: (seen.append(function), compiled(*args))[1]

    monkeypatch.setattr(torch, "compile", spy)
    return seen


@needs_compiler
def test_compiled_training_is_the_same_training(run: Runs, finished: Path, passes: list[Any]) -> None:
    run("plain", float={"steps": 1})
    assert not passes
    compiled = run("compiled", "--compile")
    assert sum(isinstance(p, nn.Module) for p in passes) == 6  # every step
    for key, value in trained(finished).items():
        assert (trained(compiled)[key] - value).abs().max() <= 1e-4, key
    killed = run.killed("killed", "--compile")
    run("killed", "--compile")  # and resumes exactly
    assert (compiled / "notfused.pth").read_bytes() == (killed / "notfused.pth").read_bytes()


@needs_compiler
def test_quantisation_is_compiled_too(run: Runs, finished: Path, float_net: Path, passes: list[Any]) -> None:
    run("net", "--stage", "qat", "--compile")
    assert sum(isinstance(p, nn.Module) for p in passes) == 6
    for key, value in trained(finished, "qat").items():
        assert (trained(float_net, "qat")[key] - value).abs().max() <= 1e-3, key


@pytest.mark.parametrize("outer", [1.0, 0.5, 0.0])
def test_the_network_is_one_graph(outer: float) -> None:
    """A window that is asked for its value would cut the graph in every block, and stop a GPU there."""
    options: dict[str, Any] = {"norm": "batch", "gate": "relu", "deployed_kernel": 5, "tail": "direct"}
    model = arch.AetherNet(3, 8, (1, 1), lk_kernel=7, image_residual=True, border=2, **options)
    model.anneal(outer)
    torch.compiler.reset()
    explained = torch._dynamo.explain(model.train())(torch.rand(1, 3, 16, 16))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


def test_a_missing_compiler_is_said_first(images: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text("")
    missing = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    files = [tmp_path / "toy.toml", "--data", images, "--out", tmp_path / "out", "--device", "cpu"]
    command = [sys.executable, "-m", "training.train", *map(str, files), "--compile"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | missing)
    assert done.returncode == 2
    assert "--compile cannot be used here" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_muon_is_torchs_on_matrices(monkeypatch: Patch) -> None:
    """Kernels as matrices, two of one shape in one batch, and AdamW beside them."""
    monkeypatch.setattr(optimizer, "has_bf16", lambda device: True)  # as torch's
    torch.manual_seed(0)
    convs = [nn.Conv2d(6, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 8, 3, groups=8)]
    model = nn.Sequential(*convs).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    kernels = [c.weight for c in convs[:3]]
    rest = [p for p in model.parameters() if all(p is not k for k in kernels)]
    matrices = [nn.Parameter(k.detach().flatten(1).clone()) for k in kernels]
    copies = [nn.Parameter(p.detach().clone()) for p in rest]
    muon = torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(copies, lr=1e-2, betas=(0.9, 0.99), eps=1e-10, weight_decay=0.0)
    mine = optimizer.make_optimizer(model, "muon", 1e-2)
    pairs = list(zip(kernels + rest, matrices + copies, strict=True))
    for _ in range(5):
        for p, copy in pairs:
            gradient = torch.randn(p.shape)
            p.grad, copy.grad = gradient.clone(), gradient.reshape(copy.shape)
        for each in (mine, muon, adamw):
            each.step()
    for p, copy in pairs:
        torch.testing.assert_close(p.detach().reshape(copy.shape), copy.detach(), rtol=0, atol=2e-4)


def test_muon_in_float32_is_muon(monkeypatch: Patch) -> None:
    steps: list[list[torch.Tensor]] = []
    for bf16 in (True, False):
        monkeypatch.setattr(optimizer, "has_bf16", lambda device, bf16=bf16: bf16)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 3, groups=4))
        before = [p.detach().clone() for p in model.parameters()]
        run = optimizer.make_optimizer(model, "muon", 1e-2)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        run.step()
        steps.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
    distances = [float((half - full).norm() / full.norm()) for half, full in zip(*steps, strict=True)]
    assert max(distances) < 0.03, distances  # bf16 has 8 bits of mantissa
    assert min(distances[0], distances[2]) > 1e-4, f"both steps came out of the same arithmetic: {distances}"
