"""Engines of the filter: found by name or path; tests/presets has what an engine file is."""

import itertools
from pathlib import Path
from typing import Any

import onnx
import pytest
import vapoursynth as vs

import presets
import vsaether
from vsaether import EngineError, engines


def test_facts_are_read_from_the_file(make_engine: Any) -> None:
    metadata = {"name": "small_3x", "variant": "aether_small", "bytes_per_pixel": "99.5"}
    engine = engines.resolve(make_engine(precision="int8", scale=3, metadata=metadata))
    assert (engine.name, engine.variant, engine.scale, engine.precision) == ("small_3x_int8", "aether_small", 3, "int8")
    assert (engine.radius, engine.bytes_per_pixel, engine.licence) == (3, 100, "MIT")
    assert engine.model == engine.path.read_bytes()


def test_what_is_refused_is_an_error_of_the_filter(make_engine: Any, tmp_path: Path) -> None:
    """Before anything of it is run; a gray engine is one of ours, but takes no RGB."""
    gray = onnx.load(make_engine())
    for value in (*gray.graph.input, *gray.graph.output):
        value.type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(gray, tmp_path / "gray.onnx")
    foreign = make_engine(metadata={"licence": ""})
    for path, said in ((foreign, "aether_licence"), (tmp_path / "gray.onnx", "3, H, W"), ("x\0.onnx", "null byte")):
        with pytest.raises(EngineError, match=said):
            engines.resolve(path)
    with pytest.raises(EngineError, match="must be a name"):
        engines.resolve(3)  # pyright: ignore[reportArgumentType]


def test_presets_are_found_by_name_and_refused_where_damaged_or_exchanged(
    tmp_path: Path, make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only preset is toy_2x, of fp32 and int8."""
    monkeypatch.setattr(presets, "DIR", tmp_path)
    paths = {precision: tmp_path / "toy_2x" / f"{precision}.onnx" for precision in ("fp32", "int8")}
    paths["fp32"].parent.mkdir()
    for precision, path in paths.items():
        path.write_bytes(make_engine(precision=precision).read_bytes())
    presets.save("toy_2x", {"files": {precision: presets.describe(path) for precision, path in paths.items()}})
    assert [engine.name for engine in engines.available()] == ["toy_2x_fp32", "toy_2x_int8"]
    assert engines.resolve("toy_2x_int8").path == paths["int8"]
    assert engines.is_preset("toy_2x") and not engines.is_preset("toy_2x_int8")
    for name in ("toy_2x_fp16", "toy_2x", "nonsense", ""):
        with pytest.raises(EngineError, match=f"'{name}'.* toy_2x_fp32, toy_2x_int8;"):
            engines.resolve(name)
    paths["int8"].write_bytes(paths["int8"].read_bytes() + b"\0")
    with pytest.raises(EngineError, match=r"toy_2x_int8 .*damaged"):
        engines.resolve("toy_2x_int8")
    presets.save("toy_2x", {"files": {"int8": presets.describe(paths["fp32"])}})
    with pytest.raises(EngineError, match="fp32 inside"):
        engines.resolve("toy_2x_int8")


def test_released_engines_keep_flat_pictures_flat(presets_dir: Path, planes: Any) -> None:
    """Black, white, the pure colours, gray, and all that are of dark, half and bright."""
    colours = [c for c in itertools.product((0.0, 0.5, 1.0), repeat=3) if 0.5 not in c or len(set(c)) != 2]
    blank = vs.core.std.BlankClip(format=vs.RGBS, width=40, height=32, length=1)
    clip = vs.core.std.Splice([blank.std.BlankClip(color=colour) for colour in colours])
    for engine in engines.available():
        upscaled = vsaether.upscale(clip, engine.name)
        for number, colour in enumerate(colours):
            for plane, value in zip(planes(upscaled, number), colour, strict=True):
                error = abs(plane - value)
                assert error[16:-16, 16:-16].max() <= 1 / 255, (engine.name, colour)
                assert error.max() <= 2 / 255, (engine.name, colour)
