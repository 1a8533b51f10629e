"""What FFmpeg decodes is an image; what moves is a video; what is damaged is an error."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from vsaether.media.stills import is_still, read_image

from .conftest import FAST, Run, frame, read

SIZE = (64, 48)
JXL = bytes.fromhex(
    "ff0a41060012880200d4005de5120000152aa38c1bbc9cebf9f24387c5b48deb0c6db56d6149a2c8383649277048128bc0c605780303803173d6"
    "000f94a89204"
)
"""A red picture of 8x8 pixels."""

RGB = {"ppm": "ppm", "qoi": "qoi", "jp2": "jpeg2000", "dpx": "dpx", "sgi": "sgi", "png": "png", "tif": "tiff"}
STILLS = {f"a.{suffix}": (codec, "rgb24") for suffix, codec in RGB.items()} | {
    "a.pgm": ("pgm", "gray"),
    "a.tga": ("targa", "bgr24"),
    "a.bmp": ("bmp", "bgr24"),
    "a.exr": ("exr", "gbrpf32le"),
    "a.jpg": ("mjpeg", "yuvj420p"),
    "a.webp": ("libwebp", "yuv420p"),
}
MOVING = {
    "m.gif": ("gif", "rgb8", "gif"),
    "m.png": ("apng", "rgba", "apng"),
    "m.webp": ("libwebp_anim", "bgra", "webp"),
}
KINDS = {name: (*kind, "image2") for name, kind in STILLS.items()} | MOVING
KINDS |= {"a.gif": MOVING["m.gif"], "a.avif": ("libsvtav1", "yuv420p", "avif")}


def image(path: Path, frames: int = 1, picture: Callable[..., av.VideoFrame] = frame) -> Path:
    """An image or an animation of the kind of its name, as FFmpeg writes it."""
    codec, pix_fmt, container = KINDS[path.name]
    with av.open(str(path), "w", format=container, options={"update": "1"} if container == "image2" else {}) as out:
        stream = out.add_stream(codec, rate=5, options={"rle": "0"} if codec == "sgi" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        levels = "JPEG" if "j" in pix_fmt else None
        for index in range(frames):
            out.mux(stream.encode(picture(index, *SIZE).reformat(format=pix_fmt, dst_color_range=levels)))
        out.mux(stream.encode(None))
    return path


def rgb(path: Path) -> np.ndarray:
    return read_image(path).to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize("name", [*STILLS, "a.gif", "a.avif"])
def test_what_ffmpeg_decodes_is_an_image(run: Run, tmp_path: Path, name: str) -> None:
    """Alone or from a folder it is one picture of its colours; its own format is kept where it can be written."""
    source = image(tmp_path / name)
    assert is_still(source)
    run.done(source, tmp_path / "out.png")
    run.done(source, tmp_path / "folder")
    kept = source.suffix in (".ppm", ".pgm", ".tga", ".bmp", ".exr", ".jpg", ".png", ".tif", ".webp")
    (written,) = (tmp_path / "folder").iterdir()
    assert written.name == (source.name if kept else source.with_suffix(".png").name)
    for after in (rgb(tmp_path / "out.png"), rgb(written)):
        assert after.shape == (96, 128, 3)
        assert name == "a.exr" or abs(after[::2, ::2] - rgb(source)).mean() < 4  # of EXR they are linear light
    if name == "a.jpg":
        made = (read_image(path).format.name for path in (source, written, tmp_path / "out.png"))
        assert tuple(made) == ("yuvj420p", "yuvj420p", "rgb24")


def test_a_folder_of_all_kinds(run: Run, tmp_path: Path) -> None:
    """Nothing is left out in silence: not an animation, a video, a folder named like an image, nor an unknown file."""
    folder = tmp_path / "in"
    (folder / "x.png").mkdir(parents=True)
    for name in STILLS:
        image(folder / name)
    image(tmp_path / "a.ppm").rename(folder / "no_suffix")
    image(folder / "m.gif", 5)
    (folder / "a.jxl").write_bytes(JXL)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not looked at")
    result = run.done(folder, tmp_path / "out")
    assert "note: 4 files are no still image" in result.err
    for text in ("notes.txt", "x.png (a folder)", "m.gif (an animation)", "a.jxl (an image for which FFmpeg has no"):
        assert text in result.err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    own = {name for name in STILLS if Path(name).suffix not in (".qoi", ".jp2", ".dpx", ".sgi")}
    assert written == own | {"a.qoi.png", "a.jp2.png", "a.dpx.png", "a.sgi.png", "no_suffix.png"}
    assert f"{len(STILLS) + 1} of " in result.out
    assert "no decoder" in run.refused(folder / "a.jxl", tmp_path / "out.png")


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_is_a_video(run: Run, tmp_path: Path, name: str) -> None:
    source = image(tmp_path / name, 5)
    assert not is_still(source)
    run.done(source, tmp_path / "out.mkv", *FAST)
    after = read(tmp_path / "out.mkv")
    assert (after.times, after.size) == ([Fraction(index, 5) for index in range(5)], (128, 96))
    run.done(source, tmp_path / "frames")
    assert len(list((tmp_path / "frames").iterdir())) == 5


@pytest.mark.parametrize("name", [*STILLS, "a.gif", "a.avif"])
def test_a_damaged_image_is_an_error(run: Run, tmp_path: Path, name: str) -> None:
    """What stands behind the end of a JPEG is nobody's."""
    noise = av.VideoFrame.from_ndarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), "rgb24")
    source = image(tmp_path / name, picture=lambda *_: noise)
    data = source.read_bytes()
    damaged = [data[: int(len(data) * part)] for part in (0.3, 0.6, 0.9)]
    if name == "a.jpg":
        damaged.append(data[:-2])  # between two scans, which is no error for FFmpeg
        source.write_bytes(data + b"something behind it")
        assert read_image(source).width == 64
    if name == "a.png":  # one wrong byte of the samples: its checksum is another
        at = data.index(b"IDAT") + 40
        damaged.append(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for each in damaged:
        source.write_bytes(each)
        for output in ("out.png", "out"):
            assert source.name in run.refused(source, tmp_path / output)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow cannot write AVIF: its alpha is NOT tested")
def test_an_avif_keeps_its_alpha(run: Run, tmp_path: Path) -> None:
    """FFmpeg gives it as another stream."""
    ramp = np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))
    picture = np.dstack([np.full((40, 60, 3), 120, np.uint8), ramp])
    Image.fromarray(picture, "RGBA").save(tmp_path / "a.avif", quality=90)
    run.done(tmp_path / "a.avif", tmp_path / "out.png")
    after = read_image(tmp_path / "out.png").to_ndarray(format="rgba").astype(int)
    assert after.shape == (80, 120, 4)
    assert abs(after[::2, ::2, 3] - ramp).max() <= 8
    assert abs(after[:, :, :3] - 120).max() <= 8
