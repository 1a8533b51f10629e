"""The optimizers that a configuration can name."""

import pytest
import torch
from torch import nn

from training import optimizer


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
@pytest.mark.parametrize("bf16", [True, False])
def test_every_optimizer_lowers_a_loss(name: str, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "has_bf16", lambda device: bf16)
    losses = descend(name)
    assert losses[-1] < 0.8 * losses[0]


def test_muon_in_float32_is_muon(monkeypatch: pytest.MonkeyPatch) -> None:
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


def descend(name: str) -> list[float]:
    """Losses of 40 steps towards a fixed convolution."""
    torch.manual_seed(0)
    model, target = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
    run = optimizer.make_optimizer(model, name, 1e-2)
    losses: list[float] = []
    for _ in range(40):
        x = torch.randn(4, 3, 8, 8)
        loss = (model(x) - target(x).detach()).abs().mean()
        run.zero_grad()
        loss.backward()
        run.step()
        losses.append(float(loss.detach()))
    return losses
