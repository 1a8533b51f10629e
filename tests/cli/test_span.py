"""--start, --end and --limit: the part that is asked for, from time 0 on, with what belongs to it of other streams."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.cli import main

from .conftest import FAST, Film, Run, luma, make_video, read

TIMES = [40 * i for i in range(50)]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound, chapters, and subtitles."""
    path = tmp_path_factory.mktemp("span") / "in.mkv"
    return make_video(path, pts=TIMES, size=(32, 16), audio="aac", subtitle=True, chapters=True)


@pytest.fixture(scope="module")
def whole(film: Path, identity_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Film:
    """All of it, upscaled."""
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


def test_subtitles_and_chapters_are_cut(run: Run, film: Path, tmp_path: Path) -> None:
    before, after, _ = run.film(film, "out.mkv", "--start", "0.5", "--end", "1.2")
    assert [kind for kind, _, _ in before.kinds] == [kind for kind, _, _ in after.kinds]
    with av.open(str(tmp_path / "out.mkv")) as out:
        for packet in out.demux(subtitles=0):
            if packet.size:
                assert packet.pts is not None
                assert packet.pts * packet.time_base >= 0
                assert (packet.pts + (packet.duration or 0)) * packet.time_base <= Fraction(7, 10)
    assert all(0 <= start < end <= Fraction(7, 10) for start, end, _ in after.chapters)
