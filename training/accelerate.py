"""What makes a training step fast on a GPU: Triton's depthwise convolution, compiled blocks, one CUDA graph a step.

Each part is tried before it is relied on, and its absence is said: the step is then the same, only slower.
"""

# pyright: reportPrivateImportUsage=false
# torch's own averages are made of the _foreach functions, which have no public name.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

import arch
from arch.layers import ReparamLargeKernelConv

EAGER_STEPS = 3  # before a capture: lazy allocations and the compiler have to be over
AHEAD = 8  # steps that the host may be ahead of the GPU
TOLERANCE = 1e-4  # of the depthwise convolution, relative to the largest value


def say(line: str) -> None:
    """One line to the terminal, at once."""
    print(line, flush=True)


def use_depthwise(model: nn.Module, device: str) -> int:
    """Put Triton's depthwise convolution into a network on a GPU; the number of layers that have it now.

    It is compared with torch's first, and left out, with a line that says so, where it fails.
    """
    try:
        from training import depthwise

        error = depthwise.check(device)
    except Exception as reason:  # Triton missing, or of many kinds from its compiler
        say(f"depthwise convolution: torch's own, slower; Triton's cannot be used ({_first_line(reason)})")
        return 0
    if not error <= TOLERANCE:
        say(f"depthwise convolution: torch's own, slower; Triton's is off by {error:.1e} here")
        return 0
    count = 0
    for module in model.modules():
        if isinstance(module, ReparamLargeKernelConv) and not module.fused:
            module.convolve = depthwise.convolve  # pyright: ignore[reportAttributeAccessIssue]
            count += 1
        elif isinstance(module, nn.Conv2d) and _is_same_depthwise(module):
            module._conv_forward = depthwise.convolve  # pyright: ignore[reportAttributeAccessIssue]
            count += 1
    return count


def _is_same_depthwise(conv: nn.Conv2d) -> bool:
    k = conv.kernel_size[0]
    same = conv.kernel_size == (k, k) and conv.padding == (k // 2, k // 2) and conv.stride == conv.dilation == (1, 1)
    return same and k % 2 == 1 and conv.groups == conv.in_channels == conv.out_channels > 1 and conv.bias is not None


def compile_blocks(model: nn.Module) -> int:
    """torch.compile of a network's repeated blocks, in place: one compilation serves all. The number of blocks."""
    blocks = [m for m in model.modules() if isinstance(m, model.repeated)] if isinstance(model, arch.Upscaler) else []
    for block in blocks:
        block.compile(dynamic=False)
    return len(blocks)


class Replayed:
    """A function without arguments whose work on the GPU is captured into a CUDA graph and then replayed.

    The function reads and writes tensors that stay where they are. `key` names what its Python depends on: with
    another key it is run and captured anew. Without a GPU, or where the capture fails (which is said), it is just
    called. At most AHEAD calls are waiting on the GPU, so that a clock on the host tells the truth.
    """

    def __init__(self, function: Callable[[], None], device: str, *, capture: bool) -> None:
        self.function = function
        self.on_gpu = torch.device(device).type == "cuda"
        self.capture = capture and self.on_gpu
        self.key: Hashable = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0
        self.pending: deque[torch.cuda.Event] = deque()

    def __call__(self, key: Hashable) -> None:
        if not self.on_gpu:
            self.function()
            return
        if key != self.key:
            self.key, self.graph, self.calls = key, None, 0
        self.calls += 1
        if self.capture and not self.graph and self.calls > EAGER_STEPS:
            self._try_capture()
        if self.graph:
            self.graph.replay()
        elif self.capture:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.function()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            self.function()
        event = torch.cuda.Event()
        event.record()
        self.pending.append(event)
        if len(self.pending) > AHEAD:
            self.pending.popleft().synchronize()

    def _try_capture(self) -> None:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.function()
        except RuntimeError as reason:
            say(f"CUDA graph: not captured ({_first_line(reason)}); every kernel is launched on its own, slower")
            self.capture = False
            return
        self.graph = graph


def _first_line(reason: Exception) -> str:
    return (str(reason).strip() or type(reason).__name__).splitlines()[0]


def moving_average(averages: list[Tensor], values: list[Tensor], keep: Tensor | float) -> None:
    """averages += (1 - keep) * (values - averages), in three launches; `keep` may lie on the GPU."""
    differences = torch._foreach_sub(values, averages)
    torch._foreach_mul_(differences, 1 - keep)
    torch._foreach_add_(averages, differences)
