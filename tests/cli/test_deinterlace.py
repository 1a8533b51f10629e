"""Films which are, or only look, interlaced or telecined: one note before work begins, and what --deinterlace does."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph

from vsaether.media import combs as module
from vsaether.media.combs import looks

from .conftest import Run, frame, luma, make_video
from .test_changes import CRF, parts

SIZE = (64, 64)
LOSSLESS = ("--codec", "ffv1", "--backend", "ov")


def combed(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A bar that moves by 4 pixels from field to field, the top one first."""
    lines = np.full((height, width), 40, np.uint8)
    for row in range(height):
        left = 8 + 8 * index % (width // 2) + 4 * (row % 2)
        lines[row, left : left + 12] = 200
    return av.VideoFrame.from_ndarray(lines, "gray").reformat(format=pix_fmt)


WHOLE: dict[str, Any] = {"size": SIZE, "options": {"crf": "1"}}
FIELDS = WHOLE | {"interlaced": True, "picture": combed}


def combs(frames: list[av.VideoFrame]) -> float:
    """How much neighbouring rows differ, more than those two apart."""
    rows = np.stack([luma(shown) for shown in frames[1:-1]])
    return float(np.abs(rows[:, 1:] - rows[:, :-1]).mean() - np.abs(rows[:, 2:] - rows[:, :-2]).mean())


@pytest.mark.parametrize("segments", [(), ("--segment", "0.2")])
@pytest.mark.parametrize(("flagged", "mode"), [(True, "flagged"), (False, "top")])
def test_frames_are_made_whole(run: Run, tmp_path: Path, flagged: bool, mode: str, segments: tuple[str, ...]) -> None:
    film: dict[str, Any] = FIELDS | {"interlaced": flagged, "audio": "aac"}
    source = make_video(tmp_path / "in.mkv", **film)
    before, after, _ = run.film(source, "out.mkv", "--crf", "1", "--deinterlace", mode, *segments)
    assert (after.interlaced, after.times, after.packets[1]) == (False, before.times, before.packets[1])
    assert combs(before.frames) > 5
    assert combs(after.frames) < 0.5
    _, same, result = run.film(source, "as-it-is.mkv", "--crf", "1")
    assert f"--deinterlace {mode}" in result.err
    assert (same.interlaced, combs(same.frames) > 0.5) == (flagged, flagged)


@pytest.mark.parametrize("order", [(WHOLE, FIELDS, WHOLE), (FIELDS, WHOLE)])
@pytest.mark.parametrize("segments", ["--no-resume", "--segment=0.4"])
def test_only_interlaced_frames_are_deinterlaced(
    run: Run, tmp_path: Path, order: tuple[dict, ...], segments: str
) -> None:
    """By an encoder which has no fields, too; progressive frames are to the bit those of a run without the option."""
    source = parts(tmp_path, *order)
    same = run.film(source, "as-it-is.mkv", *LOSSLESS, segments)[1]
    after = run.film(source, "out.mkv", *LOSSLESS, segments, "--deinterlace", "flagged")[1]
    assert after.times == same.times
    assert len(after.frames) == 20 * len(order)
    for number, (kept, made) in enumerate(zip(same.frames, after.frames, strict=True)):
        equal = np.array_equal(luma(kept), luma(made))
        assert equal == (order[number // 20] is WHOLE) or number % 20 in (0, 19)
    assert combs(after.frames) < 0.5 < combs(same.frames)
    hevc = run.film(source, "hevc.mkv", *CRF, "--codec", "libx265", "--deinterlace", "flagged", segments)[1]
    assert len(hevc.frames) == 20 * len(order)


def test_progressive_frames_are_left_as_they_are(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[0, 40, 100, 140], pix_fmt="yuv420p10le", codec="ffv1")
    before, after, _ = run.film(source, "a.mkv", "--codec", "ffv1", "--deinterlace", "flagged")
    same = run.film(source, "b.mkv", "--codec", "ffv1")[1]
    assert all(np.array_equal(luma(a), luma(b)) for a, b in zip(after.frames, same.frames, strict=True))
    assert after.times == same.times == before.times


def film(count: int, moving: int = 3) -> list[av.VideoFrame]:
    """A square on a smooth ground; it moves by so many pixels from frame to frame, to the right and down."""
    shown = []
    for n in range(count):
        luma = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
        at = moving * n % 44
        luma[at // 2 : at // 2 + 20, at : at + 20] = 230
        shown.append(av.VideoFrame.from_ndarray(luma, "gray").reformat(format="yuv420p"))
    return shown


def telecine(frames: list[av.VideoFrame], arguments: str) -> list[av.VideoFrame]:
    graph, made = Graph(), []
    source = graph.add_buffer(width=64, height=64, format="yuv420p", time_base=Fraction(1, 24))
    filters = graph.add("fps", "24"), graph.add("telecine", arguments), graph.add("buffersink")
    graph.link_nodes(source, *filters).configure()
    for number, each in enumerate(frames):
        each.pts, each.time_base = number, Fraction(1, 24)
        source.push(each)
        with suppress(BlockingIOError):
            while True:
                made.append(graph.vpull())
    return made


PULLDOWN = [(n // 2) * 83 + (n % 2) * 33 for n in range(30)]
KINDS = {
    "telecined": lambda: telecine(film(40), "first_field=top:pattern=23")[2:],
    "telecined, bottom first": lambda: telecine(film(40), "first_field=bottom:pattern=23")[2:],
    "tff": lambda: telecine(film(80), "first_field=top:pattern=11")[2:],
    "bff": lambda: telecine(film(80), "first_field=bottom:pattern=11")[2:],
    "progressive": lambda: film(30),
    "times": lambda: film(30),
    "still": lambda: film(1) * 10,
    "held": lambda: [shown for shown in film(10) for _ in range(3)],
}
TIMES = {"times": PULLDOWN, "still": PULLDOWN[:20:2]}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    made = {}
    for name, frames in KINDS.items():
        shown = frames()[:30]
        pts = TIMES.get(name, [40 * n for n in range(len(shown))])
        more = {"picture": lambda index, *_, shown=shown: shown[index], "options": {"crf": "4"}}
        made[name] = make_video(folder / f"{name}.mkv", size=SIZE, pts=pts, **more)
    return made


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("telecined", ("looks telecined", "--deinterlace telecine")),
        ("telecined, bottom first", ("looks telecined", "--deinterlace telecine")),
        ("tff", ("looks interlaced", "not flagged", "--deinterlace top")),
        ("bff", ("looks interlaced", "not flagged", "--deinterlace bottom")),
        ("times", ("telecined by its flags", "whole")),
        *((kind, ()) for kind in ("progressive", "still", "held")),
    ],
)
def test_one_note_says_it_and_what_to_do(films: dict[str, Path], run: Run, kind: str, facts: tuple[str, ...]) -> None:
    _, _, result = run.film(films[kind], "out.mkv", "--limit", "3")
    notes = [line for line in result.err.splitlines() if "note:" in line]
    assert len(notes) == bool(facts)
    assert all(fact in notes[0] for fact in facts)


@pytest.mark.parametrize("kind", ["telecined", "telecined, bottom first"])
def test_telecined_films_are_put_together_again(films: dict[str, Path], run: Run, kind: str) -> None:
    before, after, result = run.film(films[kind], "out.mkv", "--codec", "ffv1", "--deinterlace", "telecine")
    assert (after.times, after.interlaced, "note:" in result.err) == (before.times, False, False)

    def combed(frames: list[av.VideoFrame]) -> list[bool]:
        rows = [np.asarray(each.reformat(64, 64, "gray").to_ndarray(), int) for each in frames[2:-2]]
        return [bool(np.abs(r[1:-1:2] * 2 - r[:-2:2] - r[2::2]).max() > 250) for r in rows]

    assert 0.3 < np.mean(combed(before.frames)) < 0.5
    assert not any(combed(after.frames))


def test_what_is_looked_at_is_little_and_of_any_kind() -> None:
    assert looks(film(6)) is None
    for pix_fmt in ("yuv420p10le", "rgb24"):
        assert looks([frame(n, 48, 32, pix_fmt) for n in range(16)]) in ("progressive", None)
    assert module._combs(film(8)) < module._COMBED < module._combs(KINDS["tff"]()[:8])
