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


def write(path: Path, samples: np.ndarray, pix_fmt: str) -> np.ndarray:
    """Write an image, and give back its samples as (height, width, channels)."""
    height, width = samples.shape[:2]
    frame = av.VideoFrame(width, height, pix_fmt)
    data = np.ascontiguousarray(samples)
    plane = np.frombuffer(frame.planes[0], data.dtype).reshape(height, -1)
    plane[:, : data[0].size] = data.reshape(height, -1)
    path.write_bytes(encode(planar(frame)[0], path.suffix)[0])
    return samples


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
    result = run(path, tmp_path / f"out{suffix}")
    assert result.code == 0, result.err
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
        assert run(tmp_path / "in.jpg", tmp_path / name).code == 0
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
    write(tmp_path / "plain.png", np.full((24, 40, 3), 90, np.uint8), "rgb24")
    data = (tmp_path / "plain.png").read_bytes()
    chunks = chunk(b"iCCP", b"name\0\0" + zlib.compress(profile)) + chunk(b"eXIf", exif)
    (tmp_path / "in.png").write_bytes(data[:33] + chunks + data[33:])
    assert read_image(tmp_path / "in.png").rotation == -90
    result = run(tmp_path / "in.png", tmp_path / f"out{suffix}")
    assert result.code == 0, result.err
    after = read_image(tmp_path / f"out{suffix}")
    assert (after.width, after.height) == (80, 48)
    assert after.rotation == (0 if suffix == ".bmp" else -90)
    assert extras(after)[1] == (None if suffix in (".bmp", ".tif") else profile)
    if suffix == ".webp":
        assert (tmp_path / "out.webp").read_bytes()[20] & 0x28 == 0x28
    assert ("cannot be given the EXIF data and colour profile" in result.err) == (suffix == ".bmp")
    assert ("cannot be given the colour profile" in result.err) == (suffix == ".tif")


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_a_folder_keeps_names_and_each_image_its_size(run: Run, tmp_path: Path) -> None:
    """Sizes and formats may differ from image to image; other files in the folder are left alone."""
    folder = tmp_path / "in"
    folder.mkdir()
    random = np.random.default_rng(2)
    for name, shape, pix_fmt in (
        ("2.png", (20, 30, 3), "rgb24"),
        ("10.png", (31, 20, 1), "gray"),
        ("1.tif", (20, 20, 4), "rgba"),
    ):
        write(folder / name, random.integers(0, 256, shape).astype(np.uint8), pix_fmt)
    (folder / "notes.txt").write_text("not an image")
    assert [path.name for path in list_images(folder)[0]] == ["1.tif", "2.png", "10.png"]
    assert run(folder, tmp_path / "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.tif", "10.png", "2.png"]
    sizes = {path.name: (read_image(path).width, read_image(path).height) for path in (tmp_path / "out").iterdir()}
    assert sizes == {"2.png": (60, 40), "10.png": (40, 62), "1.tif": (40, 40)}


def test_a_folder_keeps_each_image_in_its_own_format(run: Run, tmp_path: Path) -> None:
    """JPEG and WebP stay in YUV, PNG in RGB, also where their samples are alike; one image alone is no exception."""
    folder = tmp_path / "in"
    folder.mkdir()
    frame = av.VideoFrame.from_ndarray(np.full((20, 30, 3), 90, np.uint8), "rgb24")
    yuv, full = frame.reformat(format="yuv420p"), frame.reformat(format="yuv420p", dst_color_range="JPEG")
    for name, shown in (("1.jpg", full), ("2.webp", yuv), ("3.png", planar(frame)[0]), ("4.bmp", planar(frame)[0])):
        (folder / name).write_bytes(encode(shown, Path(name).suffix)[0])
    result = run(folder, tmp_path / "out")
    assert result.code == 0, result.err
    formats = {path.name: read_image(path).format.name for path in (tmp_path / "out").iterdir()}
    assert formats == {"1.jpg": "yuvj420p", "2.webp": "yuv420p", "3.png": "rgb24", "4.bmp": "bgr24"}
    for name in ("1.jpg", "2.webp"):
        result = run(folder / name, tmp_path / name[0])
        assert result.code == 0, result.err
        assert read_image(tmp_path / name[0] / name).width == 60


def test_one_bad_image_does_not_stop_the_folder(run: Run, tmp_path: Path) -> None:
    """The others are upscaled; the error, the summary and the exit code tell. A video would miss a picture: refused."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 9)
    write(folder / "2.png", np.zeros((20, 20, 3), np.uint8), "rgb24")
    write(folder / "3.png", np.zeros((20, 20, 3), np.uint8), "rgb24")
    result = run(folder, tmp_path / "out")
    assert result.code == 1
    assert "1 of 3 images could not be upscaled" in result.error
    assert str(folder / "1.png") in result.error
    assert "failed" in result.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["2.png", "3.png"]
    for source, output in ((folder, "out.mp4"), (folder / "1.png", "one"), (folder / "1.png", "one.png")):
        result = run(source, tmp_path / output)
        assert result.code == 1
        assert str(folder / "1.png") in result.error
    for name in ("2.png", "3.png"):
        (folder / name).unlink()
    assert run(folder, tmp_path / "none").code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_images_of_several_sizes_become_a_video_of_one(run: Run, tmp_path: Path) -> None:
    """A note names the first image which has another size."""
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "1.png", np.zeros((20, 20, 3), np.uint8), "rgb24")
    write(folder / "2.png", np.zeros((20, 24, 3), np.uint8), "rgb24")
    result = run(folder, tmp_path / "out.mp4")
    assert result.code == 0, result.err
    assert "note: the size changes from 20x20 to 24x20 at 2.png" in result.err
    assert "frames      2 of 40x40" in result.out


def test_a_full_folder_needs_overwrite(run: Run, tmp_path: Path) -> None:
    """Other files of the folder stay; those of the same name are replaced only when allowed."""
    write(tmp_path / "a.png", np.zeros((20, 20, 3), np.uint8), "rgb24")
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.png", np.full((20, 20, 3), 200, np.uint8), "rgb24")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "a.png").write_text("old")
    assert "not empty" in run(tmp_path / "in", out).error
    assert (out / "a.png").read_text() == "old"
    assert run(tmp_path / "in", out, "--overwrite").code == 0
    assert read_image(out / "a.png").width == 40
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "mine.txt"]
    assert "input itself" in run(tmp_path / "in", tmp_path / "in", "--overwrite").error


@pytest.mark.parametrize("output", ["in", "in/%06d.png", "elsewhere"])
def test_an_input_is_never_replaced(run: Run, tmp_path: Path, output: str) -> None:
    """Neither by an image of its own name, nor by a number which is its name, nor by way of a link."""
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "000001.png"
    write(source, np.zeros((20, 20, 3), np.uint8), "rgb24")
    (tmp_path / "elsewhere").symlink_to("in")
    before = source.read_bytes()
    result = run(source, tmp_path / output, "--overwrite")
    assert result.code == 1
    assert "000001.png is an input itself" in result.error
    assert source.read_bytes() == before
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["000001.png"]
