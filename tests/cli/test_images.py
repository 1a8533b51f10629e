"""``vsaether upscale`` on images: depth, gray and alpha are kept, names and order, too."""

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.media.exif import extras
from vsaether.media.formats import planar
from vsaether.media.images import encode, read_image
from vsaether.media.stills import list_images

from .conftest import Run

WAYS = ("in", "in/%06d.png", "elsewhere")
"""To the folder of an input."""


def write(path: Path, samples: np.ndarray, pix_fmt: str, chunks: bytes = b"") -> None:
    """Write an image of samples (height, width, channels), where it is a PNG with more chunks behind its first."""
    path.parent.mkdir(exist_ok=True)
    height, width = samples.shape[:2]
    frame = av.VideoFrame(width, height, pix_fmt)
    data = np.ascontiguousarray(samples)
    plane = np.frombuffer(frame.planes[0], data.dtype).reshape(height, -1)
    plane[:, : data[0].size] = data.reshape(height, -1)
    written = encode(planar(frame)[0], path.suffix)[0]
    path.write_bytes(written[:33] + chunks + written[33:])


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def black(path: Path, width: int = 20, value: int = 0) -> None:
    """Write an image of one gray, 20 pixels high."""
    write(path, np.full((20, width, 3), value, np.uint8), "rgb24")


def shapes(folder: Path) -> dict[str, tuple[int, int]]:
    """The images in a folder, with their sizes."""
    images = {path.name: read_image(path) for path in folder.iterdir()}
    return {name: (image.width, image.height) for name, image in images.items()}


def samples_of(path: Path, pix_fmt: str, dtype: type) -> np.ndarray:
    """The samples of an image, which must be of a pixel format."""
    frame = read_image(path)
    assert frame.format.name == pix_fmt
    big = frame.format.is_big_endian
    plane = frame.planes[0]
    array = np.frombuffer(plane, np.dtype(dtype).newbyteorder(">" if big else "<")).reshape(plane.height, -1)
    channels = len(frame.format.components)
    return array[:, : frame.width * channels].reshape(frame.height, frame.width, channels).astype(int)


@pytest.mark.parametrize(
    ("suffix", "given", "stored", "channels", "dtype"),
    [
        (".png", "gray", "gray", 1, np.uint8),
        (".png", "ya8", "ya8", 2, np.uint8),
        (".png", "rgb24", "rgb24", 3, np.uint8),
        (".png", "rgba", "rgba", 4, np.uint8),
        (".png", "gray16le", "gray16be", 1, np.uint16),
        (".png", "ya16le", "ya16be", 2, np.uint16),
        (".png", "rgb48le", "rgb48be", 3, np.uint16),
        (".png", "rgba64le", "rgba64be", 4, np.uint16),
        (".tif", "rgb24", "rgb24", 3, np.uint8),
        (".tif", "rgb48le", "rgb48le", 3, np.uint16),
        (".tif", "gray16le", "gray16le", 1, np.uint16),
        (".webp", "rgba", "argb", 4, np.uint8),
        (".bmp", "rgb24", "bgr24", 3, np.uint8),
    ],
)
def test_formats_keep_depth_gray_and_alpha(
    run: Run, tmp_path: Path, suffix: str, given: str, stored: str, channels: int, dtype: type
) -> None:
    """Lossless images come out in the format they came in, every sample doubled in both directions."""
    random = np.random.default_rng(1)
    top = np.iinfo(dtype).max
    source = random.integers(0, top + 1, (37, 41, channels)).astype(dtype)
    path = tmp_path / f"in{suffix}"
    write(path, source, given)
    before = samples_of(path, stored, dtype)
    run.done(path, tmp_path / f"out{suffix}")
    after = samples_of(tmp_path / f"out{suffix}", stored, dtype)
    assert after.shape == (74, 82, channels)
    assert abs(after[::2, ::2] - before).max() <= max(1, top // 1000)
    if given == "rgba" and suffix == ".png":
        assert np.array_equal(before, source)


def test_jpeg_keeps_its_subsampling_and_range(run: Run, tmp_path: Path) -> None:
    """A 4:2:0 JPEG becomes a 4:2:0 JPEG of the same colours; a PNG of it has them, too."""
    y, x = np.mgrid[0:48, 0:64]
    picture = np.stack([x * 4, y * 5, 255 - x * 4], -1).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuvj420p", dst_colorspace="ITU601")
    frame = planar(frame)[0]
    frame.colorspace, frame.color_range = 5, 2
    (tmp_path / "in.jpg").write_bytes(encode(frame, ".jpg")[0])
    before = read_image(tmp_path / "in.jpg")
    for name in ("out.jpg", "out.png"):
        run.done(tmp_path / "in.jpg", tmp_path / name)
        after = read_image(tmp_path / name)
        assert (after.width, after.height) == (128, 96)
        small, large = (f.to_ndarray(format="rgb24").astype(int) for f in (before, after))
        assert abs(large[::2, ::2] - small).mean() < 4
        if name == "out.jpg":
            assert after.format.name == before.format.name == "yuvj420p"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_orientation_and_colour_profile_are_kept(run: Run, tmp_path: Path, suffix: str) -> None:
    """A photo taken upright stays upright, and its colours stay what they were; what a format cannot hold is told."""
    profile = bytes(range(256))
    tag = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    exif = b"II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
    chunks = chunk(b"iCCP", b"name\0\0" + zlib.compress(profile)) + chunk(b"eXIf", exif)
    write(tmp_path / "in.png", np.full((24, 40, 3), 90, np.uint8), "rgb24", chunks)
    assert read_image(tmp_path / "in.png").rotation == -90
    result = run.done(tmp_path / "in.png", tmp_path / f"out{suffix}")
    after = read_image(tmp_path / f"out{suffix}")
    assert (after.width, after.height) == (80, 48)
    assert after.rotation == (0 if suffix == ".bmp" else -90)
    assert extras(after)[1] == (None if suffix in (".bmp", ".tif") else profile)
    if suffix == ".webp":
        assert (tmp_path / "out.webp").read_bytes()[20] & 0x28 == 0x28
    assert ("cannot be given the EXIF data and colour profile" in result.err) == (suffix == ".bmp")
    assert ("cannot be given the colour profile" in result.err) == (suffix == ".tif")


def test_a_folder_keeps_names_and_each_image_its_size(run: Run, tmp_path: Path) -> None:
    """Sizes and formats may differ from image to image; other files in the folder are left alone."""
    folder = tmp_path / "in"
    random = np.random.default_rng(2)
    for name, shape, pix_fmt in (
        ("2.png", (20, 30, 3), "rgb24"),
        ("10.png", (31, 20, 1), "gray"),
        ("1.tif", (20, 20, 4), "rgba"),
    ):
        write(folder / name, random.integers(0, 256, shape).astype(np.uint8), pix_fmt)
    (folder / "notes.txt").write_text("not an image")
    assert [path.name for path in list_images(folder)[0]] == ["1.tif", "2.png", "10.png"]
    run.done(folder, tmp_path / "out")
    assert shapes(tmp_path / "out") == {"2.png": (60, 40), "10.png": (40, 62), "1.tif": (40, 40)}


def test_a_folder_keeps_each_image_in_its_own_format(run: Run, tmp_path: Path) -> None:
    """JPEG and WebP stay in YUV, PNG in RGB, also where their samples are alike; one image alone is no exception."""
    folder = tmp_path / "in"
    folder.mkdir()
    frame = av.VideoFrame.from_ndarray(np.full((20, 30, 3), 90, np.uint8), "rgb24")
    yuv, full = frame.reformat(format="yuv420p"), frame.reformat(format="yuv420p", dst_color_range="JPEG")
    for name, shown in (("1.jpg", full), ("2.webp", yuv), ("3.png", planar(frame)[0]), ("4.bmp", planar(frame)[0])):
        (folder / name).write_bytes(encode(shown, Path(name).suffix)[0])
    run.done(folder, tmp_path / "out")
    formats = {path.name: read_image(path).format.name for path in (tmp_path / "out").iterdir()}
    assert formats == {"1.jpg": "yuvj420p", "2.webp": "yuv420p", "3.png": "rgb24", "4.bmp": "bgr24"}
    for name in ("1.jpg", "2.webp"):
        run.done(folder / name, tmp_path / name[0])
        assert shapes(tmp_path / name[0]) == {name: (60, 40)}


def test_one_bad_image_does_not_stop_the_folder(run: Run, tmp_path: Path) -> None:
    """The others are upscaled; the error, the summary and the exit code tell. A video would miss a picture: refused."""
    folder, bad = tmp_path / "in", tmp_path / "in" / "1.png"
    black(folder / "2.png")
    black(folder / "3.png")
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 9)
    for source, output in ((folder, "out.mp4"), (bad, "one"), (bad, "one.png")):
        assert str(bad) in run.refused(source, tmp_path / output)
    result = run(folder, tmp_path / "out")
    assert result.code == 1
    assert "1 of 3 images could not be upscaled" in result.error
    assert str(bad) in result.error
    assert "failed" in result.out
    assert shapes(tmp_path / "out") == {"2.png": (40, 40), "3.png": (40, 40)}
    for name in ("2.png", "3.png"):
        (folder / name).unlink()
    run.refused(folder, tmp_path / "none")


def test_a_full_folder_needs_overwrite(run: Run, tmp_path: Path) -> None:
    """Other files of the folder stay; those of the same name are replaced only when allowed."""
    folder, out = tmp_path / "in", tmp_path / "out"
    black(folder / "a.png", value=200)
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "a.png").write_text("old")
    assert "not empty" in run.refused(folder, out)
    run.done(folder, out, "--overwrite")
    assert read_image(out / "a.png").width == 40
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "mine.txt"]


@pytest.mark.parametrize(("source", "output"), [("in", "in"), *(("in/000001.png", to) for to in WAYS)])
def test_an_input_is_never_replaced(run: Run, tmp_path: Path, source: str, output: str) -> None:
    """Neither by an image of its own name, nor by a number which is its name, nor by way of a link."""
    black(tmp_path / "in" / "000001.png")
    (tmp_path / "elsewhere").symlink_to("in")
    begun = source != "in"
    assert "input itself" in run.refused(tmp_path / source, tmp_path / output, "--overwrite", begun=begun)
