"""--start and --end: the part that is asked for, from time 0 on, with what belongs to it of the other streams."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from .conftest import Run, make_video, read

FAST = ("--crf", "1", "--preset", "ultrafast")
TIMES = [40 * i for i in range(50)]


def luma(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [frame.reformat(format="gray").to_ndarray() for frame in film.decode(video=0)]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound, chapters, and subtitles."""
    path = tmp_path_factory.mktemp("span") / "in.mkv"
    return make_video(path, pts=TIMES, size=(32, 16), audio="aac", subtitle=True, chapters=True)


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, upscaled."""
    from vsaether.cli import main

    path = tmp_path_factory.mktemp("whole") / "out.mkv"
    assert main(["upscale", str(film), str(path), "--engine", "tiny_2x_int8", *FAST]) == 0
    return path


@pytest.mark.parametrize("segments", [(), ("--segment", "0.4")])
@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        (("--start", "0.5", "--end", "00:00:01.2"), 13, 30),
        (("--start", "13f", "--end", "30f"), 13, 30),
        (("--start", "13f", "--limit", "17"), 13, 30),
        (("--end", "0.4"), 0, 10),
        (("--start", "1.5"), 38, 50),
    ],
)
def test_the_part_is_that_of_the_whole(
    run: Run,
    film: Path,
    whole: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    segments: tuple[str, ...],
    first: int,
    last: int,
) -> None:
    out = tmp_path / "out.mkv"
    result = run(film, out, *FAST, *options, *segments, engine="tiny_2x_int8")
    assert result.code == 0, result.err
    assert f"{last - first}/{last - first} frames" in result.err
    before, after = read(film), read(out)
    begin, end = Fraction(TIMES[first], 1000), Fraction(TIMES[last], 1000) if last < 50 else Fraction(2)
    assert after.times == [time - begin for time in before.times[first:last]]
    for got, wanted in zip(luma(out), luma(whole)[first:last], strict=True):
        assert np.abs(got.astype(int) - wanted).mean() < 2
    sound = [(time - begin, data) for time, data in before.packets[1] if time < end and (time >= begin or not first)]
    assert after.packets[1] == sound
    assert all(time < end - begin and (time >= 0 or not first) for each in after.packets.values() for time, _ in each)


def test_subtitles_and_chapters_are_cut(run: Run, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    assert run(film, out, *FAST, "--start", "0.5", "--end", "1.2", engine="tiny_2x_int8").code == 0
    with av.open(str(film)) as before, av.open(str(out)) as after:
        kinds = [[stream.type for stream in each.streams] for each in (before, after)]
        assert kinds[0] == kinds[1]
        for packet in after.demux(subtitles=0):
            if packet.size:
                assert packet.pts is not None
                assert packet.pts * packet.time_base >= 0
                assert (packet.pts + (packet.duration or 0)) * packet.time_base <= Fraction(7, 10)
        for chapter in after.chapters():
            assert 0 <= chapter["start"] < chapter["end"] <= Fraction(7, 10) / chapter["time_base"]


def test_what_holds_no_frame_is_refused(run: Run, film: Path, tmp_path: Path) -> None:
    for options, told in (
        (("--start", "1.5", "--end", "0.5"), "--end is not behind --start"),
        (("--start", "60"), "50 frames were read"),
        (("--start", "60", "--segment", "1"), "50 frames were read"),
    ):
        result = run(film, tmp_path / "out.mkv", *options, engine="tiny_2x_int8")
        assert (result.code, list(tmp_path.iterdir())) == (1, [])
        assert told in result.err
    (tmp_path / "images").mkdir()
    assert run(tmp_path / "images", tmp_path / "out", "--start", "1").code == 1
