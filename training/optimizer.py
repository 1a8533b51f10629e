"""The optimizers that a configuration can name."""

from __future__ import annotations

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
    try:
        import pytorch_optimizer
    except ImportError:
        raise TrainingError(f"optimizer = {name!r} needs a package: pip install pytorch_optimizer.") from None
    if name == "adan":
        return pytorch_optimizer.Adan(model.parameters(), lr=lr, betas=(0.98, 0.92, 0.99))
    # Orthogonal updates are for matrices that mix channels; the rest goes to its AdamW. With the adjusted learning
    # rate both make steps of the same size (Liu et al., Moonlight, 2025), so that one schedule serves both.
    mixing = [p for p in model.parameters() if p.ndim > 1 and p.shape[1] > 1]
    rest = [p for p in model.parameters() if not (p.ndim > 1 and p.shape[1] > 1)]
    groups = [{"params": mixing, "use_muon": True, "use_adjusted_lr": True}, {"params": rest, "use_muon": False}]
    options: dict[str, Any] = {"lr": lr, "adamw_lr": lr, "adamw_betas": (0.9, 0.99)}
    if has_bf16(str(mixing[0].device)):
        return pytorch_optimizer.Muon(groups, **options)
    return float32_muon()(groups, **options)


def float32_muon() -> type[torch.optim.Optimizer]:
    """Muon that orthogonalises in float32: bf16, its own choice, takes as long as the rest of a step where emulated."""
    from pytorch_optimizer import Muon
    from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5

    class Float32Muon(Muon):
        @staticmethod
        def _orthogonalize(group: dict[str, Any], updates: list[Tensor]) -> list[Tensor]:
            settings: dict[str, Any] = {"num_steps": group["ns_steps"], "weights": group["ns_coeffs"]}
            return [zero_power_via_newton_schulz_5(u.flatten(1), dtype=torch.float32, **settings) for u in updates]

    return Float32Muon
