"""The variants as other trainers build them: arch's factories, and the forms that the release recipe trains.

A trainer builds its network from keyword options, loads weights into it strictly, copies it for its moving average,
and switches it between train and eval. All three forms here live through that, and save nothing that arch cannot read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import arch
from export import quantizer

NAMES = tuple(arch.VARIANTS)
Factory = Callable[..., nn.Module]
Variant = Callable[..., arch.Upscaler]
CROPPED = 1e-6  # a smaller factor on the outer taps changes nothing in float32


def factories(host_scale: Callable[[], int] | None = None) -> list[Factory]:
    """One function a variant, under the variant's name and with its options, to be put into a trainer's registry.

    host_scale: where the scale comes from if the call gives none; without it the default is arch's.

    Beside the options of `arch.aether_small` and its sisters, each function takes at most one of

    anneal: training batches within which the window of `deployed_kernel` goes from 1 to 0; 0 crops from the start.
    deploy: the form that `arch.fuse` makes, to validate the files of export.fuse and export.build.
    qat: the deployed form with fake quantisation and learnt ranges, to be started from a file of
        training.prepare_qat.

    They raise TypeError for unknown options and ValueError for options that do not fit together.
    """
    return [_factory(variant, host_scale) for variant in arch.VARIANTS.values()]


def _factory(variant: Variant, host_scale: Callable[[], int] | None) -> Factory:
    given = inspect.signature(variant)
    default: int = given.parameters["scale"].default

    def build(
        scale: int | None = None,
        *,
        anneal: int | None = None,
        deploy: bool = False,
        qat: bool = False,
        **options: Any,  # none is swallowed: all of them go to the variant, which takes no **kwargs
    ) -> nn.Module:
        if scale is None:
            scale = host_scale() if host_scale else default
        return _form(variant(scale, **options), anneal, deploy, qat)

    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("anneal", keyword, default=None, annotation="int | None"),
        inspect.Parameter("deploy", keyword, default=False, annotation="bool"),
        inspect.Parameter("qat", keyword, default=False, annotation="bool"),
    ]
    build.__name__ = build.__qualname__ = variant.__name__
    build.__doc__ = variant.__doc__
    signature = given.replace(parameters=[*given.parameters.values(), *added])
    build.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
    return build


def _form(model: arch.Upscaler, anneal: int | None, deploy: bool, qat: bool) -> nn.Module:
    if (anneal is not None) + deploy + qat > 1:
        raise ValueError(f"anneal={anneal}, deploy={deploy}, qat={qat}: only one of them can be given.")
    if anneal is not None:
        _Annealing(model, anneal)
    if not deploy and not qat:
        return model
    if model.windows:
        model.anneal(0.0)
    fused = arch.fuse(model)
    if not qat:
        return fused
    quantised = quantizer.quantize(fused)
    quantizer.learn_ranges(quantised)
    _QatGuard(quantised)
    return quantised


class _Annealing:
    """Takes the window of a network from 1 to 0, a step at each training batch.

    How far it is stands in the window alone, which is saved with the weights: copies need nothing else, and a resumed
    training goes on where it was. A moving average of the window lags behind and never reaches 0 by itself, so below
    CROPPED it is 0, both when the averaged network runs and when it is saved.
    """

    def __init__(self, model: arch.Upscaler, batches: int) -> None:
        if not model.windows:
            raise ValueError("anneal needs a window: give deployed_kernel too (aether_tiny has none).")
        if batches < 0:
            raise ValueError(f"anneal is {batches}; it must be a number of training batches, or 0.")
        self.batches = batches
        model.register_forward_pre_hook(self._before_forward)
        model.register_state_dict_pre_hook(self._before_save)
        self._set(model, 0)

    def _set(self, model: arch.Upscaler, steps: int) -> None:
        outer = float(model.windows[0].window[1])
        if self.batches == 0:
            outer = 0.0
        elif steps:
            outer = 1.0 - min(round((1.0 - outer) * self.batches) + steps, self.batches) / self.batches
        model.anneal(outer if outer >= CROPPED else 0.0)

    def _before_forward(self, model: arch.Upscaler, _args: object) -> None:
        self._set(model, 1 if model.training and torch.is_grad_enabled() else 0)

    def _before_save(self, model: arch.Upscaler, _prefix: str, _keep_vars: bool) -> None:
        self._set(model, 0)


class _QatGuard:
    """Refuses to run a quantised network whose ranges nobody has set, or to train it in half precision.

    Both would go on without a word, to a useless result.
    """

    def __init__(self, model: nn.Module) -> None:
        self.loaded = False
        model.register_forward_pre_hook(self._before_forward)
        model.register_load_state_dict_post_hook(self._after_load)

    def _before_forward(self, model: nn.Module, args: tuple[Tensor]) -> None:
        if not self.loaded:
            raise RuntimeError(
                "qat: the ranges are not set. Start from a file of python -m training.prepare_qat, given as "
                "pretrain_network_g."
            )
        if model.training and torch.is_autocast_enabled(args[0].device.type):
            raise RuntimeError("qat is trained in float32, and AMP is on: set use_amp to false.")

    def _after_load(self, _model: nn.Module, _keys: object) -> None:
        self.loaded = True
