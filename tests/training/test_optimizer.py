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


def test_muon_is_torchs_on_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
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
