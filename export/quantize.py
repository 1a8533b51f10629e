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
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

import arch
from arch.fused import FusedAetherBlock

Method = Literal["max", "percentile", "mse"]
Mode = Literal["off", "observe", "quantise"]

CODES = 127  # amax is code 127; the lowest code of an input is -128, of a weight -127
SMALLEST = 1e-6  # range of a tensor that is all zeros
SAMPLES = 1 << 18  # activations kept per layer for choosing a range
PERCENTILE = 0.9999

# Convolutions that stay in float, by a part of their name, and why.
KEEP_FLOAT = {
    "channel_attn.": "works on one vector an image, where int8 saves no time",
    "spatial_attn.": "two channels in and one out before a sigmoid: nothing to save, and a coarse mask",
}
KEEP_LAST = "its error goes straight into the image: 0.01 to 0.05 dB, and it takes no measurable time"


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
        if self._amax.ndim:
            step = self.scale.flatten()
            zeros = torch.zeros_like(step, dtype=torch.int32)
            return torch.fake_quantize_per_channel_affine(x, step, zeros, 0, self.lowest, CODES)
        zero = torch.zeros(1, dtype=torch.int32, device=x.device)
        if self._amax.requires_grad and torch.is_grad_enabled():
            step, factor = self.scale.view(1), (x.numel() * CODES) ** -0.5
            learnable = torch._fake_quantize_learnable_per_tensor_affine  # pyright: ignore[reportPrivateImportUsage]
            return learnable(x, step, zero.float(), self.lowest, CODES, factor)
        return torch.fake_quantize_per_tensor_affine(x, self.scale.detach(), zero[0], self.lowest, CODES)

    def _keep(self, x: Tensor) -> None:
        self.seen_max = max(self.seen_max, float(x.abs().max()))
        flat = x.flatten()
        generator = torch.Generator().manual_seed(len(self.samples))
        chosen = torch.randint(flat.numel(), (min(flat.numel(), SAMPLES // 8),), generator=generator)
        self.samples.append(flat[chosen.to(flat.device)])

    def choose(self, method: Method, *, floor: float | None = None) -> None:
        """Set the range from what was observed, and forget that.

        floor: the observed tensor's lowest value, where all codes are to be used from there up (the tensor
        is then to be lowered until its floor is at code -128, see `calibrate`).
        """
        if not self.samples:
            raise ValueError("Nothing was observed: calibration needs at least one image.")
        x = torch.cat(self.samples).float()
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:SAMPLES].to(x.device)]
        # `x` in units where the range is [0, top] or [-top, top], with `codes` steps from 0 to top
        x, codes = (x.abs(), CODES) if floor is None else (x - floor, CODES - self.lowest)
        top = max(self.seen_max - (floor or 0.0), SMALLEST)
        if method == "percentile":
            top = float(torch.sort(x).values[int(PERCENTILE * (len(x) - 1))])
        elif method == "mse":
            shares = [0.97**i for i in range(80)]  # 1 down to 0.09
            top *= min(shares, key=lambda share: _rounding_error(x, top * share, codes))
        with torch.no_grad():
            self._amax.fill_(max(top * CODES / codes, SMALLEST))
        self.samples, self.seen_max = [], 0.0


def _rounding_error(x: Tensor, top: float, codes: int) -> float:
    step = top / codes
    return float((torch.clamp(torch.round(x / step), max=codes) * step - x).square().mean())


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

    def convolve(self, rounded: Tensor) -> Tensor:
        """The convolution of an input that has been through `input_quantizer`."""
        if self.training and self.track_weight:
            self.update_weight_range()
        return self._conv_forward(rounded, self.weight_quantizer(self.weight), self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return self.convolve(self.input_quantizer(input))


class QuantBlock(FusedAetherBlock):
    """A block whose skip connection carries the int8 tensor that its first convolution reads.

    On OpenVINO's CPU plugin small_2x is a tenth faster so, and TensorRT needs it to keep the residual stream in
    int8; but rounding the stream anew in each block costs 0.04 dB before training, so it is off by default. The
    empty buffer `conv.input_quantizer._skip` marks it in a state dict.
    """

    @classmethod
    def convert(cls, block: FusedAetherBlock) -> None:
        """Make a block with a quantised first convolution one of these, in place."""
        assert isinstance(block.conv, QuantConv2d)
        block.conv.input_quantizer.register_buffer("_skip", torch.empty(0))
        block.__class__ = cls

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.conv, QuantConv2d)
        x = self.conv.input_quantizer(x)
        return x + self.ffn(self.norm(self.conv.convolve(x)))


class QuantTiny(arch.AetherTiny):
    """A quantised AetherTiny whose activation is the saturation of the next convolution's input at code -128.

    max(x, -128 * step) followed by rounding to int8 is rounding to int8 alone: the exported graph has no
    activation nodes, and uses all 256 codes where a ReLU's output would use 128. `floors` follow the ranges.
    While the quantisers are off or observing, the activation is computed as such.
    """

    def _convs(self) -> list[QuantConv2d]:
        convs = [self.conv_first, *self.blocks, self.conv_last]
        return [c for c in convs if isinstance(c, QuantConv2d)]

    def _sync_floors(self) -> None:
        with torch.no_grad():
            steps = [c.input_quantizer.scale for c in self._convs()[1:]]
            self.floors.copy_((-CODES - 1) * torch.stack(steps))

    def activate(self, x: Tensor, index: int) -> Tensor:
        """See `AetherTiny.activate`."""
        quantizer = self._convs()[index + 1].input_quantizer
        return x if quantizer.mode == "quantise" else torch.maximum(x, self.floors[index])

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        if self._convs()[1].input_quantizer.mode == "quantise":
            self._sync_floors()
        super()._save_to_state_dict(destination, prefix, keep_vars)


def float_layers(model: nn.Module) -> dict[str, str]:
    """The convolutions of a fused network that had better stay in float, and why (measured, on OpenVINO)."""
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    found = {n: why for n in names for part, why in KEEP_FLOAT.items() if part in n}
    if isinstance(model, arch.FusedAetherNet) and model.config.tail == "direct":
        found["conv_last"] = KEEP_LAST
    return found


def quantize(
    model: nn.Module, *, skip: Sequence[str] | None = None, saturate: bool = False, residual: bool = False
) -> nn.Module:
    """A copy of a fused model with every nn.Conv2d replaced by a QuantConv2d; ranges are to be set next.

    model: what `arch.fuse` returns. Of its ranges, those of weights are set; set those of inputs with
        `calibrate` or from a checkpoint (`export.ranges.load_ranges`).
    skip: names of convolutions that stay in float; by default those of `float_layers`.
    residual: for FusedAetherNet, the blocks' skip connections are rounded too (QuantBlock).
    saturate: for AetherTiny, let int8 saturation be the activation (QuantTiny) instead of ReLU: all 256 codes are
        used and the activation costs nothing, but the image's border changes and has to be trained again.

    Raises ValueError for a model that is not fused or has no convolution, and for unknown names in `skip`.
    """
    if getattr(getattr(model, "config", None), "fused", "full") != "full":
        raise ValueError("quantize takes a fused model; call arch.fuse first.")
    model = copy.deepcopy(model)
    convs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    skip = list(float_layers(model)) if skip is None else skip
    unknown = set(skip) - set(convs)
    if unknown or not convs:
        raise ValueError(f"skip names {', '.join(sorted(unknown))}; the convolutions are {', '.join(convs)}.")
    for name, conv in convs.items():
        if name not in skip and not isinstance(conv, QuantConv2d):
            model.set_submodule(name, QuantConv2d.of(conv))
    if saturate and isinstance(model, arch.AetherTiny) and not skip:
        model.__class__ = QuantTiny
    for block in model.modules():
        if residual and isinstance(block, FusedAetherBlock) and isinstance(block.conv, QuantConv2d):
            QuantBlock.convert(block)
    return model


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor], method: Method = "mse") -> None:
    """Set the input range of every QuantConv2d from the activations of real images, in place.

    batches: images (N, in_chans, H, W) in [0, 1]; the model is run in float on them.
    method: "max" covers every value seen, "percentile" 99.99 % of them, "mse" minimises the mean squared
        rounding and clipping error.

    A QuantTiny is moved as well: with s the step chosen for a ReLU's output over all 256 codes, biases are
    changed so that the activation becomes max(x, -128 s) (`arch.shift_floors`). Within the receptive radius
    of the image's border that changes the function, because zero padding then stands for 128 s; training
    makes it up.

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
        floors = dict.fromkeys(convs)
        if isinstance(model, QuantTiny):
            floors |= dict(zip(list(convs)[1:], model.floors.tolist(), strict=True))
        for name, conv in convs.items():
            conv.input_quantizer.choose(method, floor=floors[name])
        if isinstance(model, QuantTiny):
            _shift(model)
    finally:
        _set_modes(convs.values(), "quantise", "quantise")
        model.train(training)


def _shift(model: QuantTiny) -> None:
    """Move biases and floors to the ranges just chosen.

    The biases are corrected for the rounded weights, not the float ones: the shift is as large as the activations,
    so that a weight's rounding error times the shift would add a visible offset.
    """
    plain = arch.AetherTiny(model.config).to(model.floors)
    state, _ = arch.split_ranges(model.state_dict())
    for name, conv in quant_convs(model):
        conv.weight_quantizer.mode = "quantise"
        state[f"{name}.weight"] = conv.weight_quantizer(conv.weight)
    plain.load_state_dict(state)
    model._sync_floors()
    shifted = arch.shift_floors(plain, model.floors).state_dict()
    model.load_state_dict({k: v for k, v in shifted.items() if not k.endswith(".weight")}, strict=False)


def learn_ranges(model: nn.Module) -> list[nn.Parameter]:
    """Make the input ranges trainable (LSQ) and return them, to be given to an optimiser; in place.

    Weight ranges follow the weights, as long as the model is in training mode.
    """
    found = []
    for _, conv in quant_convs(model):
        quantizer = conv.input_quantizer
        if not isinstance(quantizer._amax, nn.Parameter):
            value = quantizer._amax
            del quantizer._amax
            quantizer._amax = nn.Parameter(value.clone())
        found.append(quantizer._amax)
    return found


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
