"""The nodes, run as chaiNNer runs them: values through their inputs, results through their outputs.

With CHAINNER_REAL=1 and chaiNNer's Python, the same tests run in chaiNNer's own api instead of the double.
"""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch
from api import Aborted, registry
from calls import Context, call, nodes
from nodes.impl.onnx.model import OnnxGeneric
from nodes.impl.upscale.tiler import MaxTileSize
from packages.chaiNNer_pytorch.settings import PyTorchSettings
from PIL import Image
from safetensors.torch import save_file
from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader
from torch import nn

import arch
import chainner_nodes.nodes
import presets
from chainner_nodes.nodes import _engines, _models, _upscale
from chainner_nodes.nodes._reuse import Reuse
from export import runtimes
from presets import engine

from ..nets import built, tiny

TINY, QAT = (presets.path("tiny_2x", kind) for kind in ("notfused", "qat"))


@pytest.fixture(autouse=True)
def one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/export has what verification is; here it runs on one picture."""
    monkeypatch.setattr("export.pictures.CHECKS", 1)


@pytest.fixture(scope="module")
def model() -> ImageModelDescriptor:
    return call("load_model", "tiny_2x")[0]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is exported in a moment."""
    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    save_file(built(tiny()).state_dict(), path)
    return path


@pytest.fixture
def bgr() -> np.ndarray:
    """A picture in which red, green and blue are far apart."""
    y, x = np.mgrid[:60, :76].astype(np.float32)
    img = np.stack([x / 76 * 0.3, y / 60 * 0.6, 0.7 + 0.3 * np.sin(x / 5) * np.cos(y / 7)], 2)
    img.setflags(write=False)  # as chaiNNer's images are
    return img


def through(run: Any, bgr: np.ndarray) -> np.ndarray:
    """What a network makes of a BGR image, in BGR."""
    return run(bgr[:, :, ::-1].transpose(2, 0, 1)[None].copy())[0].transpose(1, 2, 0)[:, :, ::-1]


def direct(model: ImageModelDescriptor, bgr: np.ndarray) -> np.ndarray:
    """The descriptor's own result."""
    return through(lambda batch: model(torch.from_numpy(batch)).numpy(), bgr)


def test_package_is_registered_with_the_settings_of_chainners_pytorch_nodes() -> None:
    assert len(nodes()) == len(chainner_nodes.nodes.__all__) == 6
    packages = {p.id: p for p in registry.packages.values()}
    assert packages["aethernet"].settings == packages["chaiNNer_pytorch"].settings != []
    assert [c.name for c in packages["aethernet"].categories] == ["AetherNet"]
    assert not list(Path(packages["aethernet"].where).parent.rglob("*.py"))  # chaiNNer would import them by itself
    assert "AetherNet" in [a.architecture.id for a in MAIN_REGISTRY]


def test_colours_keep_their_order_and_gray_stays_gray(model: ImageModelDescriptor, bgr: np.ndarray) -> None:
    result = call("upscale_image", bgr, model)
    np.testing.assert_allclose(result, direct(model, bgr), atol=1e-6)
    assert np.abs(result - direct(model, bgr[:, :, ::-1])[:, :, ::-1]).max() > 1e-3  # the order matters to the network
    gray = bgr[:, :, 2]
    result = call("upscale_image", gray, model)
    expected = direct(model, np.dstack([gray] * 3)) @ np.array([0.114, 0.587, 0.299], np.float32)
    assert result.shape == (120, 152)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("separate", [0, 1])
def test_alpha_is_kept(model: ImageModelDescriptor, bgr: np.ndarray, separate: int) -> None:
    """Beside the picture's own colours where it is separate."""
    alpha = np.broadcast_to(np.linspace(0, 1, 76, dtype=np.float32), (60, 76))
    result = call("upscale_image", np.dstack((bgr, alpha)), model, 0, 256, separate)
    assert (np.abs(result[:, :, :3] - direct(model, bgr)).max() < 1e-6) == bool(separate)
    np.testing.assert_allclose(result[10:-10, :, 3], [np.linspace(0, 1, 152)] * 100, atol=0.03)


def settings(gibibytes: int = 0) -> PyTorchSettings:
    return PyTorchSettings(use_cpu=True, use_fp16=False, gpu_index=0, budget_limit=gibibytes)


def upscaled(bgr: np.ndarray, run: Any, radius: int, tile: int) -> np.ndarray:
    tiler = MaxTileSize(tile)
    return _upscale.upscale(bgr, run, channels=3, radius=radius, tiler=tiler, separate_alpha=False, progress=None)


def test_tiles_equal_the_whole_tell_progress_and_stop(model: ImageModelDescriptor, bgr: np.ndarray) -> None:
    """Without the pixels that they depend on they would differ."""
    context = Context()
    tiled = call("upscale_image", bgr, model, -3, 24, context=context)
    np.testing.assert_allclose(tiled, call("upscale_image", bgr, model, -1), atol=1e-6)
    assert context.told == sorted(context.told) and context.told[-1] == 1 and len(context.told) == 3 * 4
    assert np.abs(upscaled(bgr, _models.runner(model, settings()), 0, 24) - tiled).max() > 1e-3
    context.aborted = True
    with pytest.raises(Aborted):
        call("upscale_image", bgr, model, context=context)


def test_lack_of_memory_makes_smaller_tiles(model: ImageModelDescriptor, bgr: np.ndarray) -> None:
    run, sizes = _models.runner(model, settings()), []

    def small(batch: np.ndarray) -> np.ndarray:
        sizes.append(batch.shape[2])
        if batch.shape[2] > 50:
            raise RuntimeError("CUDA out of memory")
        return run(batch)

    np.testing.assert_allclose(upscaled(bgr, small, 12, 100), direct(model, bgr), atol=1e-6)
    assert sizes[0] == 60 and sizes[-1] <= 50


def test_automatic_tiles_follow_the_memory(model: ImageModelDescriptor) -> None:
    few, many = (_models.fitting_pixels(model, settings(n)) for n in (1, 2))
    assert 0 < few < many
    measured = engine.read(presets.read("tiny_2x", "fp32"), "fp32").bytes_per_pixel
    assert measured <= 0.8 * 2**30 / few < 6 * measured  # unfused layers are wider


@pytest.mark.parametrize(("name", "runtime"), [("tiny_2x_int8", "ov"), ("tiny_2x_int8", "ort"), ("tiny_2x_fp32", "ov")])
def test_engine_node_runs_the_released_file(bgr: np.ndarray, name: str, runtime: str) -> None:
    context = Context()
    result = call("upscale_with_onnx_engine", bgr, name, None, runtime, context=context)
    expected = through(runtimes.load(presets.read(*presets.split(name)), runtime), bgr)
    np.testing.assert_allclose(result, expected.clip(0, 1), atol=1e-6)
    assert len(_engines._RUNS) == 1
    context.clean()
    assert len(_engines._RUNS) == 0


def test_engine_node_takes_only_engines_of_ours(bgr: np.ndarray) -> None:
    released = onnx.load_model_from_string(presets.read("tiny_2x", "fp32"))
    del released.metadata_props[:]
    foreign, outside = (_engines.generic(released.SerializeToString()) for _ in range(2))
    released.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    outside.bytes = released.SerializeToString()
    for model, said in (
        (None, "No model is connected"),
        (foreign, "not an AetherNet engine"),
        (outside, "keeps weights in another file"),
    ):
        with pytest.raises(ValueError, match=said):
            call("upscale_with_onnx_engine", bgr, "connected", model)


def test_video_node_computes_repeated_frames_once(bgr: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    load, loaded, context = runtimes.load, [], Context()
    monkeypatch.setattr(runtimes, "load", lambda *given: (loaded.append(Mock(wraps=load(*given))), loaded[-1])[1])
    frames = [bgr, bgr.copy(), np.roll(bgr, 4, 1), bgr]
    results = [call("upscale_video_frame", f, "tiny_2x_int8", context=context) for f in frames]
    assert [run.call_count for run in loaded] == [2]
    for frame, result in zip(frames, results, strict=True):
        np.testing.assert_array_equal(result, call("upscale_with_onnx_engine", frame, "tiny_2x_int8"))
    context.clean()
    with pytest.raises(ValueError, match=r"supports|channels"):
        call("upscale_video_frame", bgr[:, :, 0], "tiny_2x_int8")


def test_what_is_kept_of_repeated_images_is_bounded() -> None:
    images = [np.full((1, 3, 8, 8), n / 4, np.float32) for n in (0, 1, 0, 2, 0, 1)]
    for kept, computed in ((1 << 20, [0, 1, 2]), (0, [0, 1, 0, 2, 0, 1]), (8000, [0, 1, 2, 1])):
        calls: list[float] = []
        reuse = Reuse(lambda x: (calls.append(float(x.max()) * 4), x.repeat(2, 2).repeat(2, 3))[1], kept)  # noqa: B023
        for image in images:
            result = reuse(image)
            np.testing.assert_array_equal(result, image.repeat(2, 2).repeat(2, 3))
            result[:] = -1  # it is the caller's
        assert calls == computed


def test_export_calibrates_and_writes_an_engine(toy: Path, bgr: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray((bgr[:, :, ::-1] * 255).astype(np.uint8)).save(tmp_path / "one.png")
    context, model = Context(), call("load_model", "file", toy)[0]
    values = (model, "int8", tmp_path, tmp_path / "engines")
    engine, name = call("export_to_onnx", *values, context=context)
    path = tmp_path / "engines" / f"{name}.onnx"
    assert name.endswith("_2x_int8") and path.read_bytes() == engine.bytes and context.told[-1] == 1
    result = call("upscale_with_onnx_engine", bgr, "connected", engine)
    assert -10 * np.log10(np.mean((result - direct(model, bgr).clip(0, 1)) ** 2)) > 30
    with pytest.raises(ValueError, match="exists already"):
        call("export_to_onnx", *values)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_ran_in_fp16_is_fused_and_exported_with_the_weights_of_its_file(toy: Path, tmp_path: Path) -> None:
    """Of chaiNNer's own Load Model nothing keeps them, and the nodes refuse."""
    expected = {k: v for k, v in arch.fuse(arch.load(toy)).state_dict().items() if v.is_floating_point()}
    model, built_in = call("load_model", "file", toy)[0], load_built_in(toy)
    for each in (model, built_in):
        each.half()  # as the nodes do where FP16 is on
        assert _models.fitting_pixels(each, settings(1)) > 0
    fused = call("fuse_model", model)
    assert "fused" in fused.tags and "fused" not in model.tags
    assert all(torch.equal(fused.model.state_dict()[k], v) for k, v in expected.items())
    exported = constants(call("export_to_onnx", model, "fp32", None, tmp_path)[0])
    assert len(exported.keys() & expected.keys()) > 5
    for key in exported.keys() & expected.keys():
        np.testing.assert_array_equal(exported[key], expected[key].numpy())
    for node, values in (("fuse_model", ()), ("export_to_onnx", ("fp32", None, tmp_path / "other"))):
        with pytest.raises(ValueError, match="FP16 off"):
            call(node, built_in, *values)
    assert not (tmp_path / "other").exists()


def load_built_in(path: Path) -> Any:
    """As chaiNNer's own Load Model does it."""
    return ModelLoader(torch.device("cpu")).load_from_file(path)


def constants(model: OnnxGeneric) -> dict[str, np.ndarray]:
    """Name: value, of the constants in an ONNX file."""
    graph = onnx.load_model_from_string(model.bytes).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def test_export_keeps_learnt_ranges_or_says_that_they_are_lost(tmp_path: Path) -> None:
    trained, name = call("load_model", "file", QAT)
    exported, _ = call("export_to_onnx", trained, "int8", None, tmp_path)
    steps, released = (
        sorted(float(value) for key, value in constants(model).items() if key.endswith("input_scale"))
        for model in (exported, _engines.generic(presets.read("tiny_2x", "int8")))
    )
    assert name == QAT.stem and len(steps) > 5 and steps == released
    with pytest.raises(ValueError, match="ranges were lost"):
        call("export_to_onnx", load_built_in(QAT), "int8", None, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_load_refuses_what_is_no_aethernet(tmp_path: Path, bgr: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, a Compact in a file or already loaded, and a damaged release."""
    with pytest.raises(ValueError, match="No file was given"):
        call("load_model", "file", None)
    layers = nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 8, 3), nn.PReLU(8), nn.Conv2d(8, 12, 3)
    torch.save(nn.ModuleDict({"body": nn.Sequential(*layers)}).state_dict(), tmp_path / "other.pth")
    with pytest.raises(arch.CheckpointError, match="not an AetherNet"):
        call("load_model", "file", tmp_path / "other.pth")
    compact = load_built_in(tmp_path / "other.pth")
    for name, values in (
        ("upscale_image", (bgr, compact)),
        ("fuse_model", (compact,)),
        ("export_to_onnx", (compact, "fp32", None, tmp_path)),
    ):
        with pytest.raises(ValueError, match="AetherNet models only"):
            call(name, *values)
    (tmp_path / "tiny_2x").mkdir()
    (tmp_path / "tiny_2x" / TINY.name).write_bytes(TINY.read_bytes()[:-1] + b"x")
    facts = presets.load("tiny_2x")
    monkeypatch.setattr(presets, "DIR", tmp_path)
    presets.save("tiny_2x", facts)
    with pytest.raises(presets.PresetError, match="damaged"):
        call("load_model", "tiny_2x")
