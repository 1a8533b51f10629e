"""The optimizers that a configuration can name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.resume import TrainingError

OPTIMIZERS = ("adamw", "adan", "muon")


def has_bf16(device: str) -> bool:
    """Whether the device computes bf16 itself."""
    if torch.device(device).type != "cpu":
        return True
    abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 and newer
    return any(value for key, value in abilities.items() if key.endswith("bf16"))


def make_optimizer(model: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    """The optimizer `name`, without weight decay; TrainingError where its package is missing."""
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    if name == "muon":
        return Muon(model.parameters(), lr)
    try:
        import pytorch_optimizer
    except ImportError:
        raise TrainingError(f"optimizer = {name!r} needs a package: pip install pytorch_optimizer.") from None
    return pytorch_optimizer.Adan(model.parameters(), lr=lr, betas=(0.98, 0.92, 0.99))


class Muon(torch.optim.AdamW):
    """Muon (Jordan, 2024) for the kernels that mix channels, AdamW for the other parameters; no weight decay.

    A kernel (out, in, kh, kw) is a matrix with a row for each output channel. torch.optim.Muon takes matrices alone,
    and orthogonalises them in bf16 everywhere, which takes as long as the rest of a step where bf16 is emulated.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        kernels: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for parameter in parameters:
            (kernels if parameter.ndim > 1 and parameter.shape[1] > 1 else rest).append(parameter)
        groups = [{"params": kernels}, {"params": rest}]
        super().__init__(groups, lr=lr, betas=(0.9, 0.99), eps=1e-10, weight_decay=0.0)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step by the parameters' gradients; those of the kernels are used up."""
        kernels = self.param_groups[0]
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}  # one shape is one batch of matrices
        for kernel in kernels["params"]:
            if kernel.grad is not None:
                by_shape.setdefault(kernel.shape, []).append(kernel)
        for same in by_shape.values():
            matrices = orthogonal(torch.stack([self.momentum(kernel).flatten(1) for kernel in same]))
            # A step as large as AdamW's, so that one learning rate serves both (Liu et al., Moonlight, 2025).
            lr = kernels["lr"] * 0.2 * max(matrices.shape[1:]) ** 0.5
            for kernel, matrix in zip(same, matrices, strict=True):
                kernel.sub_(matrix.view(kernel.shape), alpha=lr)
                kernel.grad = None  # so that AdamW passes over it
        super().step(closure)

    def momentum(self, kernel: nn.Parameter) -> Tensor:
        """The kernel's gradient with Nesterov's momentum of 0.95."""
        gradient = kernel.grad
        assert gradient is not None
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(kernel)
        average: Tensor = state["momentum_buffer"].lerp_(gradient, 0.05)
        return gradient.lerp(average, 0.95)


def orthogonal(matrices: Tensor) -> Tensor:
    """Roughly the nearest matrices with singular values of 1, of (N, rows, columns): five Newton-Schulz steps.

    The coefficients are Jordan's (Muon, 2024), which bring singular values into about 0.7 to 1.2.
    """
    x = matrices.to(torch.bfloat16 if has_bf16(str(matrices.device)) else torch.float32)
    if tall := x.shape[1] > x.shape[2]:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).to(matrices.dtype)
