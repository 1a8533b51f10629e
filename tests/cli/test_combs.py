"""Films which are, or only look, interlaced or telecined: one note before work begins, and what --deinterlace does."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from vsaether.media.combs import looks

from .conftest import Run, frame, make_video, read

FAST = ("--preset", "ultrafast", "--crf", "1", "--limit", "3")
SIZE = (64, 64)


def film(count: int, moving: int = 3) -> list[av.VideoFrame]:
    """A square on a smooth ground; it moves by so many pixels from frame to frame, to the right and down."""
    shown = []
    for n in range(count):
        luma = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
        at = moving * n % 44
        luma[at // 2 : at // 2 + 20, at : at + 20] = 230
        shown.append(av.VideoFrame.from_ndarray(luma, "gray").reformat(format="yuv420p"))
    return shown


def filtered(frames: list[av.VideoFrame], name: str, arguments: str) -> list[av.VideoFrame]:
    """Frames through one of FFmpeg's filters."""
    graph, made = Graph(), []
    source = graph.add_buffer(width=64, height=64, format="yuv420p", time_base=Fraction(1, 24))
    graph.link_nodes(source, graph.add("fps", "24"), graph.add(name, arguments), graph.add("buffersink")).configure()
    for number, each in enumerate(frames):
        each.pts, each.time_base = number, Fraction(1, 24)
        source.push(each)
        while True:
            try:
                made.append(graph.vpull())
            except BlockingIOError:
                break
    return made


KINDS = {
    "telecined": lambda: filtered(film(40), "telecine", "first_field=top:pattern=23"),
    "telecined, bottom first": lambda: filtered(film(40), "telecine", "first_field=bottom:pattern=23"),
    "tff": lambda: filtered(film(80), "telecine", "first_field=top:pattern=11"),
    "bff": lambda: filtered(film(80), "telecine", "first_field=bottom:pattern=11"),
    "progressive": lambda: film(40),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film of each kind without any flag; and one telecined by its times, one that stands still, and held frames."""
    folder = tmp_path_factory.mktemp("films")
    made = {}
    for number, (name, frames) in enumerate(KINDS.items()):
        shown = frames()[2:32]
        made[name] = make_video(
            folder / f"{number}.mkv", size=SIZE, pts=[40 * n for n in range(len(shown))], options={"crf": "4"},
            picture=lambda index, *_, shown=shown: shown[index],
        )  # fmt: skip
    shown = film(40)
    pts = [(n // 2) * 83 + (n % 2) * 33 for n in range(30)]
    made["times"] = make_video(folder / "t.mkv", size=SIZE, pts=pts, picture=lambda index, *_: shown[index])
    made["still"] = make_video(folder / "s.mkv", size=SIZE, pts=pts[:20:2], picture=lambda *_: shown[0])
    held = [40 * n for n in range(30)]
    made["held"] = make_video(folder / "h.mkv", size=SIZE, pts=held, picture=lambda index, *_: shown[index // 3])
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
def test_one_note_says_it_and_what_to_do(
    films: dict[str, Path], run: Run, tmp_path: Path, kind: str, facts: tuple[str, ...]
) -> None:
    result = run(films[kind], tmp_path / "out.mkv", *FAST)
    assert result.code == 0, result.err
    notes = [line for line in result.err.splitlines() if "note:" in line]
    assert len(notes) == bool(facts)
    assert all(fact in notes[0] for fact in facts)


@pytest.mark.parametrize("kind", ["telecined", "telecined, bottom first"])
def test_telecined_films_are_put_together_again(films: dict[str, Path], run: Run, tmp_path: Path, kind: str) -> None:
    result = run(films[kind], tmp_path / "out.mkv", "--codec", "ffv1", "--deinterlace", "telecine")
    assert (result.code, "note:" in result.err) == (0, False)
    before, after = read(films[kind]), read(tmp_path / "out.mkv")
    assert (after.times, after.interlaced) == (before.times, False)

    def combed(frames: list[av.VideoFrame]) -> list[bool]:
        rows = [np.asarray(each.reformat(64, 64, "gray").to_ndarray(), int) for each in frames[2:-2]]
        return [bool(np.abs(r[1:-1:2] * 2 - r[:-2:2] - r[2::2]).max() > 250) for r in rows]

    assert 0.3 < np.mean(combed(before.frames)) < 0.5
    assert not any(combed(after.frames))


def test_what_is_looked_at_is_little_and_of_any_kind() -> None:
    assert looks(film(6)) is None
    assert looks([frame(n, 48, 32, "yuv420p10le") for n in range(16)]) in ("progressive", None)
    assert looks([frame(n, 48, 32, "rgb24") for n in range(16)]) in ("progressive", None)
