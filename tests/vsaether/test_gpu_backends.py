"""Backends for GPUs: ncnn on whatever Vulkan device there is (Mesa's lavapipe is one), the others' answers without."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from typing import Any

import numpy as np
import onnx
import pytest
import vapoursynth as vs
from onnx.reference import ReferenceEvaluator

import vsaether
from vsaether import backends, engines
from vsaether.backends import ncnn

NO_VULKAN = backends.Ncnn.unusable()
needs_vulkan = pytest.mark.skipif(
    NO_VULKAN is not None, reason=f"ncnn did NOT run: {NO_VULKAN}; apt-get install mesa-vulkan-drivers"
)


@needs_vulkan
@pytest.mark.parametrize("preset", ["tiny_2x", "small_2x"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_ncnn_computes_what_the_engine_says(preset: str, precision: str, noise: Any, planes: Any) -> None:
    """Through the filter, against ONNX Runtime in float32, on a smooth picture: fp16 within 1/255, fp32 far closer."""
    clip = noise(vs.RGBS, 12, 10).resize.Bicubic(48, 40)
    engine = f"{preset}_{precision}"
    got = np.stack(planes(vsaether.upscale(clip, engine, backend="ncnn")))
    expected = np.stack(planes(vsaether.upscale(clip, f"{preset}_fp32", backend="ort")))
    error = abs(got - expected).max()
    assert got.shape == expected.shape == (3, 80, 96)
    assert error < (1e-5 if precision == "fp32" else 1 / 255)
    assert precision == "fp32" or error > 1e-5  # half precision was computed, not float32


@needs_vulkan
def test_ncnn_is_told_apart_from_a_card(monkeypatch: pytest.MonkeyPatch, toy_engine: str) -> None:
    """On a Vulkan device that is the processor "auto" goes on; on a card it does not."""
    engine = engines.resolve(toy_engine)
    monkeypatch.setattr(ncnn, "_device", lambda number: {"type": 0, "device_name": "a card"})
    monkeypatch.setattr(backends.OrtCUDA, "unusable", classmethod(lambda cls: "no card"))
    assert isinstance(backends.create("auto", engine), backends.Ncnn)
    monkeypatch.setattr(ncnn, "_device", lambda number: {"type": ncnn.CPU, "device_name": "lavapipe"})
    assert "lavapipe" in (backends.Ncnn.passed_over() or "")
    assert not isinstance(backends.create("auto", engine), backends.Ncnn)


@needs_vulkan
def test_ncnn_has_no_second_device(noise: Any, toy_engine: str) -> None:
    with pytest.raises(vsaether.BackendError, match="device 7"):
        vsaether.upscale(noise(vs.RGBS, 16, 16), toy_engine, backend="ncnn", device_id=7)


def test_fp16_weights_are_written_as_float32(make_engine: Any) -> None:
    """The same function, to half precision's rounding of what lies between, and no cast is left."""
    path = make_engine(precision="fp16")
    model = ncnn.in_float32(path.read_bytes())
    image = np.random.default_rng(0).random((1, 3, 12, 14), np.float32)
    [half] = ReferenceEvaluator(onnx.load(path)).run(None, {"input": image})
    proto = onnx.load_model_from_string(model)
    onnx.checker.check_model(proto)
    [full] = ReferenceEvaluator(proto).run(None, {"input": image})
    np.testing.assert_allclose(np.asarray(full), np.asarray(half), atol=4e-3)
    assert "Cast" not in {node.op_type for node in proto.graph.node}
    assert engines.resolve(str(path)).model == path.read_bytes()


@pytest.mark.parametrize("backend", [backends.OrtCUDA, backends.Ncnn])
def test_int8_is_refused_with_what_to_take(backend: Any, make_engine: Any) -> None:
    refusal = backend.refusal(engines.resolve(str(make_engine(precision="int8"))))
    assert refusal is not None
    assert f"_fp16 with {backend.name}" in refusal
    assert backend.refusal(engines.resolve(str(make_engine(precision="fp32")))) is None


@pytest.mark.parametrize("backend", [backends.OrtCUDA, backends.Ncnn])
def test_a_missing_plugin_names_its_package(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        """A core without plugins."""

    with monkeypatch.context() as patch:
        patch.setattr(vs, "core", Bare())
        reason = backend.unusable()
    assert reason is not None
    assert "pip install vapoursynth-mlrt" in reason
    assert "\n" not in reason


def test_without_a_driver_the_card_is_not_taken(noise: Any, toy_engine: str) -> None:
    """The ort plugin is there and names CUDA; only a model tells that nothing can run."""
    reason = backends.OrtCUDA.unusable()
    if reason is None:
        pytest.skip("an NVIDIA card is here: what is said without one was NOT tested")
    assert "\n" not in reason
    with pytest.raises(vsaether.BackendError, match="ort_cuda: "):
        vsaether.upscale(noise(vs.RGBS, 16, 16), toy_engine, backend="ort_cuda")
    assert not isinstance(backends.create("auto", engines.resolve(toy_engine)), backends.OrtCUDA)


def test_a_backend_of_ones_own(noise: Any, planes: Any, toy_engine: str) -> None:
    """An object with its options does what its name does; its own options hold."""
    clip = noise(vs.RGBS, 24, 16)
    named = planes(vsaether.upscale(clip, toy_engine, backend="ov"))
    own = planes(vsaether.upscale(clip, toy_engine, backend=backends.OpenVINO(num_streams=1)))
    np.testing.assert_array_equal(np.stack(named), np.stack(own))
    with pytest.raises(vsaether.ArgumentError, match="device is 'TPU'"):
        backends.OpenVINO(device="TPU")
    with pytest.raises(vsaether.BackendError, match="OpenVINO finds no NPU; it finds CPU"):
        vsaether.upscale(clip, toy_engine, backend=backends.OpenVINO(device="NPU"))


def test_a_name_without_precision_is_the_backends_fastest() -> None:
    """A name with a precision is that precision, on every backend."""
    for backend, precision in (("native", "int8"), ("ov", "int8"), ("ort", "fp32")):
        if backends.BACKENDS[backend].unusable():
            continue
        found, engine = backends.select(backend, "tiny_2x")
        assert (found.name, engine.name) == (backend, f"tiny_2x_{precision}")
    _, engine = backends.select("ov", "tiny_2x_fp32")
    assert engine.precision == "fp32"
    with pytest.raises(vsaether.EngineError, match="huge_9x"):
        backends.select("auto", "huge_9x")
