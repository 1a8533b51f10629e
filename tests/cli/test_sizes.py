"""--width, --height and --scale: films and images come out in that size, and in their shape."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from .conftest import Run, frame, make_video, read

FAST = ("--crf", "1", "--preset", "ultrafast")


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
    source = make_video(tmp_path / "in.mkv", size=(64, 48), pts=[0, 40, 80], aspect=Fraction(4, 3))
    result = run(source, tmp_path / "out.mkv", *FAST, *options)
    assert result.code == 0, result.err
    assert f"3 of {size[0]}x{size[1]}" in result.out
    with av.open(str(tmp_path / "out.mkv")) as out:
        shown = next(out.decode(video=0))
        assert (shown.width, shown.height) == size
        ratio = out.streams.video[0].sample_aspect_ratio
        assert (Fraction(ratio.numerator, ratio.denominator) if ratio else 1) == aspect
    wanted = frame(0, 64, 48).reformat(*size, format="gray", interpolation="SPLINE").to_ndarray().astype(int)
    assert np.abs(shown.reformat(format="gray").to_ndarray().astype(int) - wanted)[8:-8, 8:-8].mean() < 4


def test_the_padding_of_an_odd_size_does_not_show(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", size=(63, 47), pts=[0], codec="ffv1")
    assert run(source, tmp_path / "out.mkv", "--codec", "ffv1", "--height", "94").code == 0
    assert run(source, tmp_path / "half.mkv", "--codec", "ffv1", "--height", "47").code == 0
    assert read(tmp_path / "out.mkv").size == (126, 94)
    assert read(tmp_path / "half.mkv").size == (64, 47)


def test_each_image_of_a_folder_has_its_own_shape(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", (40, 20)), ("b.png", (20, 40))):
        Image.new("RGB", size, (90, 120, 200)).save(tmp_path / "in" / name)
    assert run(tmp_path / "in", tmp_path / "out", "--height", "60").code == 0
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes == {"a.png": (120, 60), "b.png": (30, 60)}


def test_what_says_the_size_twice_is_refused(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[0])
    result = run(source, tmp_path / "out.mkv", "--scale", "3", "--height", "200")
    assert (result.code, (tmp_path / "out.mkv").exists()) == (1, False)
    assert "factor" in result.err and "height" in result.err
