"""Ranges of other trainers on the fused network, in modelopt's and pytorch-quantization's layouts."""

import copy
from collections import defaultdict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

import arch
from arch.layers import ReparamLargeKernelConv
from export.errors import ExportError
from export.quantizer import quant_convs
from export.ranges import load_quantized

from .conftest import calibrated


def observed(model: nn.Module, images: list[Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The state dict that a trainer leaves which put quantisers on every convolution and linear layer."""
    state, inputs = dict(model.state_dict()), defaultdict[nn.Module, float](float)

    def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[module] = max(inputs[module], float(args[0].abs().max()))

    with register_module_forward_pre_hook(see), torch.no_grad():
        for image in images:
            model(image)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            amax = module.weight.detach().abs().flatten(1).amax(1) * 0.97
            state[f"{name}.{prefix}weight_quantizer._amax"] = amax.view(-1, *(1,) * (module.weight.ndim - 1))
            state[f"{name}.{prefix}input_quantizer._amax"] = torch.tensor(inputs[module])
    return state


class Branches(ReparamLargeKernelConv):
    """A large-kernel convolution as the public code runs it: each branch a module call of its own, to be observed."""

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.lk_conv, self.sk_conv):
            conv.padding = (conv.kernel_size[0] // 2,) * 2
        return self.lk_conv(x) + self.sk_conv(x) + (self.lk_bias + self.sk_bias).view(1, -1, 1, 1)


@pytest.fixture
def branched(public: arch.Upscaler) -> arch.Upscaler:
    model = copy.deepcopy(public)
    for module in model.modules():
        if isinstance(module, ReparamLargeKernelConv):
            module.__class__ = Branches
    return model


@pytest.mark.parametrize("prefix", ["", "_"])
def test_ranges_of_an_unfused_net_are_kept(branched: arch.Upscaler, images: list[Tensor], prefix: str) -> None:
    state = observed(branched, images, prefix)
    model = load_quantized(state)
    convs = dict(quant_convs(model))

    def amax(name: str, kind: str = "input") -> Tensor:
        return state[f"{name}.{prefix}{kind}_quantizer._amax"]

    block = "layers.0.0"
    assert torch.equal(convs[f"{block}.conv"].input_quantizer._amax, amax(f"{block}.conv.lk_conv"))
    assert torch.equal(convs[f"{block}.ffn.fc1"].input_quantizer._amax, amax(f"{block}.ffn.fc1_gate"))
    gate, main = (amax(f"{block}.ffn.fc1_{part}", "weight").flatten() for part in ("gate", "main"))
    assert torch.equal(convs[f"{block}.ffn.fc1"].weight_quantizer._amax.flatten(), torch.cat([gate, main]))
    fc2 = amax(f"{block}.ffn.fc2", "weight").flatten()
    assert torch.equal(convs[f"{block}.ffn.fc2"].weight_quantizer._amax.flatten(), fc2)
    merged = convs[f"{block}.conv"]  # lk + sk: a new weight, so its range is its own
    assert torch.equal(merged.weight_quantizer._amax, merged.weight.abs().amax((1, 2, 3), keepdim=True))
    out = branched(images[0])
    error = (model(images[0]) - out).square().mean() / (out - out.mean()).square().mean()
    assert error.item() < 0.01


def test_our_own_states_come_back_as_they_were(tiny: arch.Upscaler, small: arch.Upscaler, images: list[Tensor]) -> None:
    """A layer without a range stays float."""
    model = calibrated(tiny, images)
    with torch.no_grad():
        for _, conv in quant_convs(model):
            conv.input_quantizer._amax.mul_(1.1)
            conv.weight_quantizer._amax.mul_(0.98)
    kept = ["conv_last", "layers.0.0.conv"]
    partly = calibrated(small, images, skip=kept)
    for trained in (model, partly):
        assert torch.equal(load_quantized(trained.state_dict())(images[0]), trained(images[0]))
    assert all(type(load_quantized(partly.state_dict()).get_submodule(name)) is nn.Conv2d for name in kept)


def test_broken_ranges_are_refused(small: arch.Upscaler, images: list[Tensor]) -> None:
    state = calibrated(small, images, skip=()).state_dict()
    for name, value, message in (
        ("_amax", torch.tensor(float("nan")), "must be positive"),
        ("_amax", torch.ones(16), "one range for the whole tensor"),
        ("_pre_quant_scale", torch.ones(16), "SmoothQuant"),
    ):
        with pytest.raises(ExportError, match=message):
            load_quantized(state | {f"conv_last.input_quantizer.{name}": value})
    with pytest.raises(ExportError, match="no ranges"):
        load_quantized(arch.split_ranges(state)[0])


def test_a_checkpoint_of_modelopt_itself(small: arch.Upscaler, images: list[Tensor]) -> None:
    mtq = pytest.importorskip("modelopt.torch.quantization", reason="nvidia-modelopt is not installed")
    fused = arch.fuse(small)

    def forward(model: nn.Module) -> None:
        for image in images:
            model(image)

    trained = mtq.quantize(fused, mtq.INT8_DEFAULT_CFG, forward)
    state = dict(trained.state_dict())
    model = load_quantized(state)
    for name, conv in quant_convs(model):
        assert torch.equal(conv.input_quantizer._amax, state[f"{name}.input_quantizer._amax"])
        assert torch.equal(conv.weight_quantizer._amax, state[f"{name}.weight_quantizer._amax"])
    assert float((model(images[0]) - trained(images[0])).abs().max()) < 2e-2
