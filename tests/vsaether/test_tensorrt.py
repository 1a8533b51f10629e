"""TensorRT: engines really built where a builder is installed (no GPU needed), and the backend around them.

No card is needed, and none runs an engine here: the plugin is a stand-in with the real one's signature and answers,
which computes with ONNX Runtime what the engine file names.
"""

import dataclasses
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import vapoursynth as vs
from onnx import helper

import vsaether
from vsaether import backends, engines
from vsaether.backends import builder, half, trt
from vsaether.backends.builder import BuildOptions

core: Any = vs.core
RTX = builder.find_library(backends.TensorRTRTX.modules)
needs_builder = pytest.mark.skipif(RTX is None, reason="TensorRT did NOT build: tensorrt_rtx is not installed")
SIGNATURE = (
    "clips:vnode[];engine_path:data;overlap:int[]:opt;tilesize:int[]:opt;device_id:int:opt;use_cuda_graph:int:opt;"
    "num_streams:int:opt;verbosity:int:opt;flexible_output_prop:data:opt;"
)


class Plugin:
    """trt_rtx on a machine with a card, as far as scripts can tell. `wrong` makes its pictures darker."""

    def __init__(self, model: bytes) -> None:
        self.model, self.wrong, self.loaded, self.driver = model, False, [], 13000
        self.pixels = 1 << 30
        real = getattr(core, "trt_rtx", None)
        signature = real.Model.signature if real else SIGNATURE
        assert signature == SIGNATURE
        self.names = {part.partition(":")[0] for part in signature.split(";") if part}

    def Model(self, clips: vs.VideoNode, **arguments: Any) -> vs.VideoNode:  # noqa: N802
        assert arguments.keys() <= self.names, "the plugin has no such argument"
        assert Path(arguments["engine_path"]).read_bytes()
        if clips.width * clips.height > self.pixels:
            raise vs.Error("operator(): insufficient gpu memory, 3000 MiB are needed")
        if (clips.format.id == vs.RGBH) != half.has_half_ends(self.model):
            raise vs.Error("operator(): bits per sample mismatch")
        self.loaded.append((clips.width, clips.height, arguments))
        result = core.ort.Model(clips, network_path=self.model, path_is_serialization=True, provider="")
        return result.std.Expr("x 0.9 *") if self.wrong else result

    def DeviceProperties(self, device_id: int = 0) -> dict[str, Any]:  # noqa: N802
        if device_id:
            raise vs.Error(f"invalid device ID ({device_id})")
        facts = {"name": b"A Card", "major": 8, "minor": 9, "total_global_memory": 8 << 30}
        return facts | {"driver_version": self.driver}

    def Version(self) -> dict[str, bytes]:  # noqa: N802
        return {"tensorrt_version": b"10701", "cuda_runtime_version": b"13040"}


class Backend(backends.TensorRTRTX):
    """The backend with the stand-in for its plugin."""

    stand_in: Any = None

    @classmethod
    def plugin(cls) -> Any:
        return cls.stand_in


@pytest.fixture
def toy(make_engine: Any) -> engines.Engine:
    return engines.resolve(str(make_engine(precision="fp16")))


@pytest.fixture
def plugin(toy: engines.Engine, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    monkeypatch.setattr(Backend, "stand_in", Plugin(trt.to_build(toy)))
    return Backend.stand_in


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[BuildOptions]:
    """The options of every build."""
    made: list[BuildOptions] = []
    real = builder.build

    def count(library: ModuleType, model: bytes, options: BuildOptions, **others: Any) -> bytes:
        made.append(options)
        return real(library, model, options, **others)

    monkeypatch.setattr(builder, "build", count)
    return made


@pytest.fixture
def same_as_cpu(toy: engines.Engine, noise: Any, planes: Any) -> Any:
    """Upscale noise of a size, and compare it with the CPU's."""

    def check(backend: Backend, size: tuple[int, int], **arguments: Any) -> None:
        clip = noise(vs.RGBS, *size)
        got = planes(vsaether.upscale(clip, toy.path, backend=backend, **arguments))
        np.testing.assert_allclose(got, planes(vsaether.upscale(clip, toy.path, backend="ort")), atol=1e-3)

    return check


@needs_builder
@pytest.mark.parametrize(
    ("file", "dynamic"),
    [("tiny_2x_fp32", False), ("tiny_2x_fp16", True), ("tiny_2x_int8", True), ("small_2x_fp16", False)],
)
def test_released_engines_build(file: str, dynamic: bool, tmp_path: Path) -> None:
    """In the file's types, float16 at both ends but for fp32; with the public release's dynamic shapes too."""
    assert RTX is not None
    options = BuildOptions(*builder.RELEASE) if dynamic else builder.static(64, 48)
    plan = builder.build(RTX, trt.to_build(engines.resolve(file)), options, log_file=tmp_path / "log")
    assert len(plan) > 100_000
    said = (tmp_path / "log").read_text()
    shape = "[-1,3,-1,-1]" if dynamic else "[1,3,48,64]"  # a batch of one is fixed: not all plugins take an open one
    first = next(line for line in said.splitlines() if f"Name: input, Dimensions: {shape}" in line)
    ends = first.partition("Name: input")[2].partition("}")[0]
    assert ("Datatype: Float," in ends, "Datatype: Half," in ends) == (file.endswith("fp32"), not file.endswith("fp32"))
    assert ("Int8" in said) == (file.endswith("int8"))


@needs_builder
def test_ctrl_c_ends_a_build(toy: engines.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in the library it comes: what its handler raises in a callback would be lost."""

    class Interrupting(builder.tqdm):
        def __init__(self, **arguments: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            super().__init__(**arguments)

    monkeypatch.setattr(builder, "tqdm", Interrupting)
    handler = signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)  # what a shell has begun in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            builder.build(RTX, toy.model, builder.static(16, 16))  # pyright: ignore[reportArgumentType]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


@needs_builder
def test_a_model_that_is_not_taken_is_named(toy: engines.Engine) -> None:
    """The parser's words with the node's name, and for shapes that no build is possible for the builder's."""
    assert RTX is not None
    proto = onnx.load_model_from_string(toy.model)
    proto.graph.node.insert(0, helper.make_node("NoSuchOperator", ["input"], ["nowhere"], name="the_culprit"))
    for model, said in ((proto.SerializeToString(), "the_culprit"), (b"nonsense", "does not take the model")):
        with pytest.raises(vsaether.EngineError, match=said):
            builder.build(RTX, model, builder.static(16, 16))


@pytest.mark.parametrize(
    "shapes", [((1, 3, 8, 8), (1, 3, 4, 4), (1, 3, 8, 8)), ((0, 3, 8, 8),) * 3, ((1, 4, 8, 8),) * 3]
)
def test_shapes_that_make_no_sense(shapes: Any) -> None:
    with pytest.raises(vsaether.ArgumentError, match="shapes"):
        BuildOptions(*shapes)
    with pytest.raises(vsaether.ArgumentError, match="level is 9"):
        builder.static(8, 8, level=9)
    with pytest.raises(vsaether.ArgumentError, match="1x3x1080x1920"):
        builder.parse_shape("1080p")


def test_the_command_for_nvidias_own_tool() -> None:
    """Of 10.x a strongly typed network has to be asked for; 11.x has no other, and no such switch."""
    options = BuildOptions(*builder.RELEASE)
    old, new = (builder.trtexec(Path("a.onnx"), Path("a.engine"), options, major=major).split() for major in (10, 11))
    assert {"--minShapes=input:1x3x32x32", "--maxShapes=input:16x3x1080x1920"} < set(new)
    assert set(old) - set(new) == {"--stronglyTyped"}
    assert builder.parse_shape("input:16x3x1080x1920") == builder.RELEASE[2]


@needs_builder
def test_an_engine_is_built_checked_and_kept(
    plugin: Plugin, builds: list[BuildOptions], same_as_cpu: Any, tmp_path: Path
) -> None:
    """One build for each size, and for all tiles; streams and graphs need none; the picture is the CPU's."""
    backend = Backend(cache=tmp_path, num_streams=3)
    same_as_cpu(backend, (40, 24))
    assert plugin.loaded[-1][2]["num_streams"] == 3
    same_as_cpu(Backend(cache=tmp_path, use_cuda_graph=False), (40, 24))
    assert [options.shapes for options in builds] == ["1x3x24x40"]
    same_as_cpu(backend, (60, 44), tile=(32, 24))
    assert [options.shapes for options in builds] == ["1x3x24x40", "1x3x24x32"]


@needs_builder
def test_every_ingredient_of_an_engine_is_in_its_key(
    toy: engines.Engine, plugin: Plugin, make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes the engine changes the key; what does not, does not."""
    backend, size = Backend(), (40, 48)

    def key(backend: Backend = backend, engine: engines.Engine = toy) -> dict[str, Any]:
        library = backend.library()
        assert library is not None
        return backend.key(engine, backend.options(*size), library)

    first = key()
    assert key(Backend(num_streams=7, use_cuda_graph=False)) == first
    others = [key(Backend(level=2)), key(Backend(tf32=True)), key(Backend(workspace=1 << 30))]
    others += [key(Backend(shapes=builder.RELEASE)), key(engine=engines.resolve(str(make_engine(seed=9))))]
    plugin.driver = 12000
    others.append(key())
    monkeypatch.setattr(RTX, "__version__", "9.9.9")
    others.append(key())
    assert len({str(sorted(k.items())) for k in [first, *others]}) == 8


@needs_builder
def test_a_wrong_picture_is_not_kept(
    toy: engines.Engine, plugin: Plugin, builds: list[BuildOptions], noise: Any, tmp_path: Path
) -> None:
    """The error names the engine and the next precision; once the library is right again, so is the cache."""
    plugin.wrong = True
    clip, backend = noise(vs.RGBS, 40, 24), Backend(cache=tmp_path)
    with pytest.raises(vsaether.BackendError, match=r"toy_2x_fp16 .* another picture than the CPU .* take toy_2x_fp32"):
        vsaether.upscale(clip, toy.path, backend=backend)
    plugin.wrong = False
    for _ in range(2):
        vsaether.upscale(clip, toy.path, backend=backend)
        assert len(builds) == 2


@needs_builder
def test_too_little_memory_means_smaller_tiles(
    toy: engines.Engine, plugin: Plugin, same_as_cpu: Any, noise: Any, said: list[str], tmp_path: Path
) -> None:
    """The same picture, and it is said once; with a tile of one's own it is an error, as with the smallest."""
    plugin.pixels = 40 * 40
    clip, backend = noise(vs.RGBS, 128, 96), Backend(cache=tmp_path)
    same_as_cpu(backend, (128, 96))
    assert len([line for line in said if "too little memory" in line]) == 1
    for pixels, tile in ((40 * 40, (128, 96)), (16, None)):
        plugin.pixels = pixels
        with pytest.raises(vsaether.BackendError, match="insufficient gpu memory"):
            vsaether.upscale(clip, toy.path, backend=backend, tile=tile)


@pytest.mark.parametrize("ends", ["float32", "float16"])
def test_a_ready_engine_is_loaded_as_it_is(
    ends: str, toy: engines.Engine, plugin: Plugin, builds: list[BuildOptions], same_as_cpu: Any, tmp_path: Path
) -> None:
    """With frames of the type that it takes, which only the plugin knows."""
    ready = tmp_path / "mine.engine"
    ready.write_bytes(b"an engine")
    plugin.model = toy.model if ends == "float32" else trt.to_build(toy)
    same_as_cpu(Backend(engine_file=ready), (40, 24))
    assert plugin.loaded[-1][2]["engine_path"] == str(ready)
    assert builds == []
    square = (1, 3, 64, 64)
    with pytest.raises(vsaether.BackendError, match="no picture of 40x24"):
        same_as_cpu(Backend(shapes=(square, square, square)), (40, 24))


@pytest.mark.parametrize("backend", [backends.TensorRT, backends.TensorRTRTX])
def test_states_of_a_machine(backend: Any, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plugin; a plugin without a builder; all there; a plugin without a driver."""

    class Bare:
        def DeviceProperties(self, device_id: int = 0) -> None:  # noqa: N802
            raise vs.Error("no driver")

    states = (
        (None, None, "pip install vapoursynth-mlrt-trt"),
        (plugin, None, "cannot be built"),
        (plugin, ModuleType("tensorrt"), None),
        (Bare(), None, "install NVIDIA's driver"),
    )
    for there, library, said in states:
        monkeypatch.setattr(backend, "plugin", classmethod(lambda cls, there=there: there))
        monkeypatch.setattr(backend, "library", classmethod(lambda cls, library=library: library))
        reason = backend.unusable()
        assert reason is None if said is None else said in reason


def test_the_real_plugin_without_a_card(noise: Any, toy_engine: str) -> None:
    """Loaded without a driver it answers every call with an error, so nothing is built and "auto" goes on."""
    if getattr(core, "trt_rtx", None) is None:
        pytest.skip("vs-mlrt's trt_rtx plugin is not installed: its answers were NOT tested")
    if backends.TensorRTRTX.unusable() is None:
        pytest.skip("a card is here: what is said without one was NOT tested")
    with pytest.raises(vsaether.BackendError, match="trt_rtx: no NVIDIA card can be used"):
        vsaether.upscale(noise(vs.RGBS, 16, 16), toy_engine, backend="trt_rtx")
    assert backends.create("auto", engines.resolve(toy_engine)).name in ("ncnn", "native", "ov", "ort")


def test_a_graph_that_breaks_a_rule_is_refused(make_engine: Any) -> None:
    """A zero point that is not int8 would be read as if it were: an engine of another picture."""
    good = engines.resolve(str(make_engine(precision="int8")))
    proto = onnx.load_model_from_string(good.model)
    node = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear")
    del node.input[2:]
    bad = dataclasses.replace(good, model=proto.SerializeToString())
    assert backends.TensorRT.refusal(good) is None
    assert (node.name or node.output[0]) in (backends.TensorRT.refusal(bad) or "")


def test_int8_is_advised_against_where_it_is_slow() -> None:
    assert "fp16" in (backends.TensorRTRTX.note("int8") or "")
    assert backends.TensorRTRTX.note("fp16") is None
    assert backends.TensorRT.note("int8") is None
