"""The filter: arguments, errors, backends, and the same bytes every time."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import vapoursynth as vs
from onnx.reference import ReferenceEvaluator

import vsaether
from vsaether import backends, engines
from vsaether.filter import PROPERTIES, _warn

from .conftest import assert_same, flat, noise, read_planes

core = vs.core


@pytest.mark.parametrize("backend", ["ov", "ort"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_backends_compute_what_the_engine_says(backend: str, precision: str, make_engine: Any) -> None:
    """float32 to rounding: bfloat16, OpenVINO's own choice on some CPUs, would be off by 1e-3 and more."""
    path = make_engine(precision=precision)
    clip = noise(vs.RGBS, 23, 17)
    image = np.stack(read_planes(clip)).astype(np.float32)[None]
    [expected] = ReferenceEvaluator(onnx.load(path)).run(None, {"input": image})
    got = np.stack(read_planes(vsaether.upscale(clip, path, backend=backend)))
    limit = {"fp32": 1e-5, "fp16": 2e-3, "int8": 2e-2}[precision]
    assert abs(got - np.asarray(expected)[0]).max() <= limit


@pytest.mark.parametrize("exact", [True, False])
def test_int8_is_right_on_every_processor(exact: bool, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO as ONNX Runtime, also where it computes int8 in float32, which is said; never with saturated sums."""
    if exact and not backends.ov._openvino_int8():
        pytest.skip("this processor has no 8-bit dot products (VNNI): int8 in OpenVINO's own arithmetic not tested")
    monkeypatch.setattr(backends.ov, "_openvino_int8", lambda: exact)
    for engine in ("tiny_2x_int8", "small_2x_int8"):
        said.clear()
        _warn.cache_clear()
        clip = noise(vs.RGBS, 48, 32)
        ours, _, reference = (
            np.stack(read_planes(vsaether.upscale(clip, engine, backend=each))) for each in ("ov", "ov", "ort")
        )
        assert said == ([] if exact else [f"aether.Upscale: {backends.OpenVINO.note('int8')}"])  # it is said once
        assert -10 * np.log10(np.mean((ours - reference) ** 2)) > 40, engine  # saturated: 30 and less


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_same_bytes_and_properties_every_time(precision: str, make_engine: Any) -> None:
    clip = noise(vs.YUV420P8, 64, 48, 6, _SARNum=8, _SARDen=9, _PictType="B", own=[1, 2, 3])
    clip, engine = clip.std.AssumeFPS(fpsnum=30000, fpsden=1001), make_engine(precision=precision)
    first = vsaether.upscale(clip, engine)
    for other in (vsaether.upscale(clip, engine), vsaether.upscale(clip, engine, num_streams=2)):
        assert (len(other), other.fps) == (6, clip.fps)
        for number in (5, 0, 3):
            assert_same(other, first, number)
            assert other.get_frame(number).props.items() >= clip.get_frame(number).props.items()


def test_auto_takes_the_first_that_works(monkeypatch: pytest.MonkeyPatch, toy_engine: str) -> None:
    engine = engines.resolve(toy_engine)
    assert isinstance(backends.create("auto", engine), backends.OpenVINO)
    monkeypatch.setattr(backends.OpenVINO, "unusable", classmethod(lambda cls: "out of order"))
    assert backends.probe()["ov"] == "out of order"
    assert isinstance(backends.create("auto", engine), backends.OnnxRuntime)
    with pytest.raises(vs.Error, match=r"^aether\.Upscale: no backend can be used \(ov: out of order\)"):
        vsaether.upscale(noise(vs.RGB24, 16, 16), toy_engine, backend="ov")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"engine": "huge_9x_fp4"}, "'huge_9x_fp4'; engines: .*tiny_2x_fp32"),
    ({"backend": "cuda"}, "'cuda'; backends: auto, trt, trt_rtx, ort_cuda, ncnn, native, ov, ort"),
    ({"backend": "native:thread=2"}, "'native:thread=2'; .* num_streams, device_id, threads"),
    ({"backend": "native:threads=two"}, "threads is 'two'; .* whole number"),
    ({"backend": "auto:threads=2"}, "'auto:threads=2'; options belong to one backend"),
    ({"num_streams": 0}, "num_streams is 0; .* from 1 to 1024"),
    ({"device_id": 1}, "device_id is 1; .* only device 0"),
    ({"tile": 0}, "tile is 0; .* at least 1"),
    ({"tile": (32, 32, 32)}, "tile is .32, 32, 32.; .* one whole number or two"),
    ({"tile": 16, "overlap": 8}, "tile is 16 .* more than 16"),
    ({"overlap": -1}, "overlap is -1; .* at least 0"),
    ({"matrix": 99}, "matrix is 99; .* 1, 4,"),
    ({"range": 2}, r"range is 2; .* 0 \(limited\) or 1 \(full\)"),
    ({"dither": "noise"}, "dither_type is 'noise'; .* none, ordered, random, error_diffusion"),
    ({"dither": "none", "dither_type": "none"}, "give one of them"),
    ({"clip": flat(vs.RGB24), "matrix": 1}, "matrix is 1, but the clip is RGB; leave it out"),
]
UNTYPED: list[tuple[dict[str, Any], str]] = [
    ({"clip": "in.mkv"}, "type str; .* vapoursynth.VideoNode"),
    ({"engine": None}, "engine is None; .* a name"),
    ({"backend": ["ov"]}, r"\['ov'\]; backends: auto, trt"),
    ({"tile": 32.0}, "tile is 32.0; .* whole"),
    ({"tile": "32x32"}, "tile is '32x32'; .* whole"),
    ({"overlap": (8, 8.5)}, r"overlap is \(8, 8.5\); .* whole"),
    *(({"num_streams": n}, "num_streams is .* from 1 to 1024") for n in ("2", 1.5, 10**20)),
    ({"device_id": "0"}, "device_id is '0'; .* only device 0"),
    ({"matrix": "601"}, "matrix is '601'; .* 1, 4,.* a name: 709,"),
    ({"range": "tv"}, "range is 'tv'; "),
]
"""Only Python can pass them: the plugin's arguments are typed."""


@pytest.mark.parametrize(("arguments", "message"), [*WRONG, *UNTYPED])
def test_wrong_arguments(arguments: dict[str, Any], message: str, toy_engine: str) -> None:
    """A plain line of what was given and what is allowed, the same from both ways to call the filter."""
    arguments = {"clip": noise(vs.YUV420P8, 64, 48), "engine": toy_engine} | arguments
    with pytest.raises(vs.Error, match=rf"^aether\.Upscale: .*{message}") as one:
        vsaether.upscale(**arguments)
    assert "\n" not in str(one.value)
    if message in [said for _, said in WRONG]:
        with pytest.raises(vs.Error) as other:
            core.aether.Upscale(**arguments)
        assert str(one.value).replace("(32, 32, 32)", "[32, 32, 32]") == str(other.value)


def test_numpy_numbers_are_numbers(toy_engine: str) -> None:
    arguments: dict[str, Any] = {"tile": np.array([32, 24]), "overlap": np.int64(3), "num_streams": np.int64(1)}
    assert vsaether.upscale(noise(vs.RGB24, 40, 30), toy_engine, **arguments).width == 80


VARIABLE = "the clip's format or size varies; make it constant"
UNFIT: list[tuple[vs.VideoNode, str]] = [
    (core.std.Splice([flat(vs.RGB24, width=width) for width in (32, 64)], mismatch=True), VARIABLE),
    (core.std.Splice([flat(each) for each in (vs.RGB24, vs.GRAY8)], mismatch=True), VARIABLE),
    *(
        (flat(vs.YUV444P8).std.SetFrameProps(**{key: v}), f"frame 0 has {key}=.*; it must be one whole number; set it")
        for key, v in itertools.product(PROPERTIES, ([1, 1], "x", 1.0))
    ),
    (flat(vs.GRAY32), "Gray32 has more than 16 bits a sample; convert"),
    (flat(vs.YUV444P8, _Matrix=15), "frame 0 has _Matrix=15, .* the right matrix, one of 1, 4,"),
    (flat(vs.YUV444P8, _Matrix=12), "the colours of frame 0 .*_Matrix=12.* cannot be converted"),
    (flat(core.query_video_format(vs.YUV, vs.INTEGER, 8, 3, 0).id), "the colours of frame 0 .* cannot .*subsampling"),
    (flat(vs.RGB24).std.ModifyFrame(flat(vs.RGB24), lambda n, f: [][n]), ".*list index out of range"),
]


@pytest.mark.parametrize(("clip", "message"), UNFIT, ids=[message for _, message in UNFIT])
def test_clips_which_cannot_be_processed(clip: vs.VideoNode, message: str, toy_engine: str) -> None:
    with pytest.raises(vs.Error, match=rf"(?s)^aether\.Upscale: {message}"):
        vsaether.upscale(clip, toy_engine)


def test_engines_which_lie_about_their_scale_or_cannot_be_loaded(make_engine: Any, tmp_path: Path) -> None:
    clip = flat(vs.RGB24)
    with pytest.raises(vs.Error, match=r"says that it scales by 4, but makes 128x128 of 64x64"):
        vsaether.upscale(clip, make_engine(metadata={"scale": "4"}))
    model = onnx.load(make_engine())
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "broken.onnx")
    for backend in ("ov", "ort"):
        with pytest.raises(vs.Error, match=rf"^aether\.Upscale: the backend {backend} cannot run the engine toy_2x"):
            vsaether.upscale(clip, tmp_path / "broken.onnx", backend=backend)


def test_options_of_a_backend_in_its_name() -> None:
    assert backends.create("native:threads=3") == backends.Native(threads=3)
    assert backends.create("ov:num_streams=4,device=CPU", num_streams=1) == backends.OpenVINO(num_streams=4)
    with pytest.raises(vsaether.ArgumentError, match="threads is 1000; it must be a whole number from 1 to 256, or 0"):
        backends.create("native:threads=1000")
    kind, options = backends._parse("trt:use_cuda_graph=0,cache=x")
    assert backends.BACKENDS[kind](**options) == backends.TensorRT(use_cuda_graph=False, cache=Path("x"))
