"""--width, --height and --scale, and odd sizes: films and images come out in that size, and in their shape."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import MakeEngine
from .conftest import Run, frame, luma, make_video, solid

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
    assert (after.size, after.aspect) == (size, aspect)
    wanted = frame(0, 64, 48).reformat(*size, interpolation="SPLINE")
    assert np.abs(luma(after.frames[0]) - luma(wanted))[8:-8, 8:-8].mean() < 4


def test_odd_sizes_are_neither_cropped_nor_padded(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """4:2:0 of 61x47 gives 122x94, with the last column and row of the source, and none of what lies behind them."""
    before, after, _ = run.film(make_video(tmp_path / "in.mkv", size=(61, 47), codec="ffv1"), "out.mkv", *LOSSLESS)
    assert (before.size, after.size) == ((61, 47), (122, 94))
    assert abs(luma(after.frames[3])[::2, ::2] - luma(before.frames[3])).max() <= 2
    source = make_video(tmp_path / "flat.mkv", size=(63, 47), codec="ffv1", picture=solid(160, 160, 160))
    _, after, _ = run.film(source, "linear.mkv", *LOSSLESS, engine=str(make_engine(kernels=(), linear=True)))
    assert abs(luma(after.frames[0])[2:, 2:] - 160).max() <= 1
    for height, size in (("94", (126, 94)), ("47", (64, 47))):
        assert run.film(source, f"{height}.mkv", *LOSSLESS, "--height", height)[1].size == size


def test_odd_results_are_refused_where_the_encoder_cannot(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """Three times an odd size is odd: H.264 needs 4:4:4 for it, VP9 does not."""
    source = make_video(tmp_path / "in.mkv", size=(61, 47), codec="ffv1", pts=[0])
    engine = str(make_engine(kernels=(), scale=3))
    error = run.refused(source, tmp_path / "out.mkv", engine=engine)
    assert "183x141, which libx264 cannot code as yuv420p; use --pix-fmt yuv444p" in error
    for name, options in (("a.mkv", ("--pix-fmt", "yuv444p")), ("b.webm", ())):
        assert run.film(source, name, *options, engine=engine)[1].size == (183, 141)


def test_each_image_of_a_folder_has_its_own_shape(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", (40, 20)), ("b.png", (20, 40))):
        Image.new("RGB", size, (90, 120, 200)).save(tmp_path / "in" / name)
    run.done(tmp_path / "in", tmp_path / "out", "--height", "60")
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes == {"a.png": (120, 60), "b.png": (30, 60)}
