"""--matrix, --range and the filter's options mean the same in upscale, preview and compare; and what all print."""

import base64
import io
import re
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.cli import main

from .conftest import command, frame, make_video


def mean(data: bytes | Path) -> np.ndarray:
    """The mean colour of a PNG."""
    with av.open(io.BytesIO(data if isinstance(data, bytes) else data.read_bytes()), "r") as picture:
        return next(picture.decode(video=0)).to_ndarray(format="rgb24").mean((0, 1))


def test_tags_of_a_film_are_put_right_in_all_commands(identity_engine: str, tmp_path: Path) -> None:
    """A film tagged limited and BT.709 that is full and BT.2020: colours differ, and as much in each command."""
    source = str(make_video(tmp_path / "in.mkv", codec="ffv1", tags=(1, 1, 1, 1)))
    right = ("--matrix", "2020ncl", "--range", "full")
    engine = ("--engine", identity_engine, "--overlap", "0", "--dither", "none")
    shown: dict[str, list[np.ndarray]] = {}
    for name, options in (("as tagged", ()), ("right", right)):
        out = tmp_path / name
        assert main(["preview", source, "-o", str(out), *engine, *options]) == 0
        assert main(["upscale", source, str(out / "film.mkv"), "--codec", "ffv1", *engine, *options]) == 0
        assert main(["preview", str(out / "film.mkv"), "-o", str(out / "film"), *engine]) == 0
        assert main(["compare", source, source, "--frames", "1", "-o", str(out / "page.html"), *options]) == 0
        page = re.search(r'id="picture-0-0">([^<]+)<', (out / "page.html").read_text())
        assert page
        pictures = [out / "in_000006_result.png", out / "film/film_000006_source.png", base64.b64decode(page[1])]
        shown[name] = [mean(each) for each in pictures]
        for each in shown[name]:
            assert np.abs(each - shown[name][0]).max() < 1
    assert np.abs(shown["right"][0] - shown["as tagged"][0]).max() > 3


def test_rgb_has_no_tags_to_put_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.png"
    frame(0, 32, 24, "rgb24").save(str(source))
    for given in (
        ["preview", source, "-o", tmp_path / "out"],
        ["compare", source, source, "-o", tmp_path / "p.html"],
    ):
        assert main([*map(str, given), "--range", "full"]) == 1
        assert "RGB" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "p.html").exists()


@pytest.mark.parametrize("arguments", [("--print-completion", "zsh"), ("engines",)])
def test_whoever_reads_may_end_early(arguments: tuple[str, ...]) -> None:
    """As head does: that is no failure to be explained."""
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 1)


def test_how_a_size_is_made_is_said_before_work(
    identity_engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(make_video(tmp_path / "in.mkv", codec="ffv1", pts=[0, 40]))
    for size, facts in (("72", ("once", "128x96", "Spline36", "96x72")), ("200", ("twice", "256x192"))):
        arguments = ["upscale", source, str(tmp_path / f"{size}.mkv"), "--height", size, "--engine", identity_engine]
        assert main([*arguments, "--codec", "ffv1"]) == 0
        note = next(line for line in capsys.readouterr().err.splitlines() if "note:" in line)
        assert all(fact in note for fact in facts)
    assert main(["upscale", source, str(tmp_path / "plain.mkv"), "--codec", "ffv1", "--engine", identity_engine]) == 0
    assert "note:" not in capsys.readouterr().err
