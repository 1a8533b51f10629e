"""Double of the settings of chaiNNer's PyTorch package, on a machine without a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from api import NodeContext

from . import package

package.add_setting("Use CPU Mode")


@dataclass(frozen=True)
class PyTorchSettings:
    use_cpu: bool
    use_fp16: bool
    gpu_index: int
    budget_limit: int
    force_cache_wipe: bool = False

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def get_settings(context: NodeContext) -> PyTorchSettings:
    settings = context.settings
    return PyTorchSettings(
        use_cpu=settings.get_bool("use_cpu", False),
        use_fp16=settings.get_bool("use_fp16", False) and not settings.get_bool("use_cpu", False),
        gpu_index=settings.get_int("gpu_index", 0, parse_str=True),
        budget_limit=settings.get_int("budget_limit", 0, parse_str=True),
    )
