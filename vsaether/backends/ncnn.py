"""Backend ncnn: Vulkan, on cards of AMD, Intel and NVIDIA."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import vapoursynth as vs
from onnx import TensorProto, numpy_helper

from ..engines import Engine
from ..errors import BackendError
from . import trial
from .base import Common, not_loaded, refuse_int8
from .half import as_float, as_half

INSTALL = "pip install vapoursynth-mlrt-ncnn"
CPU = 3
"""ncnn's type of a Vulkan device that is a processor."""

OPERATORS = {"Add", "Cast", "Clip", "Concat", "Conv", "DepthToSpace", "Mul", "Pad", "Relu", "Slice", "Sub"}
"""Those of the released engines, with which results were compared. The plugin's converter ends the whole process over
some that it does not know, so no other is tried. Casts are taken out beforehand."""


@dataclass(frozen=True)
class Ncnn(Common):
    """Tencent's ncnn on a Vulkan device.

    fp16 engines are stored and computed in half precision, frames included, fp32 ones in float32; int8 is refused,
    which ncnn's converter does not read.
    """

    name: ClassVar[str] = "ncnn"
    fastest: ClassVar[str] = "fp16"

    @classmethod
    def unusable(cls) -> str | None:
        if reason := not_loaded("ncnn", f"{INSTALL}, and a Vulkan loader (libvulkan1)"):
            return reason
        device = _device(0)
        return device if isinstance(device, str) else None

    @classmethod
    def passed_over(cls) -> str | None:
        if reason := cls.unusable():
            return reason
        device = _device(0)
        assert not isinstance(device, str)
        if device.get("type") == CPU:
            return f"its Vulkan device is the processor ({device.get('device_name')}), on which other backends are fast"
        return None

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        if reason := refuse_int8(cls.name, engine, "ncnn's converter does not read int8 files"):
            return reason
        if engine.precision == "fp16" and not _has_half():
            return f"its Vulkan device has no half precision; take {engine.name.removesuffix('_fp16')}_fp32"
        unknown = sorted(set(_operators(engine.model)) - OPERATORS)
        return f"its converter was not tried with {', '.join(unknown)}" if unknown else None

    def memory(self) -> int | None:
        return None

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        device = _device(self.device_id)
        if isinstance(device, str):
            raise BackendError(f"device {self.device_id}: {device}")
        trial.run(self, engine, clip.width, clip.height)
        return self.load(clip, engine)

    def load(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        """The plugin's frames, not tried before: where memory runs out, the plugin ends the process."""
        half = engine.precision == "fp16"
        return vs.core.ncnn.Model(
            as_half(clip) if half else as_float(clip),
            network_path=in_float32(engine.model),
            path_is_serialization=True,
            device_id=self.device_id,
            num_streams=self.num_streams,
            fp16=half,
            output_format=int(half),
        )


def _has_half() -> bool:
    """Whether the Vulkan device, if there is one, stores half precision: without it the plugin's frames are wrong."""
    device = _device(0) if getattr(vs.core, "ncnn", None) is not None else ""
    return isinstance(device, str) or bool(device.get("support_fp16_storage", True))


@functools.cache
def _device(number: int) -> dict | str:
    """The properties of a Vulkan device, or why there is none."""
    try:
        with _quiet():
            return vs.core.ncnn.DeviceProperties(number)
    except vs.Error as error:
        return f"no Vulkan device was found ({error}); install the card's Vulkan driver"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without stderr: ncnn, asked for the first time, lists there every device and what it can do."""
    saved = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(silence)
        os.close(saved)


@functools.lru_cache(maxsize=8)
def _operators(model: bytes) -> frozenset[str]:
    return frozenset(node.op_type for node in onnx.load_model_from_string(model).graph.node)


def in_float32(model: bytes) -> bytes:
    """An fp16 engine with the same weights written as float32 and without casts; others as they are."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    if all(node.op_type != "Cast" for node in graph.node):
        return model
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    names = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    kept = [node for node in graph.node if node.op_type != "Cast"]
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
    ends = {end.name for end in graph.output}
    for end in ends & names.keys():  # a cast made the output: what it read takes the name
        for node in kept:
            node.output[:] = [end if name == names[end] else name for name in node.output]
            node.input[:] = [end if name == names[end] else name for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.value_info[:]
    return proto.SerializeToString()
