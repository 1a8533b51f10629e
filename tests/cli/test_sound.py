"""Sound which a container cannot carry as it is: converted, with a note, and at the same time as before."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from .conftest import Run, make_video


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound that only AVI and Matroska know."""
    path = tmp_path_factory.mktemp("sound") / "in.avi"
    return make_video(path, pts=[40 * i for i in range(50)], size=(16, 16), audio="wmav2")


def samples(path: Path) -> tuple[list[Fraction], np.ndarray]:
    """When each part of the sound begins, and all of it."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    times = [Fraction(f.pts or 0) * Fraction(f.time_base.numerator, f.time_base.denominator) for f in frames]
    return times, np.concatenate([f.to_ndarray()[0] for f in frames])


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".webm", "opus"), (".ts", "aac")])
def test_sound_is_converted_where_it_cannot_be_copied(
    run: Run, source: Path, tmp_path: Path, suffix: str, codec: str
) -> None:
    _, film, result = run.film(source, f"out{suffix}")
    name = "libopus" if codec == "opus" else codec
    assert f"note: {suffix} cannot carry stream 1 (audio wmav2) as it is: converted to {name}" in result.err
    assert film.kinds[1][:2] == ("audio", codec)
    (_, before), (times, after) = samples(source), samples(tmp_path / f"out{suffix}")
    assert all(0 < later - earlier < Fraction(1, 10) for earlier, later in pairwise(times))
    assert abs(len(before) - len(after)) < 4800
    lag = np.argmax(np.correlate(before[20_000:60_000], after[21_000:59_000], "valid")) - 1000
    assert abs(lag) < 1100
    shift = 21_000 - 20_000 - (lag + 1000)
    assert np.corrcoef(before[21_000 - shift : 59_000 - shift], after[21_000:59_000])[0, 1] > 0.99


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "ac3"), (".mp4", "flac"), (".ts", "libopus")])
def test_sound_becomes_the_codec_that_is_asked_for(
    run: Run, source: Path, tmp_path: Path, suffix: str, codec: str
) -> None:
    """Where it cannot be carried as it is."""
    before, after, _ = run.film(source, f"out{suffix}", "--audio-codec", codec)
    assert after.kinds[1][:2] == ("audio", codec.removeprefix("lib"))
    with av.open(str(source)) as first, av.open(str(tmp_path / f"out{suffix}")) as second:
        lengths = [sum(frame.samples / frame.sample_rate for frame in film.decode(audio=0)) for film in (first, second)]
    assert abs(lengths[0] - lengths[1]) < 0.1
    kept = run.film(source, "out.mkv", "--audio-codec", codec)[1]
    assert [data for _, data in kept.packets[1]] == [data for _, data in before.packets[1]]
