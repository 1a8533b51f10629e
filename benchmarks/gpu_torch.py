"""The networks in PyTorch fp16 on one GPU: a child of benchmarks.gpu, which writes one line of JSON a measurement.

Most important first, each measurement on its own: what fails is recorded and does not end the rest, and what no
longer fits in the time is left out by name.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import arch
import presets
from arch.aethernet import FusedAetherBlock
from arch.layers import repeat_channels
from arch.tiny import FusedAetherTiny
from benchmarks import peers
from benchmarks.gpu_record import Record, read
from benchmarks.gpu_timing import NO_GRAPH, Machine, captured, ceilings, clock, count, picture, roofline, timed

OURS = ("small_2x", "tiny_2x")
PEERS = ("compact_16x64", "span_48", "plksr_tiny")


def label(size: tuple[int, int]) -> str:
    """1920x1080"""
    return f"{size[0]}x{size[1]}"


def prepare(record: Record, device: str) -> tuple[Machine, dict[str, nn.Module]]:
    """The device's ceilings, and the networks that load."""
    torch.backends.cudnn.benchmark = True
    torch.set_grad_enabled(False)
    machine = Machine(device)
    record.step("ceilings", ceilings, machine)
    nets: dict[str, nn.Module] = {}
    for name in (*OURS, *PEERS):
        record.step(f"load {name}", load_into, nets, name, machine)
    return machine, nets


def measure(record: Record, device: str, sizes: list[tuple[int, int]]) -> None:
    """Eager and as CUDA graphs, the fused block beside them."""
    machine, nets = prepare(record, device)
    fused = BlockwiseCase(nets["small_2x"], machine)
    record.step("fused block choice", fused.choose, record, sizes[0])
    for size in sizes:
        of = label(size)
        record.step(f"small_2x | fused block | {of}", fused.timed, size)
        for name in OURS:
            record.step(f"{name} | graph | {of}", timed, nets[name], size, machine, graph=True)
        for name in PEERS:
            record.step(f"{name} | graph | {of}", timed, nets[name], size, machine, graph=True)
        record.step(f"tiny_2x | cuDNN relu, graph | {of}", timed_relu, nets["tiny_2x"], size, machine)
    for name in (*OURS, *PEERS):
        for size in sizes:
            record.step(f"{name} | eager | {label(size)}", timed, nets[name], size, machine)


def measure_compiled(record: Record, device: str, sizes: list[tuple[int, int]]) -> None:
    """torch.compile, and CUDA graphs of that; what takes long to prepare."""
    machine, nets = prepare(record, device)
    fused = BlockwiseCase(nets["small_2x"], machine)
    fused.recall(record.path)
    for size in sizes:
        of = label(size)
        record.step(f"small_2x | fused block, rest compiled | {of}", fused.timed, size, compiled=True)
        for name in ("tiny_2x", "compact_16x64", "small_2x", "span_48", "plksr_tiny"):
            record.step(f"{name} | compile, graph | {of}", timed, nets[name], size, machine, graph=True, compiled=True)


def load(name: str, machine: Machine) -> nn.Module:
    """A network in fp16, channels last, on the device; peers with random weights, their branches merged.

    On a CPU, for a dry run, small_2x has one block.
    """
    if name in OURS:
        net: Any = arch.load(presets.path(name, "fused"))
        if not machine.cuda and name == "small_2x":  # Triton's interpreter takes seconds a block
            net.layers = net.layers[:1]
            del net.layers[0][1:]
    else:
        torch.manual_seed(0)
        net = peers.PEERS[name]().eval()
        peers.merge(net)
    return net.eval().half().to(device=machine.device, memory_format=torch.channels_last)


def load_into(nets: dict[str, nn.Module], name: str, machine: Machine) -> None:
    """Load one network, so that one that fails does not end the rest."""
    nets[name] = load(name, machine)


def timed_relu(net: nn.Module, size: tuple[int, int], machine: Machine) -> dict[str, Any]:
    """tiny_2x as TinyRelu, and its difference from the plain network."""
    relu, small = TinyRelu(net), picture((61, 43) if machine.cuda else (8, 8), machine)
    error = float((relu(small).float() - net(small).float()).abs().max())
    return {"max_error": error} | timed(relu, size, machine, graph=True)


class TinyRelu(nn.Module):
    """tiny_2x with cuDNN's convolution and ReLU in one call: its fused form's floors are all 0."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        assert isinstance(net, FusedAetherTiny)
        if net.floors.abs().max() > 0:
            raise ValueError("an activation's floor is not 0: it is no ReLU")
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        net, b = self.net, self.net.config.border
        s = net.scale
        x = (F.pad(image, [b] * 4, mode="replicate") - 0.5).contiguous(memory_format=torch.channels_last)
        y = x
        for layer in (net.conv_first, *net.blocks):
            assert isinstance(layer, nn.Conv2d)
            if y.is_cuda:
                y = torch.cudnn_convolution_relu(y, layer.weight, layer.bias, [1, 1], [1, 1], [1, 1], 1)
            else:
                y = F.relu(layer(y))
        y = net.conv_last(y) + repeat_channels(x, s * s)
        return (F.pixel_shuffle(y, s) + 0.5)[:, :, b * s : -b * s, b * s : -b * s]


class BlockwiseCase:
    """small_2x with its blocks in one kernel each: choice of the schedule, check and timing."""

    def __init__(self, net: nn.Module, machine: Machine) -> None:
        self.net, self.machine = net, machine
        self.schedule: Any = None

    def choose(self, record: Record, size: tuple[int, int]) -> dict[str, Any]:
        """Time one block under every schedule and keep the fastest that is right."""
        from benchmarks import gpu_block as gb

        machine = self.machine
        height, width = (size[1] + 8, size[0] + 8) if machine.cuda else (8, 8)  # one tile: an interpreter takes seconds
        block = next(m for m in self.net.modules() if isinstance(m, FusedAetherBlock))
        weights = gb.BlockWeights.of(block)
        x, y = (torch.randn(height + 4, width + 4, gb.CHANNELS, device=machine.device).half() for _ in range(2))
        best = None
        schedules = gb.SCHEDULES if machine.cuda else gb.SCHEDULES[:2]
        for schedule in schedules:

            def one(schedule: Any = schedule) -> dict[str, Any]:
                check = gb.check_block(machine.device, *((19, 37) if machine.cuda else (8, 8)), schedule)
                result = clock(lambda: gb.run_block(x, y, weights, schedule), machine, seconds=0.2)
                flop = 2.0 * height * width * gb.CHANNELS * (25 + 3 * weights.fc2.shape[0])
                moved = 4.0 * height * width * gb.CHANNELS
                return check | result | roofline({"flop": flop, "bytes": moved}, result["median_ms"], machine)

            result = record.step(f"block {schedule}", one)
            right = result and result["error"] < 5e-3 and not result["written_outside"]
            if right and (best is None or result["median_ms"] < best[0]):
                best = (result["median_ms"], schedule)
        if best is None:
            raise ValueError("no schedule of the fused block gave the right result")
        self.schedule = best[1]
        return {"schedule": dataclasses.asdict(best[1]), "median_ms": best[0]}

    def recall(self, results: Path) -> None:
        """Take the schedule that an earlier child chose."""
        from benchmarks import gpu_block as gb

        for entry in read(results):
            if entry["step"] == "fused block choice" and "schedule" in entry:
                self.schedule = gb.Schedule(**entry["schedule"])

    def timed(self, size: tuple[int, int], *, compiled: bool = False) -> dict[str, Any]:
        """The whole network: difference from PyTorch's fp16 and float32 on a part of the picture, and its time."""
        from benchmarks import gpu_block as gb

        machine = self.machine
        if self.schedule is None:
            raise ValueError("no schedule was chosen")
        if machine.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        fused = gb.BlockwiseNet(self.net, self.schedule)
        small = picture((61, 43) if machine.cuda else (8, 8), machine)
        fused.prepare(small.shape[2], small.shape[3], machine.device)
        exact = self.net.float()(small.float())
        half = self.net.half()(small).float()
        got = fused(small).float()
        errors = {
            "max_error": float((got - exact).abs().max()),
            "max_error_of_torch_fp16": float((half - exact).abs().max()),
        }
        image = picture(size, machine)
        fused.prepare(image.shape[2], image.shape[3], machine.device)
        work = count(self.net, image, (nn.Conv2d, FusedAetherBlock))
        if compiled:
            torch._dynamo.reset()
            fused.head = torch.compile(fused.head, backend=machine.compiler)
            fused.tail = torch.compile(fused.tail, backend=machine.compiler)
        run = lambda: fused(image)  # noqa: E731
        run()
        replay = captured(run, machine)
        result = errors | clock(replay, machine)
        if machine.cuda:
            result["peak_bytes"] = torch.cuda.max_memory_allocated() - before
        else:
            result |= NO_GRAPH
        return result | roofline(work, result["median_ms"], machine) | {"schedule": str(self.schedule)}


def compile_schedule(index: int) -> str:
    """Compile and run one schedule on a small picture, in a process of its own: the compiled kernel stays on disk."""
    from benchmarks import gpu_block as gb

    try:
        return str(gb.check_block("cuda", 19, 37, gb.SCHEDULES[index]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]


def compile_all(record: Record, _: str, __: list[tuple[int, int]]) -> None:
    """Every schedule of the fused block at once, on as many cores: one after the other they take a minute."""
    from benchmarks import gpu_block as gb

    def run() -> dict[str, Any]:
        with ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(compile_schedule, range(len(gb.SCHEDULES))))
        return {str(s): r for s, r in zip(gb.SCHEDULES, found, strict=True)}

    record.step("compile schedules", run)


PARTS = {"schedules": compile_all, "torch": measure, "compiled": measure_compiled}


def main() -> int:
    """python -m benchmarks.gpu_torch PART RESULTS DEADLINE DEVICE SIZE..."""
    part, results, deadline, device, *sizes = sys.argv[1:]
    with Record(Path(results), float(deadline)) as record:
        PARTS[part](record, device, [(int(w), int(h)) for w, h in (s.split("x") for s in sizes)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
