"""What the filter can be told, all commands can be told too, with the same result; and what they all print."""

# pyright: reportAttributeAccessIssue=false

import base64
import io
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs
from PIL import Image

import vsaether
from vsaether.cli import main

from ..conftest import MakeEngine
from .conftest import Run, command, luma, make_video


def test_all_options_reach_the_filter(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """An engine that sees its neighbours, in tiles that overlap too little, shows whether the overlap arrived."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", tags=(1, 1, 1, 1), pts=[0, 40, 80])
    engine = str(make_engine(kernels=(3, 5)))
    options = ["--backend", "ort:num_streams=1", "--device-id", "0", "--tile", "24x20", "--matrix", "2020ncl"]
    options += ["--range", "full", "--dither", "none", "--codec", "ffv1", "--overwrite", "--overlap"]
    colours: dict[str, Any] = {"matrix": "2020ncl", "range": "full", "dither_type": "none"}
    clip = vs.core.bs.VideoSource(str(source), cachemode=0)
    for overlap, more in ((1, ["1"]), ((2, 0), ["2x0", "--segment", "1"])):
        _, after, _ = run.film(source, "out.mkv", *options, *more, "--engine", engine)
        script = vsaether.upscale(clip, engine, backend="ort", tile=(24, 20), overlap=overlap, **colours)
        for number, written in enumerate(after.frames):
            with script.get_frame(number) as wanted:
                expected = np.concatenate([np.ravel(wanted[plane]) for plane in range(3)])
            np.testing.assert_array_equal(np.ravel(written.to_ndarray(format="yuv420p")), expected)
        assert after.tags[:4] == (9, 1, 1, 2)


def test_dithering_holds_for_a_conversion_too(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le", pts=[0])
    options = ("--codec", "ffv1", "--pix-fmt", "yuv420p", "--overwrite", "--dither")
    films = [run.film(source, "out.mkv", *options, dither)[1] for dither in ("none", "ordered", "random")]
    none, ordered, random = (luma(film.frames[0]) for film in films)
    assert not np.array_equal(none, ordered)
    assert not np.array_equal(random, ordered)
    assert abs(none - ordered).max() == 1


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
        embedded = io.BytesIO(base64.b64decode(page[1]))
        pictures = [out / "in_000006_result.png", out / "film/film_000006_source.png", embedded]
        shown[name] = [np.asarray(Image.open(each).convert("RGB")).mean((0, 1)) for each in pictures]
        for each in shown[name]:
            assert np.abs(each - shown[name][0]).max() < 1
    assert np.abs(shown["right"][0] - shown["as tagged"][0]).max() > 3


@pytest.mark.parametrize("arguments", [("--print-completion", "zsh"), ("engines",)])
def test_whoever_reads_may_end_early(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 1)
