"""What FFmpeg decodes is an image; what moves is a video; what is damaged is an error."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from PIL import Image, features

from vsaether.media.stills import is_still, read_image

from .conftest import FAST, Run, frame, read

SIZE = (64, 48)
JXL = bytes.fromhex(
    "ff0a41060012880200d4005de5120000152aa38c1bbc9cebf9f24387c5b48deb0c6db56d6149a2c8383649277048128bc0c605780303803173d6"
    "000f94a89204"
)
"""A red picture of 8x8 pixels."""

STILLS = {
    "a.ppm": ("ppm", "rgb24", {}),
    "a.pgm": ("pgm", "gray", {}),
    "a.tga": ("targa", "bgr24", {}),
    "a.bmp": ("bmp", "bgr24", {}),
    "a.exr": ("exr", "gbrpf32le", {}),
    "a.qoi": ("qoi", "rgb24", {}),
    "a.jp2": ("jpeg2000", "rgb24", {}),
    "a.dpx": ("dpx", "rgb24", {}),
    "a.sgi": ("sgi", "rgb24", {"rle": "0"}),
    "a.jpg": ("mjpeg", "yuvj420p", {}),
    "a.png": ("png", "rgb24", {}),
    "a.tif": ("tiff", "rgb24", {}),
    "a.webp": ("libwebp", "yuv420p", {}),
}
MOVING = {"m.gif": ("gif", "rgb8"), "m.png": ("apng", "rgba"), "m.webp": ("libwebp_anim", "bgra")}


def still(path: Path, picture: Callable[..., av.VideoFrame] = frame) -> Path:
    """An image of the kind of its name, as FFmpeg writes it."""
    codec, pix_fmt, options = STILLS[f"a{path.suffix}"]
    shown = picture(1, *SIZE).reformat(format=pix_fmt, dst_color_range="JPEG" if "j" in pix_fmt else None)
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *SIZE, pix_fmt, Fraction(1, 25)
    encoder.options = options
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(shown), *encoder.encode(None)]))
    return path


def moving(path: Path, frames: int = 5) -> Path:
    """An animation of the kind of its name; AVIF as a still image."""
    codec, pix_fmt = MOVING.get(path.name, ("libsvtav1", "yuv420p"))
    container = {"m.png": "apng", "m.webp": "webp"}.get(path.name)
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=5)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        for index in range(frames):
            out.mux(stream.encode(frame(index, *SIZE).reformat(format=pix_fmt)))
        out.mux(stream.encode(None))
    return path


def image(folder: Path, name: str, picture: Callable[..., av.VideoFrame] = frame) -> Path:
    """An image: one picture of an animation, where its kind is one of them."""
    return still(folder / name, picture) if name in STILLS else moving(folder / name.replace("a.", "m."), 1)


def rgb(path: Path) -> np.ndarray:
    """What an image shows."""
    return read_image(path).to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize("name", [*STILLS, "a.gif", "a.avif"])
def test_what_ffmpeg_decodes_is_an_image(run: Run, tmp_path: Path, name: str) -> None:
    """Alone or from a folder it is one picture; its own format is kept where it can be written."""
    source = image(tmp_path, name)
    assert is_still(source)
    run.done(source, tmp_path / "out.png")
    after = rgb(tmp_path / "out.png")
    assert after.shape == (96, 128, 3)
    if name != "a.exr":  # its samples are linear light
        assert abs(after[::2, ::2] - rgb(source)).mean() < 4
    run.done(source, tmp_path / "folder")
    kept = source.suffix in (".ppm", ".pgm", ".tga", ".bmp", ".exr", ".jpg", ".png", ".tif", ".webp")
    (written,) = (tmp_path / "folder").iterdir()
    assert written.name == (source.name if kept else source.with_suffix(".png").name)
    assert read_image(written).width == 128


def test_a_folder_of_all_kinds(run: Run, tmp_path: Path) -> None:
    """Nothing is left out in silence: not an animation, a video, a folder named like an image, nor an unknown file."""
    folder = tmp_path / "in"
    (folder / "x.png").mkdir(parents=True)
    for name in STILLS:
        still(folder / name)
    still(tmp_path / "b.ppm").rename(folder / "no_suffix")
    moving(folder / "m.gif")
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
    """All frames of an animation are there, at their times."""
    source = moving(tmp_path / name)
    assert not is_still(source)
    run.done(source, tmp_path / "out.mkv", *FAST)
    after = read(tmp_path / "out.mkv")
    assert (after.times, after.size) == ([Fraction(index, 5) for index in range(5)], (128, 96))
    run.done(source, tmp_path / "frames")
    assert len(list((tmp_path / "frames").iterdir())) == 5


def noise(index: int, width: int, height: int) -> av.VideoFrame:
    """A picture which no format packs into a few bytes."""
    samples = np.random.default_rng(index).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return av.VideoFrame.from_ndarray(samples, "rgb24")


@pytest.mark.parametrize("name", [*STILLS, "a.gif", "a.avif"])
def test_a_cut_image_is_an_error(run: Run, tmp_path: Path, name: str) -> None:
    """No picture with garbage in it is written."""
    source = image(tmp_path, name, noise)
    data = source.read_bytes()
    for part in (0.3, 0.6, 0.9):
        source.write_bytes(data[: int(len(data) * part)])
        for output in ("out.png", "out"):
            assert source.name in run.refused(source, tmp_path / output)


def test_a_jpeg_needs_its_end(run: Run, tmp_path: Path) -> None:
    """FFmpeg has no error where it ends between two scans; what stands behind the end is nobody's."""
    source = still(tmp_path / "a.jpg")
    whole = source.read_bytes()
    for data in (whole, whole + b"something behind it"):
        source.write_bytes(data)
        assert read_image(source).width == 64
    source.write_bytes(whole[:-2])
    assert "cut off" in run.refused(source, tmp_path / "out.png")


def test_a_png_with_a_wrong_checksum_is_an_error(run: Run, tmp_path: Path) -> None:
    """One wrong byte of the samples."""
    source = still(tmp_path / "a.png")
    data = bytearray(source.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    source.write_bytes(data)
    run.refused(source, tmp_path / "out.png")


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
