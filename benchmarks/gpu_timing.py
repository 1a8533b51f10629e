"""Timing a network on one device: its two ceilings, CUDA graphs, milliseconds and the share of the roofline."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NO_GRAPH = {"without": "its CUDA graph, which a CPU has not"}
SKIPPED = {"skipped": "a CPU has no CUDA graphs"}


@dataclasses.dataclass
class Machine:
    """The device, and the two ceilings measured on it."""

    device: str
    bytes_per_second: float = 0.0
    flops_per_second: float = 0.0

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU; the CPU is for trying the script."""
        return self.device != "cpu"

    @property
    def compiler(self) -> str:
        """torch.compile's backend; without a GPU the graph is traced, and no code made of it."""
        return "inductor" if self.cuda else "eager"

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()


def ceilings(machine: Machine) -> dict[str, Any]:
    """Copy bandwidth (bytes read and written) and the rate of an fp16 matrix product, both on random data."""
    n, size = (8192, 1 << 30) if machine.cuda else (256, 1 << 20)
    source = torch.empty(size, dtype=torch.uint8, device=machine.device).random_()
    target = torch.empty_like(source)
    seconds = clock(lambda: target.copy_(source), machine)["median_ms"] / 1000
    machine.bytes_per_second = 2 * size / seconds
    a, b = (torch.randn(n, n, device=machine.device).half() for _ in range(2))
    seconds = clock(lambda: a @ b, machine)["median_ms"] / 1000
    machine.flops_per_second = 2 * n**3 / seconds
    name = torch.cuda.get_device_name() if machine.cuda else "CPU"
    driver: dict[str, Any] = {}
    if machine.cuda:
        p = torch.cuda.get_device_properties(0)
        driver = {"multiprocessors": p.multi_processor_count, "capability": f"{p.major}.{p.minor}"}
        driver |= {"memory_bytes": p.total_memory, "cudnn": torch.backends.cudnn.version()}
    return {
        "card": name,
        "torch": torch.__version__,
        "bandwidth_tb_s": machine.bytes_per_second / 1e12,
        "fp16_tflop_s": machine.flops_per_second / 1e12,
        **driver,
    }


def picture(size: tuple[int, int], machine: Machine) -> Tensor:
    """Noise in [0, 1] as (1, 3, H, W), channels last."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, size[1], size[0], device=machine.device).half()
    return image.contiguous(memory_format=torch.channels_last)


def clock(run: Callable[[], Any], machine: Machine, *, seconds: float = 0.6) -> dict[str, Any]:
    """Median, least and largest milliseconds of a call, timed one by one by the device's events after a warm-up."""
    for _ in range(3 if machine.cuda else 0):
        run()
    machine.synchronize()
    times: list[float] = []
    stop = time.perf_counter() + (seconds if machine.cuda else 0.0)
    while not times or (time.perf_counter() < stop and len(times) < 400):
        if machine.cuda:
            events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(5)]
            for start, end in events:
                start.record()
                run()
                end.record()
            torch.cuda.synchronize()
            times += [start.elapsed_time(end) for start, end in events]
        else:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1000)
    return {"median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times), "runs": len(times)}


def timed(
    net: nn.Module, size: tuple[int, int], machine: Machine, *, graph: bool = False, compiled: bool = False
) -> dict[str, Any]:
    """Milliseconds a picture of a network, its memory, and the share of the roofline that its layers leave."""
    if graph and not compiled and not machine.cuda:
        return dict(SKIPPED)
    image = picture(size, machine)
    work = count(net, image)
    if machine.cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    run: Callable[[], Any]
    if compiled:
        torch._dynamo.reset()
        module = torch.compile(net, backend=machine.compiler)
        run = lambda: module(image)  # noqa: E731
    else:
        run = lambda: net(image)  # noqa: E731
    run()
    replay = captured(run, machine) if graph else run
    result = clock(replay, machine)
    if machine.cuda:
        result["peak_bytes"] = torch.cuda.max_memory_allocated() - before
    result |= roofline(work, result["median_ms"], machine)
    if graph and not machine.cuda:
        result |= NO_GRAPH
    del replay, run
    if machine.cuda:
        torch.cuda.empty_cache()
    return result


def captured(run: Callable[[], Any], machine: Machine) -> Callable[[], Any]:
    """The call as a CUDA graph; as it is on a CPU."""
    if not machine.cuda:
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = run()

    def replay() -> Any:
        graph.replay()
        return kept

    return replay


def count(net: nn.Module, image: Tensor, units: tuple[type[nn.Module], ...] = (nn.Conv2d,)) -> dict[str, float]:
    """FLOP of the convolutions, and the fewest bytes that have to move if every unit reads its input and writes its
    output once; counted on the meta device."""
    total = {"flop": 0.0, "bytes": 0.0}

    def conv(m: nn.Conv2d, _: Any, out: Tensor) -> None:
        total["flop"] += 2.0 * m.weight[0].numel() * out.numel()

    def unit(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        total["bytes"] += 2.0 * (given[0].numel() + out.numel())

    meta = copy.deepcopy(net).to("meta")
    inside: set[nn.Module] = set()
    for module in meta.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(conv)
        if isinstance(module, units) and module not in inside:
            module.register_forward_hook(unit)
            inside |= set(module.modules())
    meta(image.to("meta"))
    return total


def roofline(work: dict[str, float], milliseconds: float, machine: Machine) -> dict[str, Any]:
    """The least time that the counted work takes on this device, and which share of the measured time that is."""
    memory = work["bytes"] / machine.bytes_per_second * 1000
    compute = work["flop"] / machine.flops_per_second * 1000
    floor = max(memory, compute)
    return {
        "gflop": work["flop"] / 1e9,
        "gbyte": work["bytes"] / 1e9,
        "floor_ms": floor,
        "bound": "memory" if memory > compute else "compute",
        "percent_of_roofline": 100 * floor / milliseconds,
        "fps": 1000 / milliseconds,
    }
