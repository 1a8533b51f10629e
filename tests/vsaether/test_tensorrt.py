"""TensorRT: engines really built where a builder is installed, and the backend around them. No card is needed: the
plugin is a stand-in with the real one's signature and answers, which computes with ONNX Runtime what the file names.
"""

import dataclasses
import hashlib
import signal
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import onnx
import pytest
import vapoursynth as vs
from onnx import helper

import vsaether
from vsaether import backends, engines
from vsaether.backends import builder, half, trt
from vsaether.backends.builder import BuildOptions
from vsaether.engine_cache import EngineCache

from .conftest import assert_same, noise

core: Any = vs.core
Backend = backends.TensorRTRTX
RTX: Any = builder.find_library(Backend.modules)
needs_builder = pytest.mark.skipif(RTX is None, reason="TensorRT did NOT build: tensorrt_rtx is not installed")
SIGNATURE = (
    "clips:vnode[];engine_path:data;overlap:int[]:opt;tilesize:int[]:opt;device_id:int:opt;use_cuda_graph:int:opt;"
    "num_streams:int:opt;verbosity:int:opt;flexible_output_prop:data:opt;"
)


class Plugin:
    """trt_rtx on a machine with a card, as far as scripts can tell. `wrong` makes its pictures darker."""

    def __init__(self, model: bytes) -> None:
        self.model, self.wrong, self.loaded, self.driver, self.pixels = model, False, [], 13000, 1 << 30
        real = getattr(core, "trt_rtx", None)
        assert real is None or real.Model.signature == SIGNATURE

    def Model(self, clips: vs.VideoNode, **arguments: Any) -> vs.VideoNode:  # noqa: N802
        assert all(f";{name}:" in SIGNATURE for name in arguments), "the plugin has no such argument"
        assert Path(arguments["engine_path"]).read_bytes()
        if clips.width * clips.height > self.pixels:
            raise vs.Error("operator(): insufficient gpu memory, 3000 MiB are needed")
        if (clips.format.id == vs.RGBH) != half.has_half_ends(self.model):
            raise vs.Error("operator(): bits per sample mismatch")
        self.loaded.append(arguments)
        result = core.ort.Model(clips, network_path=self.model, path_is_serialization=True, provider="")
        return result.std.Expr("x 0.9 *") if self.wrong else result

    def DeviceProperties(self, device_id: int = 0) -> dict[str, Any]:  # noqa: N802
        if device_id:
            raise vs.Error(f"invalid device ID ({device_id})")
        facts = {"name": b"A Card", "major": 8, "minor": 9, "total_global_memory": 8 << 30}
        return facts | {"driver_version": self.driver}

    def Version(self) -> dict[str, bytes]:  # noqa: N802
        return {"tensorrt_version": b"10701", "cuda_runtime_version": b"13040"}


@pytest.fixture
def toy(make_engine: Any) -> engines.Engine:
    return engines.resolve(make_engine(precision="fp16"))


@pytest.fixture
def plugin(toy: engines.Engine, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    stand_in = Plugin(trt.to_build(toy))
    monkeypatch.setattr(Backend, "plugin", lambda *_: stand_in)
    return stand_in


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Builds as ever, and counts."""
    monkeypatch.setattr(builder, "build", counted := Mock(wraps=builder.build))
    return counted


@pytest.fixture
def same_as_cpu(toy: engines.Engine) -> Any:
    """Upscale noise of a size, and compare it with the CPU's."""

    def check(backend: Backend, width: int, height: int, **arguments: Any) -> None:
        clip = noise(vs.RGBS, width, height)
        result = vsaether.upscale(clip, toy.path, backend=backend, **arguments)
        assert_same(result, vsaether.upscale(clip, toy.path, backend="ort"), limit=1e-3)

    return check


@needs_builder
@pytest.mark.filterwarnings("ignore:Use del obj")  # what its own classes say of a subclass that ends
@pytest.mark.parametrize(
    ("file", "dynamic"),
    [("tiny_2x_fp32", False), ("tiny_2x_fp16", True), ("tiny_2x_int8", True), ("small_2x_fp16", False)],
)
def test_released_engines_build(file: str, dynamic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file's types, float16 at both ends but for fp32; with the public release's dynamic shapes too."""
    shapes = []

    class Builder(RTX.Builder):
        def build_serialized_network(self, network: Any, config: Any) -> Any:
            shapes.append(tuple(network.get_input(0).shape))
            return super().build_serialized_network(network, config)

    monkeypatch.setattr(RTX, "Builder", Builder)
    options = BuildOptions(*builder.RELEASE) if dynamic else builder.static(64, 48)
    plan = builder.build(RTX, trt.to_build(engines.resolve(file)), options, log_file=tmp_path / "log")
    assert len(plan) > 100_000
    assert shapes == [(-1 if dynamic else 1, 3, -1, -1)]  # not all plugins take an open batch
    said = (tmp_path / "log").read_text()
    first = next(line for line in said.splitlines() if "Name: input, Dimensions: " in line)
    ends = first.partition("Name: input")[2].partition("}")[0]
    assert f"Datatype: {'Float' if file.endswith('fp32') else 'Half'}," in ends
    assert ("Int8" in said) == file.endswith("int8")


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
            builder.build(RTX, toy.model, builder.static(16, 16))
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


@needs_builder
def test_a_model_that_is_not_taken_is_named(toy: engines.Engine) -> None:
    """The parser's words with the node's name."""
    proto = onnx.load_model_from_string(toy.model)
    proto.graph.node.insert(0, helper.make_node("NoSuchOperator", ["input"], ["nowhere"], name="the_culprit"))
    for model, said in ((proto.SerializeToString(), "the_culprit"), (b"nonsense", "does not take the model")):
        with pytest.raises(vsaether.EngineError, match=said):
            builder.build(RTX, model, builder.static(16, 16))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BuildOptions((1, 3, 8, 8), (1, 3, 4, 4), (1, 3, 8, 8)), "shapes .* do not grow"),
        (lambda: BuildOptions((0, 3, 8, 8), (0, 3, 8, 8), (0, 3, 8, 8)), "at least 1"),
        (lambda: BuildOptions((1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 8, 8)), "shapes .* 3 channels"),
        (lambda: builder.static(8, 8, level=9), "level is 9"),
        (lambda: builder.parse_shape("1080p"), "1x3x1080x1920"),
    ],
)
def test_options_that_make_no_sense(make: Any, said: str) -> None:
    with pytest.raises(vsaether.ArgumentError, match=said):
        make()


def test_the_command_for_nvidias_own_tool() -> None:
    """Of 10.x a strongly typed network has to be asked for; 11.x has no other, and no such switch."""
    options = BuildOptions(*builder.RELEASE, workspace=3 << 30, version_compatible=True, any_card=True)
    old, new = (builder.trtexec(Path("a.onnx"), Path("a.engine"), options, major=major).split() for major in (10, 11))
    assert {"--minShapes=input:1x3x32x32", "--maxShapes=input:16x3x1080x1920"} < set(new)
    assert {"--memPoolSize=workspace:3072M", "--versionCompatible", "--noTF32"} < set(new)
    assert set(old) - set(new) == {"--stronglyTyped"}
    assert builder.parse_shape("input:16x3x1080x1920") == builder.RELEASE[2]


@needs_builder
def test_an_engine_is_built_checked_and_kept(
    toy: engines.Engine, plugin: Plugin, builds: Mock, same_as_cpu: Any, tmp_path: Path
) -> None:
    """One of a wrong picture is not. One is built for each size and for all tiles; streams and graphs need none."""
    backend = Backend(cache=tmp_path, num_streams=3)
    plugin.wrong = True
    with pytest.raises(vsaether.BackendError, match=r"toy_2x_fp16 .* another picture than the CPU .* take toy_2x_fp32"):
        same_as_cpu(backend, 40, 24)
    plugin.wrong = False
    same_as_cpu(backend, 40, 24)
    assert plugin.loaded[-1]["num_streams"] == 3
    same_as_cpu(Backend(cache=tmp_path, use_cuda_graph=False), 40, 24)
    same_as_cpu(backend, 60, 44, tile=(32, 24))
    assert [call.args[2].shapes for call in builds.call_args_list] == ["1x3x24x40", "1x3x24x40", "1x3x24x32"]
    logs = {path.with_suffix(".log") for path in tmp_path.glob("*.engine")}
    assert logs == set(tmp_path.glob("*.log")) and all("Datatype: Half" in path.read_text() for path in logs)
    EngineCache(tmp_path).clear()
    assert not list(tmp_path.iterdir())


@needs_builder
def test_every_ingredient_of_an_engine_is_in_its_key(
    toy: engines.Engine, plugin: Plugin, make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes the engine changes the key; what does not, does not."""

    def key(engine: engines.Engine = toy, **options: Any) -> dict[str, Any]:
        backend = Backend(**options)
        return backend.key(engine, backend.options(40, 48), RTX)

    first = key()
    assert key(num_streams=7, use_cuda_graph=False) == first
    others = [key(level=2), key(tf32=True), key(workspace=1 << 30), key(shapes=builder.RELEASE)]
    others += [key(engines.resolve(make_engine(seed=9))), key(int8 := engines.resolve(make_engine(precision="int8")))]
    assert others[-1]["onnx"] != hashlib.sha256(int8.model).hexdigest()  # float16 stands around it
    plugin.driver = 12000
    others.append(key())
    monkeypatch.setattr(RTX, "__version__", "9.9.9")
    others.append(key())
    assert len({str(sorted(k.items())) for k in [first, *others]}) == 9


@needs_builder
def test_too_little_memory_means_smaller_tiles(
    plugin: Plugin, same_as_cpu: Any, said: list[str], tmp_path: Path
) -> None:
    """The same picture, and it is said once; with a tile of one's own it is an error, as with the smallest."""
    backend = Backend(cache=tmp_path)
    plugin.pixels = 40 * 40
    same_as_cpu(backend, 128, 96)
    assert len([line for line in said if "too little memory" in line]) == 1
    for pixels, tile in ((40 * 40, (128, 96)), (16, None)):
        plugin.pixels = pixels
        with pytest.raises(vsaether.BackendError, match="insufficient gpu memory"):
            same_as_cpu(backend, 128, 96, tile=tile)


def test_a_ready_engine_is_loaded_as_it_is(
    toy: engines.Engine, plugin: Plugin, builds: Mock, same_as_cpu: Any, tmp_path: Path
) -> None:
    """With frames of the type that it takes, which only the plugin knows."""
    ready = tmp_path / "mine.engine"
    ready.write_bytes(b"an engine")
    for plugin.model in (toy.model, trt.to_build(toy)):  # float32 at its ends, and float16
        same_as_cpu(Backend(engine_file=ready), 40, 24)
        assert plugin.loaded[-1]["engine_path"] == str(ready)
    assert not builds.called
    square = (1, 3, 64, 64)
    with pytest.raises(vsaether.BackendError, match="no picture of 40x24"):
        same_as_cpu(Backend(shapes=(square, square, square)), 40, 24)


@pytest.mark.parametrize("backend", [backends.TensorRT, backends.TensorRTRTX])
def test_states_of_a_machine(backend: Any, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plugin; a plugin without a builder; all there; a plugin without a driver."""
    states = (
        (None, None, "pip install vapoursynth-mlrt-trt"),
        (plugin, None, "cannot be built"),
        (plugin, ModuleType("tensorrt"), None),
        (Mock(DeviceProperties=Mock(side_effect=vs.Error("no driver"))), None, "install NVIDIA's driver"),
    )
    for there, library, said in states:
        monkeypatch.setattr(backend, "plugin", lambda there=there: there)
        monkeypatch.setattr(backend, "library", lambda library=library: library)
        reason = backend.unusable()
        assert reason is None if said is None else said in reason


def test_int8_is_refused_where_it_cannot_be_and_told_apart(make_engine: Any) -> None:
    """A zero point that is not int8 would be read as if it were. Float16 around int8, and slow int8, are said."""
    good = engines.resolve(make_engine(precision="int8"))
    assert backends.TensorRT.refusal(good) is None
    proto = onnx.load_model_from_string(good.model)
    node = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear")
    del node.input[2:]
    bad = dataclasses.replace(good, model=proto.SerializeToString())
    assert (node.name or node.output[0]) in (backends.TensorRT.refusal(bad) or "")
    proto = onnx.load_model_from_string(good.model)
    proto.opset_import[0].version = 18  # whose QuantizeLinear takes no float16
    assert "float16" in (backends.TensorRT.refusal(dataclasses.replace(good, model=proto.SerializeToString())) or "")
    assert "float16" in (backends.TensorRT.note("int8") or "")
    assert "take fp16" in (backends.TensorRTRTX.note("int8") or "")
    assert backends.TensorRT.note("fp16") is backends.TensorRTRTX.note("fp16") is None
