"""The optimizers that a configuration can name."""

# pyright: reportPrivateImportUsage=false
# torch's own optimizers are made of the _foreach functions, which have no public name.

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import TrainingError

OPTIMIZERS = ("adamw", "adan", "muon")
GRAPHED = ("adamw", "muon")  # those whose step asks the host for nothing, and can be part of a CUDA graph


def has_bf16(device: str) -> bool:
    """Whether the device computes bf16 itself."""
    if torch.device(device).type != "cpu":
        return True
    abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 and newer
    return any(value for key, value in abilities.items() if key.endswith("bf16"))


def make_optimizer(model: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    """The optimizer `name`, without weight decay; TrainingError where its package is missing.

    On a GPU the learning rate of those in GRAPHED is a tensor there: a CUDA graph reads it anew at every replay.
    """
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    if name == "adamw":
        rate = torch.tensor(lr, device=device) if on_gpu else lr
        return torch.optim.AdamW(model.parameters(), rate, (0.9, 0.99), weight_decay=0.0, capturable=on_gpu)
    if name == "muon":
        return Muon(model.parameters(), lr)
    try:
        import pytorch_optimizer
    except ImportError:
        raise TrainingError(f"optimizer = {name!r} needs a package: pip install pytorch_optimizer.") from None
    return pytorch_optimizer.Adan(model.parameters(), lr=lr, betas=(0.98, 0.92, 0.99))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the learning rate `lr`, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


class Muon(torch.optim.Optimizer):
    """Muon (Jordan, 2024) for the kernels that mix channels, Adam for the other parameters; no weight decay.

    A kernel (out, in, kh, kw) is a matrix with a row for each output channel. torch.optim.Muon takes matrices alone,
    and orthogonalises them in bf16 everywhere, which takes as long as the rest of a step where bf16 is emulated.
    The kernels of one shape are one batch of matrices, and the other parameters one list: a step of a network of a
    hundred parameters is some dozens of launches. Learning rate and step count are tensors on the device.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        kernels: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for parameter in parameters:
            (kernels if parameter.ndim > 1 and parameter.shape[1] > 1 else rest).append(parameter)
        device = (kernels + rest)[0].device
        groups = [
            {"params": part, "lr": torch.tensor(lr, device=device), "step": 0} for part in (kernels, rest) if part
        ]
        super().__init__(groups, {"betas": (0.9, 0.99), "eps": 1e-10, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step by the parameters' gradients, which it may change."""
        for group in self.param_groups:
            device = group["lr"].device
            if not isinstance(group["step"], Tensor):  # new, or set by `training.resume`
                group["step"] = torch.tensor(float(group["step"]), device=device)
            group["step"] += 1
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if parameters[0].ndim > 1 and parameters[0].shape[1] > 1:
                self._orthogonal_step(parameters, group)
            else:
                self._adam_step(parameters, group)

    def _orthogonal_step(self, kernels: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Nesterov's momentum, orthogonalised."""
        gradients = [k.grad for k in kernels if k.grad is not None]
        averages = self._kept("momentum_buffer", kernels)
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        gradients = torch._foreach_lerp(gradients, averages, group["momentum"])
        by_shape: dict[torch.Size, list[int]] = {}  # one shape is one batch of matrices
        for number, kernel in enumerate(kernels):
            by_shape.setdefault(kernel.shape, []).append(number)
        for shape, numbers in by_shape.items():
            matrices = orthogonal(torch.stack([gradients[n].flatten(1) for n in numbers]))
            # A step as large as AdamW's, so that one learning rate serves both (Liu et al., Moonlight, 2025).
            matrices *= -0.2 * max(matrices.shape[1:]) ** 0.5 * group["lr"]
            torch._foreach_add_([kernels[n].data for n in numbers], [m.view(shape) for m in matrices])

    def _adam_step(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Adam (Kingma and Ba, 2015)."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        beta1, beta2 = group["betas"]
        means, squares = self._kept("exp_avg", parameters), self._kept("exp_avg_sq", parameters)
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_mul_(roots, (1 - beta2 ** group["step"]).rsqrt())
        torch._foreach_add_(roots, group["eps"])
        updates = torch._foreach_div(means, roots)
        torch._foreach_mul_(updates, -group["lr"] / (1 - beta1 ** group["step"]))
        torch._foreach_add_([p.data for p in parameters], updates)

    def _kept(self, name: str, parameters: list[nn.Parameter]) -> list[Tensor]:
        """The parameters' state of a name, zeros at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


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
