"""Double of the settings of chaiNNer's PyTorch package, on a machine without a GPU."""

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
    device = torch.device("cpu")


def get_settings(context: NodeContext) -> PyTorchSettings:
    return PyTorchSettings(bool(context.settings.raw["use_cpu"]), use_fp16=False, gpu_index=0, budget_limit=0)
