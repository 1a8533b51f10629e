"""What the filter can be told, all commands can be told too, with the same result; and what they all print."""

# pyright: reportAttributeAccessIssue=false

import base64
import io
import re
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import vapoursynth as vs

import vsaether
from vsaether.cli import main

from ..conftest import MakeEngine
from .conftest import Run, command, luma, make_video, read

TAGS = (1, 1, 1, 1)
"""BT.709, limited: matrix, primaries, transfer and range."""


def test_all_options_reach_the_filter(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """An engine that sees its neighbours, in tiles that overlap too little, shows whether the overlap arrived."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", tags=TAGS, pts=[0, 40, 80])
    engine = str(make_engine(kernels=(3, 5)))
    options = ["--backend", "ort:num_streams=1", "--device-id", "0", "--tile", "24x20", "--matrix", "2020ncl"]
    options += ["--range", "full", "--dither", "none", "--codec", "ffv1", "--overwrite", "--overlap"]
    colours: dict[str, Any] = {"matrix": "2020ncl", "range": "full", "dither_type": "none"}
    clip = vs.core.bs.VideoSource(str(source), cachemode=0)
    for overlap, more in ((1, ["1"]), ((2, 0), ["2x0", "--segment", "1"])):
        _, after, _ = run.film(source, "out.mkv", *options, *more, engine=engine)
        script = vsaether.upscale(clip, engine, backend="ort", tile=(24, 20), overlap=overlap, **colours)
        for number, written in enumerate(after.frames):
            with script.get_frame(number) as wanted:
                expected = np.concatenate([np.ravel(wanted[plane]) for plane in range(3)])
            np.testing.assert_array_equal(np.ravel(written.to_ndarray(format="yuv420p")), expected)
        assert after.tags[:4] == (9, 1, 1, 2)


def test_dithering_holds_for_a_conversion_too(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le", pts=[0])
    written = {}
    for dither in ("none", "ordered", "random"):
        output = tmp_path / f"{dither}.mkv"
        run.done(source, output, "--dither", dither, "--codec", "ffv1", "--pix-fmt", "yuv420p")
        written[dither] = luma(read(output).frames[0])
    assert not np.array_equal(written["none"], written["ordered"])
    assert not np.array_equal(written["random"], written["ordered"])
    assert abs(written["none"] - written["ordered"]).max() == 1


def mean(data: bytes | Path) -> np.ndarray:
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


@pytest.mark.parametrize("arguments", [("--print-completion", "zsh"), ("engines",)])
def test_whoever_reads_may_end_early(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 1)


def test_how_a_size_is_made_is_said_before_work(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pts=[0, 40])
    for size, facts in (("72", ("once", "128x96", "Spline36", "96x72")), ("200", ("twice", "256x192"))):
        result = run.film(source, f"{size}.mkv", "--height", size)[2]
        note = next(line for line in result.err.splitlines() if "note:" in line)
        assert all(fact in note for fact in facts)
    assert "note:" not in run.film(source, "plain.mkv")[2].err
