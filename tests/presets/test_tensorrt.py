"""Float16 around int8: what stands in its way is named. tests/vsaether and tests/export have what it computes."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from presets import engine
from presets.errors import EngineFileError
from presets.tensorrt import half_around_int8

from ..conftest import MakeEngine, rewrite, tensor


def mix(model: ModelProto) -> None:
    """A node between Relu and what reads it that takes float32 alone."""
    model.graph.node.append(helper.make_node("Cast", ["relu0"], ["wide"], name="culprit", to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Mul", ["wide", "relu0"], ["mixed"], name="mixer"))


def lose_step(model: ModelProto) -> None:
    step = tensor(model.graph, "relu0_step")
    model.graph.initializer.remove(step)
    model.graph.node.insert(0, helper.make_node("Constant", [], [step.name], value=step))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda model: rewrite(model.graph, "image", lambda v: v + 1e5), "image has a value that is too large"),
        (lambda model: model.opset_import[0].CopyFrom(helper.make_opsetid("", 18)), "QuantizeLinear"),
        (mix, "mixer"),
        (lose_step, "relu0_q has a step that is no constant"),
    ],
)
def test_what_cannot_have_float16_is_named(
    spoil: Callable[[ModelProto], None], said: str, make_engine: MakeEngine
) -> None:
    model = onnx.load(make_engine(precision="int8"))
    spoil(model)
    with pytest.raises(EngineFileError, match=said):
        half_around_int8(model.SerializeToString())


def test_steps_that_float16_cannot_hold_are_made_larger(make_engine: MakeEngine) -> None:
    """And the weights' codes rounded anew: the same weight, to half a step. The form is an engine, and its own form."""
    model = onnx.load(make_engine(precision="int8"))
    codes = numpy_helper.to_array(tensor(model.graph, "weight0_q")).astype(float)
    rewrite(model.graph, "weight0_step", lambda _: np.array(2**-16))
    made = half_around_int8(model.SerializeToString())
    graph = onnx.load_model_from_string(made).graph
    step, rounded = (numpy_helper.to_array(tensor(graph, name)) for name in ("weight0_step", "weight0_q"))
    assert (step.dtype, step.item()) == (np.float16, 2**-14)
    np.testing.assert_array_equal(rounded, np.rint(codes / 4))
    assert engine.read(made, "made", channels=3).precision == "int8"
    assert half_around_int8(made) is made
