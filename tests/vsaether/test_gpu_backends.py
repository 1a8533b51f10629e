"""Backends for GPUs: ncnn on whatever Vulkan device there is (Mesa's lavapipe is one), the others' answers without."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import vapoursynth as vs
from onnx.reference import ReferenceEvaluator

import vsaether
from vsaether import backends, engines, system
from vsaether.backends import half, ncnn, trial, trt

from .conftest import assert_same, clip_of, noise, read_planes

core: Any = vs.core
NO_VULKAN = backends.Ncnn.unusable()
needs_vulkan = pytest.mark.skipif(
    NO_VULKAN is not None, reason=f"ncnn did NOT run: {NO_VULKAN}; apt-get install mesa-vulkan-drivers"
)


@needs_vulkan
@pytest.mark.parametrize("engine", ["tiny_2x_fp32", "tiny_2x_fp16", "small_2x_fp16"])
def test_ncnn_computes_what_the_engine_says(engine: str) -> None:
    """Through the filter, against ONNX Runtime in float32, on a smooth picture: fp16 within 1/255, fp32 far closer."""
    clip = noise(vs.RGBS, 12, 10).resize.Bicubic(24, 20)
    got = np.stack(read_planes(vsaether.upscale(clip, engine, backend="ncnn", num_streams=1)))
    expected = np.stack(read_planes(vsaether.upscale(clip, engine.replace("fp16", "fp32"), backend="ort")))
    error = abs(got - expected).max()
    assert got.shape == expected.shape == (3, 40, 48)
    assert error < (1e-5 if engine.endswith("fp32") else 1 / 255)
    assert engine.endswith("fp32") or error > 1e-5  # half precision was computed, not float32


@needs_vulkan
def test_ncnn_with_half_frames_gives_the_same_bytes() -> None:
    """Frames of an fp16 engine go there and back in half precision; with float32 ones the plugin rounds alike."""
    clip, engine = noise(vs.RGBS, 32, 24), engines.resolve("tiny_2x_fp16")
    ours = backends.Ncnn(num_streams=1).load(clip, engine)
    theirs = core.ncnn.Model(clip, network_path=ncnn.in_float32(engine.model), path_is_serialization=True, fp16=True)
    assert (ours.format.id, theirs.format.id) == (vs.RGBH, vs.RGBS)
    for options in ({"format": vs.RGBS}, {"format": vs.YUV420P10, "matrix": 1, "dither_type": "ordered"}):
        assert_same(ours.resize.Bicubic(**options), theirs.resize.Bicubic(**options))


LIMITED = """
import sys
import numpy as np, vapoursynth as vs, vsaether
from vsaether.backends import selfcheck
vs.core.add_log_handler(lambda kind, text: print(text, flush=True) if "tiles" in text else None)
clip = selfcheck.picture(320, 192)
got, expected = (vsaether.upscale(clip, sys.argv[1], backend=b, num_streams=1).get_frame(0) for b in ("ncnn", "ort"))
print(max(abs(np.array(a) - np.array(b)).max() for a, b in zip(got, expected)) < 1e-4)
"""


@needs_vulkan
def test_a_full_card_means_smaller_tiles(make_engine: Any, tmp_path: Path) -> None:
    """A Vulkan layer gives the device 50 MiB, over which ncnn's plugin makes another picture or ends the process."""
    source = Path(__file__).with_name("vulkan_limit.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", source, "-o", tmp_path / "layer.so"], check=True)
    layer = {"name": "VK_LAYER_LIMIT", "type": "GLOBAL", "library_path": str(tmp_path / "layer.so")}
    layer |= {"api_version": "1.3.0", "implementation_version": "1", "description": "a small device"}
    (tmp_path / "layer.json").write_text(json.dumps({"file_format_version": "1.1.2", "layer": layer}))
    environment = {"VK_LAYER_PATH": str(tmp_path), "VK_INSTANCE_LAYERS": "VK_LAYER_LIMIT"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, make_engine(channels=64)],
        env={**os.environ, **environment, "VULKAN_LIMIT": str(50 << 20)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("too little memory") == 1
    assert done.stdout.splitlines()[-1] == "True"


@pytest.mark.parametrize(
    ("said", "seconds", "message"),
    [("vkAllocateMemory failed -2", 60, "out of memory on the device"), ("", 0.5, "did not end")],
)
def test_a_trial_that_hangs_is_ended(
    said: str, seconds: float, message: str, toy_engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At once where memory ran out: drivers then wait for ever for what they did not get."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexec sleep 50\n")
    program.chmod(0o700)
    monkeypatch.setattr(system, "python", lambda: str(program))
    monkeypatch.setattr(trial, "SECONDS", seconds)
    began = time.monotonic()
    with pytest.raises(vsaether.BackendError, match=message):
        trial.run(backends.Ncnn(), engines.resolve(toy_engine), 16, 16)
    assert time.monotonic() - began < 40


def test_a_trial_runs_in_python_also_from_a_player(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Never in the program that holds Python, such as a player; where there is none beside it, none."""
    python = Path(sys.executable)
    monkeypatch.setattr(sys, "executable", "/usr/bin/mpv")
    assert Path(system.python() or "").parent == python.parent
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert system.python() is None


@needs_vulkan
def test_ncnn_is_told_apart_from_a_card(monkeypatch: pytest.MonkeyPatch, toy_engine: str, make_engine: Any) -> None:
    """On a Vulkan device that is the processor "auto" goes on; on a card it does not; without fp16 it is said."""
    with pytest.raises(vsaether.BackendError, match="device 7"):
        vsaether.upscale(noise(vs.RGBS, 16, 16), toy_engine, backend="ncnn", device_id=7)
    engine = engines.resolve(toy_engine)
    monkeypatch.setattr(ncnn, "_device", lambda number: {"type": 0, "support_fp16_storage": 0})
    monkeypatch.setattr(backends.OrtCUDA, "unusable", lambda: "no card")
    assert isinstance(backends.create("auto", engine), backends.Ncnn)
    assert "no half precision" in (backends.Ncnn.refusal(engines.resolve(make_engine(precision="fp16"))) or "")
    monkeypatch.setattr(ncnn, "_device", lambda number: {"type": ncnn.CPU, "device_name": "lavapipe"})
    assert "lavapipe" in (backends.Ncnn.passed_over() or "")
    assert not isinstance(backends.create("auto", engine), backends.Ncnn)


class HalfOnCPU(backends.OrtCUDA):
    """ort_cuda without a card: the same files and frames, on the plugin's CPU, of at most so many pixels."""

    most = 1 << 30

    @classmethod
    def unusable(cls) -> str | None:
        return None

    def load(self, clip: vs.VideoNode, model: bytes) -> vs.VideoNode:
        result = core.ort.Model(clip, network_path=model, path_is_serialization=True, provider="")

        def frame(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
            if clip.width * clip.height > self.most:  # as the plugin's arena says it
                raise vs.Error("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1")
            return f

        return result.std.ModifyFrame(result, frame)


class Widened(HalfOnCPU):
    """The same with half-precision frames as float32."""

    def load(self, clip: vs.VideoNode, model: bytes) -> vs.VideoNode:
        return half.as_float(super().load(clip, model))


@pytest.mark.parametrize("format", [vs.YUV420P8, vs.YUV444P16, vs.RGB30, vs.RGBS, vs.RGBH, vs.GRAY8])
def test_half_frames_make_every_format(format: int, make_engine: Any) -> None:
    """Also of fields and alpha and through the resampler: what comes back in half is only wider later, not other."""
    clip = noise(format, 24, 32, _FieldBased=2).std.ClipToProp(noise(vs.GRAY8, 24, 32, seed=1), "_Alpha")
    engine = make_engine(precision="fp16")
    for height in (None, 112):
        ours, wide = (vsaether.upscale(clip, engine, backend=b(), height=height) for b in (HalfOnCPU, Widened))
        assert ours.format.id == format
        assert_same(ours, wide)
        assert_same(ours.std.PropToClip("_Alpha"), wide.std.PropToClip("_Alpha"))
        first, second = (dict(each.std.RemoveFrameProps("_Alpha").get_frame(0).props) for each in (ours, wide))
        assert first == second


@pytest.mark.parametrize("preset", ["tiny_2x", "toy"])
def test_the_cast_outside_is_the_cast_inside(preset: str, make_engine: Any) -> None:
    """VapourSynth rounds to float16 as ONNX does, in every value there is, so an engine without casts is the same."""
    model = engines.resolve(make_engine(precision="fp16") if preset == "toy" else f"{preset}_fp16").model
    without = half.half_ends(model)
    assert without is not None and half.has_half_ends(without)
    image = np.random.default_rng(0).random((1, 3, 16, 20), np.float32)
    [inside], [outside] = (
        ReferenceEvaluator(onnx.load_model_from_string(file)).run(None, {"input": given})
        for file, given in ((model, image), (without, image.astype(np.float16)))
    )
    np.testing.assert_array_equal(np.asarray(inside), np.asarray(outside).astype(np.float32))
    clip = noise(vs.RGBS, 256, 256).std.Expr("x 13 * 10 - exp")
    np.testing.assert_array_equal(read_planes(half.as_half(clip)), np.asarray(read_planes(clip), np.float16))
    every = np.arange(31 << 10, dtype=np.uint16).view(np.float16).reshape(124, 256)  # from 0 to the largest
    assert all((plane == every).all() for plane in read_planes(half.as_float(clip_of([[every] * 3], vs.RGBH))))


@pytest.mark.parametrize("preset", ["tiny_2x", "small_2x", "small_2x_video"])
def test_float16_around_int8(preset: str) -> None:
    """The form for TensorRT is 50 dB from the int8 file, and as far from the float32 network as that is."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="float16 around int8 was NOT computed: no onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    image = np.kron(np.random.default_rng(0).random((1, 3, 6, 7), np.float32), np.ones((1, 1, 6, 6), np.float32))

    def compute(model: bytes) -> np.ndarray:
        given = image.astype(np.float16 if half.has_half_ends(model) else np.float32)
        return onnxruntime.InferenceSession(model, options).run(None, {"input": given})[0].astype(np.float32)

    int8, exact = (engines.resolve(f"{preset}_{precision}") for precision in ("int8", "fp32"))
    form = trt.to_build(int8)
    assert half.has_half_ends(form) and not half.has_half_ends(trt.tensorrt_form(int8))
    assert trt.to_build(exact) == exact.model
    ours, theirs, floats = map(compute, (form, int8.model, exact.model))
    assert np.mean((ours - theirs) ** 2) < 1e-5  # 50 dB
    assert np.mean((ours - floats) ** 2) < 1.1 * np.mean((theirs - floats) ** 2)


def test_what_only_a_frame_tells_is_known_at_the_start(toy_engine: str) -> None:
    """A card whose memory does not suffice at the first frame: smaller tiles, the same picture; or a typed error."""
    clip = noise(vs.RGBS, 128, 96)
    small, none = (type("Small", (HalfOnCPU,), {"most": pixels}) for pixels in (64 * 96, 16))
    got = vsaether.upscale(clip, toy_engine, backend=small())
    assert_same(got, vsaether.upscale(clip, toy_engine, backend="ort"), limit=1e-6)
    with pytest.raises(vsaether.BackendError, match=r"(?s)ort_cuda cannot run the engine .*Failed to allocate memory"):
        vsaether.upscale(clip, toy_engine, backend=none())


@pytest.mark.parametrize("backend", [backends.OrtCUDA, backends.Ncnn])
def test_what_a_backend_lacks_is_said_in_one_line(
    backend: Any, make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Int8 is refused with what to take, and a missing plugin with its package."""
    refusal = backend.refusal(engines.resolve(make_engine(precision="int8")))
    assert f"_fp16 with {backend.name}" in (refusal or "")
    assert backend.refusal(engines.resolve(make_engine(precision="fp32"))) is None
    monkeypatch.setattr(vs, "core", type("Bare", (), {})())
    reason = backend.unusable() or ""
    assert "pip install vapoursynth-mlrt" in reason and "\n" not in reason


@pytest.mark.parametrize("backend", [backends.OrtCUDA, backends.TensorRTRTX])
def test_without_a_card_it_is_not_taken(backend: Any, toy_engine: str) -> None:
    """The plugins load, and ort names CUDA: only a model, or a question about the device, tells. Nothing is built."""
    reason = backend.unusable()
    if reason is None or "not loaded" in reason:
        pytest.skip(f"a card is here, or no {backend.name} plugin: what it says without a card was NOT tested")
    assert "\n" not in reason
    words = "no NVIDIA card can be used" if backend is backends.TensorRTRTX else ""
    with pytest.raises(vsaether.BackendError, match=f"{backend.name}: {words}"):
        vsaether.upscale(noise(vs.RGBS, 16, 16), toy_engine, backend=backend.name)
    assert not isinstance(backends.create("auto", engines.resolve(toy_engine)), backend)


def test_a_backend_of_ones_own(toy_engine: str) -> None:
    """An object with its options does what its name does; its own options hold."""
    clip = noise(vs.RGBS, 24, 16)
    named, own = (vsaether.upscale(clip, toy_engine, backend=b) for b in ("ov", backends.OpenVINO(num_streams=1)))
    assert_same(named, own)
    with pytest.raises(vsaether.ArgumentError, match="device is 'TPU'"):
        backends.OpenVINO(device="TPU")
    with pytest.raises(vsaether.BackendError, match="OpenVINO finds no NPU; it finds CPU"):
        vsaether.upscale(clip, toy_engine, backend=backends.OpenVINO(device="NPU"))


def test_a_name_without_precision_is_the_backends_fastest() -> None:
    """A name with a precision is that precision, on every backend."""
    for backend, precision in (("native", "int8"), ("ov", "int8"), ("ort", "fp32")):
        if not backends.BACKENDS[backend].unusable():
            found, engine = backends.select(backend, "tiny_2x")
            assert (found.name, engine.name) == (backend, f"tiny_2x_{precision}")
    assert backends.select("ov", "tiny_2x_fp32")[1].precision == "fp32"
    with pytest.raises(vsaether.EngineError, match="huge_9x"):
        backends.select("auto", "huge_9x")
