"""``vsaether preview``: the frames at some times as PNGs, and what is refused."""

from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.cli import main

from .conftest import frame, make_video


def preview(*arguments: object) -> int:
    return main(["preview", *map(str, arguments)])


def picture(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)


def test_pictures_of_two_times(identity_engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each time's frame is the one shown then; sizes are those of source and result; the output names the files."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1")
    folder = tmp_path / "pictures"
    assert preview(source, "--at", "0.1", "00:00:00.4", "-o", folder, "--engine", identity_engine) == 0
    told = capsys.readouterr().out.split()
    names = [f"in_{number:06d}_{kind}.png" for number in (2, 10) for kind in ("source", "bicubic", "result", "detail")]
    assert told == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    shown = picture(folder / "in_000010_source.png")
    far = [np.abs(shown - frame(index, 64, 48).to_ndarray(format="rgb24")).mean() for index in range(12)]
    assert int(np.argmin(far)) == 10
    for kind in ("result", "bicubic"):
        assert picture(folder / f"in_000010_{kind}.png").shape == (96, 128, 3)


def test_an_image_of_odd_size(identity_engine: str, tmp_path: Path) -> None:
    """An image has one frame; the crop is of the size that was asked for, three times side by side."""
    source = tmp_path / "in.png"
    frame(0, 31, 21, "rgb24").save(str(source))
    assert preview(source, "-o", tmp_path / "out", "--engine", identity_engine, "--crop", "10x8+20+12") == 0
    assert picture(tmp_path / "out" / "in_result.png").shape == (42, 62, 3)
    assert picture(tmp_path / "out" / "in_detail.png").shape == (16 * 24, 3 * 20 * 24, 3)
    narrow = ("-o", tmp_path / "out", "--overwrite", "--engine", identity_engine, "--crop", "31x1+0+0")
    assert preview(source, *narrow) == 0
    assert picture(tmp_path / "out" / "in_detail.png").shape[1] == 3 * 62 * 8


@pytest.mark.parametrize("wrong", ["", "x", "1:60", "1:60:00", "-1", "1:2:3:4", "10x8+1", "0x8+1+1"])
def test_values_which_are_none(wrong: str) -> None:
    """Neither a time nor a part of a picture."""
    for option in ("--at", "--crop"):
        with pytest.raises(SystemExit) as error:
            preview("in.mkv", option, wrong)
        assert error.value.code == 2
