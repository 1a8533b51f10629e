"""Snapshots of descriptors: what spandrel's users see. `pytest --snapshot-update` after a change that is meant."""

from __future__ import annotations

from typing import Any

import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import nn


def test_descriptor(model: nn.Module, snapshot: Any) -> None:
    state = model.state_dict()
    descriptor = ModelLoader().load_from_state_dict(state)
    assert isinstance(descriptor, ImageModelDescriptor)
    requirements = descriptor.size_requirements
    assert snapshot == {
        "architecture": (descriptor.architecture.id, descriptor.architecture.name),
        "purpose": descriptor.purpose,
        "tags": descriptor.tags,
        "scale": descriptor.scale,
        "channels": (descriptor.input_channels, descriptor.output_channels),
        "supports_half": descriptor.supports_half,
        "supports_bfloat16": descriptor.supports_bfloat16,
        "size_requirements": (requirements.minimum, requirements.multiple_of, requirements.square),
        "tiling": descriptor.tiling.name,
    }


def test_quantisation_aware_checkpoint(model: nn.Module, snapshot: Any) -> None:
    state = model.state_dict() | {"conv_first.input_quantizer._amax": torch.tensor(1.0)}
    assert ModelLoader().load_from_state_dict(state).tags == snapshot
