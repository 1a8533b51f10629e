"""Engines of the filter: found by name or path; tests/presets has what an engine file is."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import vapoursynth as vs

import presets
import vsaether
from vsaether import EngineError, engines

from .conftest import clip_of, read_planes


def test_facts_are_read_from_the_file(make_engine: Any) -> None:
    path = make_engine(precision="int8", scale=3, metadata={"bytes_per_pixel": "99.5"})
    expected = engines.Engine("toy_3x_int8", path, "aether_toy", 3, "int8", 3, 100, "MIT", b"")
    assert (engines.resolve(path), engines.resolve(path).model) == (expected, path.read_bytes())


def test_what_is_refused_is_an_error_of_the_filter(make_engine: Any, tmp_path: Path) -> None:
    """Before anything of it is run; a gray engine is one of ours, but takes no RGB."""
    gray = onnx.load(make_engine())
    for value in (*gray.graph.input, *gray.graph.output):
        value.type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(gray, tmp_path / "gray.onnx")
    foreign = make_engine(metadata={"licence": ""})
    refused: list[tuple[Any, str]] = [(foreign, "aether_licence"), (tmp_path / "gray.onnx", "3, H, W")]
    refused += [("x\0.onnx", "null byte"), (3, "must be a name")]
    for engine, said in refused:
        with pytest.raises(EngineError, match=said):
            engines.resolve(engine)


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


def test_released_engines_keep_flat_pictures_flat() -> None:
    """Black, white, the pure colours, gray, and all that are of dark, half and bright."""
    colours = [c for c in itertools.product((0.0, 0.5, 1.0), repeat=3) if 0.5 not in c or len(set(c)) != 2]
    clip = clip_of([[np.full((32, 40), value) for value in colour] for colour in colours], vs.RGBS)
    for engine in engines.available():
        upscaled = vsaether.upscale(clip, engine.name)
        for number, colour in enumerate(colours):
            for plane, value in zip(read_planes(upscaled, number), colour, strict=True):
                error = abs(plane - value)
                assert error[16:-16, 16:-16].max() <= 1 / 255, (engine.name, colour)
                assert error.max() <= 2 / 255, (engine.name, colour)
