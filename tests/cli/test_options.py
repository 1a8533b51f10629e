"""What the filter can be told, the command line can be told too, with the same result."""

# pyright: reportAttributeAccessIssue=false

from pathlib import Path
from typing import Any

import numpy as np
import vapoursynth as vs

import vsaether

from ..conftest import MakeEngine
from .conftest import Run, luma, make_video, read

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
