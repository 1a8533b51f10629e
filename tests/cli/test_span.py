"""--start, --end and --limit: the part that is asked for; --width, --height and --scale: the size, and odd sizes."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vsaether.cli import main
from vsaether.media.span import Span

from ..conftest import MakeEngine
from .conftest import FAST, Film, Run, frame, luma, make_video, read, solid

TIMES = [40 * i for i in range(50)]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("span") / "in.mkv"
    return make_video(path, pts=TIMES, size=(32, 16), audio="aac", subtitle=True, chapters=True)


@pytest.fixture(scope="module")
def whole(film: Path, identity_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Film:
    path = tmp_path_factory.mktemp("whole") / "out.mkv"
    assert main(["upscale", str(film), str(path), "--engine", identity_engine, "--crf", "1", *FAST]) == 0
    return read(path)


@pytest.mark.parametrize("segments", [(), ("--segment", "0.4")])
@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        (("--start", "0.5", "--end", "00:00:01.2"), 13, 30),
        (("--start", "13f", "--end", "30f"), 13, 30),
        (("--start", "13f", "--limit", "17"), 13, 30),
        (("--limit", "5"), 0, 5),
        (("--end", "0.4"), 0, 10),
        (("--start", "1.5"), 38, 50),
    ],
)
def test_the_part_is_that_of_the_whole(
    run: Run, film: Path, whole: Film, options: tuple[str, ...], segments: tuple[str, ...], first: int, last: int
) -> None:
    before, after, result = run.film(film, "out.mkv", "--crf", "1", *options, *segments)
    assert f"{last - first}/{last - first} frames" in result.err
    begin, end = Fraction(TIMES[first], 1000), Fraction(TIMES[last], 1000) if last < 50 else Fraction(2)
    assert after.times == [time - begin for time in before.times[first:last]]
    for got, wanted in zip(after.frames, whole.frames[first:last], strict=True):
        assert np.abs(luma(got) - luma(wanted)).mean() < 2
    sound = [(time - begin, data) for time, data in before.packets[1] if time < end and (time >= begin or not first)]
    assert after.packets[1] == sound
    assert all(time < end - begin and (time >= 0 or not first) for each in after.packets.values() for time, _ in each)
    assert after.kinds == before.kinds
    length = end - begin + Fraction(1, 25)  # times lie between those of frames
    assert all(0 <= start < stop <= length for start, stop, _ in after.chapters)
    with av.open(str(run.folder / "out.mkv")) as out:
        shown = [packet for packet in out.demux(subtitles=0) if packet.size]
    assert all((each.pts or 0) * each.time_base >= 0 for each in shown)
    if "--limit" not in options:  # whose end is known when it is there
        assert all(((each.pts or 0) + (each.duration or 0)) * each.time_base <= length for each in shown)


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        (Span(), (0, None)),
        (Span(start=50), (2, None)),
        (Span(start=Fraction(1, 2), end=100), (Fraction(1, 2), 4)),
        (Span(end=Fraction(3), limit=100), (0, 3)),
        (Span(start=25, end=Fraction(9), limit=100), (1, 5)),
    ],
)
def test_seconds_of_a_part(span: Span, seconds: tuple) -> None:
    """At 25 frames per second; an end that nobody asked for is none."""
    assert span.seconds(Fraction(25)) == seconds


LOSSLESS = ("--codec", "ffv1")


@pytest.mark.parametrize(
    ("options", "size", "aspect"),
    [
        (("--height", "72"), (96, 72), Fraction(4, 3)),
        (("--scale", "1.5"), (96, 72), Fraction(4, 3)),
        (("--scale", "3"), (192, 144), Fraction(4, 3)),
        (("--width", "250"), (250, 188), Fraction(4, 3)),
        (("--width", "96", "--height", "96"), (96, 96), Fraction(16, 9)),
    ],
)
def test_films(run: Run, tmp_path: Path, options: tuple[str, ...], size: tuple[int, int], aspect: Fraction) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[0, 40, 80], aspect=Fraction(4, 3))
    _, after, result = run.film(source, "out.mkv", "--crf", "1", *options)
    assert f"3 of {size[0]}x{size[1]}" in result.out
    (note,) = (line for line in result.err.splitlines() if "note:" in line)  # of how the size is made
    network = ("once", "128x96") if size[0] <= 128 else ("twice", "256x192")
    assert all(fact in note for fact in (*network, "Spline36", f"{size[0]}x{size[1]}"))
    assert (after.size, after.aspect) == (size, aspect)
    wanted = frame(0, 64, 48).reformat(*size, interpolation="SPLINE")
    assert np.abs(luma(after.frames[0]) - luma(wanted))[8:-8, 8:-8].mean() < 4


def test_odd_sizes_are_neither_cropped_nor_padded(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """4:2:0 of 61x47 gives 122x94, with the last column and row of the source, and none of what lies behind them."""
    before, after, _ = run.film(make_video(tmp_path / "in.mkv", size=(61, 47), codec="ffv1"), "out.mkv", *LOSSLESS)
    assert (before.size, after.size) == ((61, 47), (122, 94))
    assert abs(luma(after.frames[3])[::2, ::2] - luma(before.frames[3])).max() <= 2
    source = make_video(tmp_path / "flat.mkv", size=(63, 47), codec="ffv1", picture=solid(160, 160, 160))
    engine = make_engine(kernels=(), linear=True)
    _, after, _ = run.film(source, "linear.mkv", *LOSSLESS, "--engine", engine)
    assert abs(luma(after.frames[0])[2:, 2:] - 160).max() <= 1
    for height, size in (("94", (126, 94)), ("47", (64, 47))):
        assert run.film(source, f"{height}.mkv", *LOSSLESS, "--height", height)[1].size == size


def test_odd_results_are_refused_where_the_encoder_cannot(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """Three times an odd size is odd: H.264 needs 4:4:4 for it, VP9 does not."""
    source = make_video(tmp_path / "in.mkv", size=(61, 47), codec="ffv1", pts=[0])
    engine = ("--engine", make_engine(kernels=(), scale=3))
    error = run.refused(source, tmp_path / "out.mkv", *engine)
    assert "183x141, which libx264 cannot code as yuv420p; use --pix-fmt yuv444p" in error
    for name, options in (("a.mkv", ("--pix-fmt", "yuv444p")), ("b.webm", ())):
        assert run.film(source, name, *options, *engine)[1].size == (183, 141)


def test_each_image_of_a_folder_has_its_own_shape(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", (40, 20)), ("b.png", (20, 40))):
        Image.new("RGB", size, (90, 120, 200)).save(tmp_path / "in" / name)
    run.done(tmp_path / "in", tmp_path / "out", "--height", "60")
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes == {"a.png": (120, 60), "b.png": (30, 60)}
