"""Tiles: the parts equal the whole, and fit in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether
from vsaether import system, tiling

from .conftest import assert_same, noise, read_planes


@pytest.mark.parametrize(
    ("tile", "backend", "scale"),
    [(17, "ov", 2), ((32, 24), "ort", 2), ((64, 20), "ov", 2), ((7, 48), "ort", 2), (63, "ov", 1), (20, "ort", 3)],
)
def test_tiled_float_equals_whole(tile: Any, backend: str, scale: int, make_engine: Any) -> None:
    clip, engine = noise(vs.RGBS, 67, 51, 2), make_engine(scale=scale)
    whole = vsaether.upscale(clip, engine, backend=backend)
    tiled = vsaether.upscale(clip, engine, backend=backend, tile=tile)
    assert (tiled.width, tiled.height, len(tiled)) == (67 * scale, 51 * scale, 2)
    for number in (1, 0):
        assert_same(tiled, whole, number, limit=1e-5)


@pytest.mark.parametrize(("precision", "format"), [("fp32", vs.YUV420P8), ("int8", vs.YUV420P8), ("int8", vs.RGB30)])
def test_tiled_integers_equal_whole(precision: str, format: int, make_engine: Any) -> None:
    clip, engine = noise(format, 96, 64), make_engine(precision=precision)
    whole, tiled = (read_planes(vsaether.upscale(clip, engine, tile=tile)) for tile in (None, (40, 24)))
    for one, other in zip(whole, tiled, strict=True):
        assert abs(one - other).max() <= (precision == "int8")
        assert (one != other).mean() <= 0.001


def test_overlap_is_honoured(toy_engine: str) -> None:
    """The receptive radius is 3: with 2 a seam shows, where tiles meet and nowhere else."""
    clip = noise(vs.RGBS, 64, 48)
    whole = read_planes(vsaether.upscale(clip, toy_engine))[0]
    enough, few = (
        abs(read_planes(vsaether.upscale(clip, toy_engine, tile=(34, 48), overlap=overlap))[0] - whole).max(0)
        for overlap in ((3, 0), 2)
    )
    assert enough.max() <= 1e-5
    assert few.max() > 1e-4
    assert few[np.r_[0:60, 68:128]].max() <= 1e-5


@pytest.mark.parametrize(
    ("width", "height", "radius", "bytes_per_pixel"),
    [(1920, 1080, 41, 3000), (1920, 1080, 9, 400), (7680, 4320, 84, 6000), (333, 77, 3, 1), (200, 2000, 388, 10**6)],
)
def test_automatic_tiles_cover_the_frame_and_fit(width: int, height: int, radius: int, bytes_per_pixel: int) -> None:
    plan = tiling.plan(width, height, radius=radius, bytes_per_pixel=bytes_per_pixel)
    for axis, length in ((plan.x, width), (plan.y, height)):
        assert (axis.edges[0], axis.edges[-1]) == (0, length)
        for start, low, high in zip(axis.starts, axis.edges, axis.edges[1:], strict=False):
            assert 0 <= start <= low < high <= start + axis.tile <= length
            assert start == 0 or low - start >= radius
            assert start + axis.tile == length or start + axis.tile - high >= radius
    if radius < 100:
        assert plan.x.tile * plan.y.tile * bytes_per_pixel <= tiling.MEMORY
    if width * height * bytes_per_pixel <= tiling.MEMORY // 4:
        assert plan.count == 1


def test_tiles_are_chosen_by_memory(monkeypatch: pytest.MonkeyPatch, toy_engine: str) -> None:
    clip, size = noise(vs.YUV444P8, 96, 80), vsaether.engines.resolve(toy_engine).bytes_per_pixel
    whole = vsaether.upscale(clip, toy_engine)
    monkeypatch.setattr(tiling, "MEMORY", size * 40 * 40)
    assert tiling.plan(96, 80, radius=3, bytes_per_pixel=size).count > 4
    assert_same(vsaether.upscale(clip, toy_engine), whole)


GROUPS: list[tuple[str, dict[str, str], list[int]]] = [
    ("0::/a/b\n", {"a/memory.max": "2000", "a/b/memory.max": "max"}, [2000]),
    ("0::/outside\n", {"memory.max": "3000"}, [3000]),
    ("5:cpu:/x\n4:memory:/y\n", {"memory/y/memory.limit_in_bytes": "4000", "memory.max": "1"}, [4000]),
    ("0::/\n", {}, []),
]


@pytest.mark.parametrize(("groups", "files", "limits"), GROUPS)
def test_limits_of_a_container_count(tmp_path: Path, groups: str, files: dict[str, str], limits: list[int]) -> None:
    """Control groups of both versions, those above too; without any there is no limit."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "cgroup").write_text(groups)
    assert system._group_limits(tmp_path / "cgroup", tmp_path) == limits
    assert system._group_limits(tmp_path / "none", tmp_path) == []


def test_the_budget_is_a_quarter_of_the_least_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has, and never more than the fixed one."""
    for limits, budget in (([4 << 20, 8 << 20], 1 << 20), ([1 << 62], tiling.budget())):
        monkeypatch.setattr(system, "_group_limits", lambda groups, root, limits=limits: limits)
        assert tiling.budget() == budget <= tiling.MEMORY
