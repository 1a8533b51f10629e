"""Fake quantisation of a fused network: symmetric int8 inputs and weights of every convolution.

    model = quantize(arch.fuse(net))
    calibrate(model, batches)            # post-training ranges; the model can be exported now
    parameters = learn_ranges(model)     # quantisation-aware training: ranges are learnt with the weights
    ...
    freeze_ranges(model)

Ranges are kept as modelopt keeps them, so that checkpoints of either look the same:
`<conv>.input_quantizer._amax` (scalar) and `<conv>.weight_quantizer._amax` (out_channels, 1, 1, 1). A step is
amax / 127 and the zero point is 0.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

import arch

Method = Literal["max", "percentile", "mse"]
Mode = Literal["off", "observe", "quantise"]

CODES = 127  # amax is code 127; the lowest code of an input is -128, of a weight -127
WEIGHT_RANGE = ".weight_quantizer._amax"
SMALLEST = 1e-6  # range of a tensor that is all zeros
SAMPLES = 1 << 18  # activations kept per layer for choosing a range
PERCENTILE = 0.9999


class Quantizer(nn.Module):
    """Rounds a tensor to symmetric int8 codes and back; gradients pass straight through inside the range.

    `mode`: "off" passes the tensor on, "observe" too and keeps samples of it, "quantise" rounds.
    `_amax` is the largest representable magnitude; shape () or (out_channels, 1, 1, 1). It is a buffer, or a
    parameter once `learn_ranges` has made it one (Esser et al., LSQ, 2020).
    """

    _amax: Tensor

    def __init__(self, amax: Tensor, lowest: int) -> None:
        super().__init__()
        self.register_buffer("_amax", amax)
        self.lowest = lowest
        self.mode: Mode = "quantise"
        self.samples: list[Tensor] = []
        self.seen_max = 0.0

    @property
    def scale(self) -> Tensor:
        """Size of one step, of the shape of `_amax`."""
        return self._amax / CODES

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "off":
            return x
        if self.mode == "observe":
            self._keep(x.detach())
            return x
        step = self.scale
        if step.requires_grad:  # LSQ: the gradient of a step is scaled down by the number of values that share it
            step = step.detach() + (step - step.detach()) * (x.numel() * CODES) ** -0.5
        codes = x / step
        rounded = codes.round()
        if torch.is_grad_enabled():  # straight through the rounding
            rounded = rounded.detach() + (codes - codes.detach())
        return rounded.clamp(self.lowest, CODES) * step

    def _keep(self, x: Tensor) -> None:
        self.seen_max = max(self.seen_max, float(x.abs().max()))
        flat = x.flatten()
        generator = torch.Generator().manual_seed(len(self.samples))
        chosen = torch.randint(flat.numel(), (min(flat.numel(), SAMPLES // 8),), generator=generator)
        self.samples.append(flat[chosen.to(flat.device)])

    def choose(self, method: Method) -> None:
        """Set the range from what was observed, and forget that."""
        if not self.samples:
            raise ValueError("Nothing was observed: calibration needs at least one image.")
        x = torch.cat(self.samples).float()
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:SAMPLES].to(x.device)]
        x, top = x.abs(), max(self.seen_max, SMALLEST)
        if method == "percentile":
            top = float(torch.sort(x).values[int(PERCENTILE * (len(x) - 1))])
        elif method == "mse":
            shares = [0.97**i for i in range(80)]  # 1 down to 0.09
            top *= min(shares, key=lambda share: _rounding_error(x, top * share))
        with torch.no_grad():
            self._amax.fill_(max(top, SMALLEST))
        self.samples, self.seen_max = [], 0.0


def _rounding_error(x: Tensor, top: float) -> float:
    step = top / CODES
    return float((torch.clamp(torch.round(x / step), max=CODES) * step - x).square().mean())


class QuantConv2d(nn.Conv2d):
    """nn.Conv2d with fake-quantised input (one range) and weight (one an output channel); float bias."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> QuantConv2d:
        """A quantised convolution with the weights of `conv`; the input's range is still to be set."""
        assert not isinstance(conv.padding, str)
        new = cls(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size[0], conv.kernel_size[1]),
            (conv.stride[0], conv.stride[1]),
            (conv.padding[0], conv.padding[1]),
            (conv.dilation[0], conv.dilation[1]),
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        new.load_state_dict(conv.state_dict())
        new.input_quantizer = Quantizer(torch.ones((), device=conv.weight.device), -CODES - 1)
        new.weight_quantizer = Quantizer(torch.ones(conv.out_channels, 1, 1, 1).to(conv.weight), -CODES)
        new.track_weight = True
        new.update_weight_range()
        return new.train(conv.training)

    input_quantizer: Quantizer
    weight_quantizer: Quantizer
    track_weight: bool  # the weight's range follows the weight while training

    @torch.no_grad()
    def update_weight_range(self) -> None:
        """Set each output channel's range to the largest magnitude of its weights."""
        amax = self.weight.detach().abs().amax((1, 2, 3), keepdim=True)
        self.weight_quantizer._amax.copy_(amax.clamp_min(SMALLEST))

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.track_weight:
            self.update_weight_range()
        return self._conv_forward(self.input_quantizer(input), self.weight_quantizer(self.weight), self.bias)


def float_layers(model: nn.Module) -> dict[str, str]:
    """The convolutions of a fused network that had better stay in float, and why (measured, on OpenVINO)."""
    return model.float_layers() if isinstance(model, arch.Upscaler) else {}


def quantize(model: nn.Module, *, skip: Sequence[str] | None = None) -> nn.Module:
    """A copy of a fused model with every nn.Conv2d replaced by a QuantConv2d; ranges are to be set next.

    model: what `arch.fuse` returns. Of its ranges, those of weights are set; set those of inputs with
        `calibrate` or from a checkpoint (`export.ranges.load_ranges`).
    skip: names of convolutions that stay in float; by default those of `float_layers`.

    Raises ValueError for a model that is not fused or has no convolution, and for unknown names in `skip`.
    """
    if getattr(getattr(model, "config", None), "fused", "full") != "full":
        raise ValueError("quantize takes a fused model; call arch.fuse first.")
    model = copy.deepcopy(model)
    convs = {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, nn.Conv2d)}
    skip = list(float_layers(model)) if skip is None else skip
    unknown = set(skip) - set(convs)
    if unknown or not convs:
        raise ValueError(f"skip names {', '.join(sorted(unknown))}; the convolutions are {', '.join(convs)}.")
    for name, conv in convs.items():
        if name not in skip and not isinstance(conv, QuantConv2d):
            model.set_submodule(name, QuantConv2d.of(conv))
    return model


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor], method: Method = "mse") -> None:
    """Set the input range of every QuantConv2d from the activations of real images, in place.

    batches: images (N, in_chans, H, W) in [0, 1]; the model is run in float on them.
    method: "max" covers every value seen, "percentile" 99.99 % of them, "mse" minimises the mean squared
        rounding and clipping error.

    Raises ValueError where `batches` is empty or the model holds no QuantConv2d.
    """
    convs = dict(quant_convs(model))
    if not convs:
        raise ValueError("The model holds no QuantConv2d; call quantize first.")
    training = model.training
    model.eval()
    _set_modes(convs.values(), "observe", "off")
    try:
        for batch in batches:
            model(batch)
        for conv in convs.values():
            conv.input_quantizer.choose(method)
    finally:
        _set_modes(convs.values(), "quantise", "quantise")
        model.train(training)


def learn_ranges(model: nn.Module) -> list[nn.Parameter]:
    """Make the input ranges trainable (LSQ) and return them, to be given to an optimiser; in place.

    Weight ranges follow the weights, as long as the model is in training mode. They become parameters too, without a
    gradient: what averages a network's weights averages its parameters, and would leave a buffer as it was in the last
    step, with averaged weights outside of it.
    """
    found = []
    for _, conv in quant_convs(model):
        for quantizer, learnt in ((conv.input_quantizer, True), (conv.weight_quantizer, False)):
            if not isinstance(quantizer._amax, nn.Parameter):
                value = quantizer._amax
                del quantizer._amax
                quantizer._amax = nn.Parameter(value.clone(), requires_grad=learnt)
        found.append(conv.input_quantizer._amax)
    return found


@torch.no_grad()
def cover_weights(state_dict: Mapping[str, Tensor]) -> None:
    """Widen each weight range of a fake-quantised network's state dict to the largest of its weights, in place.

    For averaged weights, before they are validated and saved: a range that was frozen, or is a step behind, does not
    hold all of them, and those outside would be clipped.
    """
    for key, amax in state_dict.items():
        if key.endswith(WEIGHT_RANGE) and amax.ndim:
            weight = state_dict[key.removesuffix(WEIGHT_RANGE) + ".weight"]
            amax.copy_(torch.maximum(amax, weight.abs().flatten(1).amax(1).view(amax.shape)))


def freeze_ranges(model: nn.Module) -> None:
    """Fix all ranges at their present values, in place; weights go on being trained inside of them."""
    for _, conv in quant_convs(model):
        conv.input_quantizer._amax.requires_grad_(False)
        conv.track_weight = False


def quant_convs(model: nn.Module) -> Iterator[tuple[str, QuantConv2d]]:
    """The quantised convolutions of a model with their names, in the order of its modules."""
    return ((n, m) for n, m in model.named_modules() if isinstance(m, QuantConv2d))


def _set_modes(convs: Iterable[QuantConv2d], inputs: Mode, weights: Mode) -> None:
    for conv in convs:
        conv.input_quantizer.mode = inputs
        conv.weight_quantizer.mode = weights
