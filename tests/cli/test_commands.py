"""What the command line makes of its arguments, and of errors which tell little."""

import errno
import os
from pathlib import Path

import pytest
from av.error import FFmpegError

from vsaether.media import job as upscale

from .conftest import Run, make_video, read

FAST = ("--preset", "ultrafast")
DISPLAY = "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"


def test_values_of_encoder_options_may_hold_commas(run: Run, tmp_path: Path) -> None:
    """A comma ends a value only where another name follows."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le")
    options = f"x265-params={DISPLAY},forced-idr=1"
    result = run(source, tmp_path / "out.mkv", "--codec", "libx265", "--encoder-options", options, *FAST)
    assert result.code == 0, result.err
    after = read(tmp_path / "out.mkv")
    assert {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} <= after.side_data.keys()
    assert int.from_bytes(after.side_data["CONTENT_LIGHT_LEVEL"][:4], "little") == 1000
    for wrong in ("a", "a,b=1", ",a=1", "=1", "a b=1"):
        with pytest.raises(SystemExit) as error:
            run(source, tmp_path / "out2.mkv", "--encoder-options", wrong)
        assert error.value.code == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOTSUP, "Operation not supported"), FFmpegError(5, "I/O error")])
def test_an_error_without_a_name_is_told_with_the_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """Which file it was about is not known, but the files are."""
    source = make_video(tmp_path / "in.mkv", pts=[0])

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(upscale, "_loop", fail)
    result = run(source, tmp_path / "out.mkv", *FAST)
    assert result.code == 1
    assert str(source) in result.error
    assert str(tmp_path / "out.mkv") in result.error


@pytest.mark.parametrize(("number", "code"), [(errno.EINVAL, 0), (errno.ENOTSUP, 0), (errno.EIO, 1)])
def test_file_systems_without_flushing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """Where there is no such thing, the file is done all the same; where it fails, the file is named."""
    source = make_video(tmp_path / "in.mkv", pts=[0])

    def fsync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    result = run(source, tmp_path / "out.mkv", *FAST)
    assert result.code == code
    assert (tmp_path / "out.mkv").exists() == (code == 0)
    assert code == 0 or "cannot write " + str(tmp_path) in result.error
