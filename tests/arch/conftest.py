"""What the network's tests share: a seed, one thread, and the state dict of a small network."""

import pytest
import torch
from torch import Tensor

import arch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(arch.AetherNet(3, 8, (1,), lk_kernel=5).state_dict())
