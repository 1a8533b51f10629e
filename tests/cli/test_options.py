"""What the filter can be told, the command line can be told too, with the same result."""

# pyright: reportAttributeAccessIssue=false

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import vapoursynth as vs

import vsaether
from vsaether.media.images import encode, read_image

from .conftest import Run, frame, make_video, read

TAGS = (1, 1, 1, 1)
"""BT.709, limited: matrix, primaries, transfer and range."""


def test_all_options_reach_the_filter(run: Run, tmp_path: Path, make_engine: Any) -> None:
    """An engine that sees its neighbours, in tiles that overlap too little, shows whether the overlap arrived."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", tags=TAGS, pts=[0, 40, 80])
    engine = str(make_engine(kernels=(3, 5)))
    for overlap, pair, more in (("1", 1, []), ("2x0", (2, 0), ["--segment", "1"])):
        options = ["--backend", "ort:num_streams=1", "--device-id", "0", "--tile", "24x20", "--overlap", overlap]
        options += [
            "--matrix",
            "2020ncl",
            "--range",
            "full",
            "--dither",
            "none",
            "--codec",
            "ffv1",
            "--overwrite",
            *more,
        ]
        assert run(source, tmp_path / "out.mkv", *options, engine=engine).code == 0
        after = read(tmp_path / "out.mkv")
        clip = vs.core.bs.VideoSource(str(source), cachemode=0)
        colours: dict[str, Any] = {"matrix": "2020ncl", "range": "full", "dither_type": "none"}
        script = vsaether.upscale(clip, engine, backend="ort", tile=(24, 20), overlap=pair, **colours)
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
        assert run(source, output, "--dither", dither, "--codec", "ffv1", "--pix-fmt", "yuv420p").code == 0
        written[dither] = read(output).frames[0].to_ndarray()
    assert not np.array_equal(written["none"], written["ordered"])
    assert not np.array_equal(written["random"], written["ordered"])
    assert abs(written["none"].astype(int) - written["ordered"]).max() == 1


def test_matrix_and_range_of_rgb_are_known(run: Run, tmp_path: Path) -> None:
    image = tmp_path / "in.png"
    image.write_bytes(encode(frame(0, 32, 32, "rgb24"), ".png")[0])
    for options in (["--matrix", "709"], ["--range", "limited"]):
        done = run(image, tmp_path / "out.png", *options)
        assert done.code == 1
        assert "the input is RGB" in done.error
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("options", [["--range", "limited"], []])
def test_gray_of_limited_range_as_an_image(options: list[str], run: Run, tmp_path: Path) -> None:
    """An image file cannot say that its range is limited: what is written is of full range, from a film as well."""
    white = av.VideoFrame.from_ndarray(np.full((16, 16), 235, np.uint8), "gray")
    if options:
        (tmp_path / "in.png").write_bytes(encode(white, ".png")[0])
    else:
        make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="gray", size=(16, 16), pts=[0], picture=lambda *_: white)
    source = tmp_path / ("in.png" if options else "in.mkv")
    assert run(source, tmp_path / "out" / "%d.png" if not options else tmp_path / "out.png", *options).code == 0
    written = tmp_path / ("out.png" if options else "out/1.png")
    assert read_image(written).to_ndarray(format="gray").min() == 255


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--overlap", "a"], "'a' is not a number of pixels such as 16"),
        (["--device-id", "-1"], "--device-id"),
        (["--matrix", "601"], "2020ncl"),
        (["--range", "tv"], "limited"),
        (["--dither", "noise"], "error_diffusion"),
    ],
)
def test_wrong_options(
    options: list[str], said: str, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "in.mkv", tmp_path / "out.mkv", *options)
    assert ended.value.code == 2
    assert said in capfd.readouterr().err


def test_what_cannot_be_used_is_said_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pts=[0])
    for options, said in (
        (["--device-id", "1", "--backend", "ov"], "has only device 0"),
        (["--backend", "native:thread=2"], "the options of native are"),
        (["--tile", "16x16", "--overlap", "8"], "give a tile of more than 16"),
    ):
        done = run(source, tmp_path / "out.mkv", *options)
        assert done.code == 1
        assert said in done.error
        assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
