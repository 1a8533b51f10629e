"""``vsaether upscale`` on images: depth, gray and alpha are kept, names, EXIF data and pixels per inch, too."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vsaether.media import density, exif
from vsaether.media.density import CENTIMETRE, INCH, Density
from vsaether.media.exif import extras
from vsaether.media.formats import planar
from vsaether.media.images import encode
from vsaether.media.stills import list_images, read_image

from .conftest import Run


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
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def black(path: Path, width: int = 20, value: int = 0) -> None:
    write(path, np.full((20, width, 3), value, np.uint8), "rgb24")


def shapes(folder: Path) -> dict[str, tuple[int, int]]:
    images = {path.name: read_image(path) for path in folder.iterdir()}
    return {name: (image.width, image.height) for name, image in images.items()}


@pytest.mark.parametrize(
    ("suffix", "given", "stored"),
    [
        *((".png", name, name) for name in ("gray", "ya8", "rgb24", "rgba")),
        *((".png", f"{name}le", f"{name}be") for name in ("gray16", "ya16", "rgb48", "rgba64")),
        *((".tif", name, name) for name in ("rgb24", "rgb48le", "gray16le")),
        (".webp", "rgba", "argb"),
        (".bmp", "rgb24", "bgr24"),
    ],
)
def test_formats_keep_depth_gray_and_alpha(run: Run, tmp_path: Path, suffix: str, given: str, stored: str) -> None:
    components = av.VideoFormat(given).components
    dtype, step = (np.uint8, 257) if components[0].bits == 8 else (np.uint16, 65)
    source = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (37, 41, len(components))).astype(dtype)
    path = tmp_path / f"in{suffix}"
    write(path, source, given)
    run.done(path, tmp_path / f"out{suffix}")
    images = [read_image(each) for each in (path, tmp_path / f"out{suffix}")]
    assert [image.format.name for image in images] == [stored, stored]
    before, after = (image.to_ndarray(format="rgba64le").astype(int) for image in images)
    assert after.shape == (74, 82, 4)
    assert abs(after[::2, ::2] - before).max() <= step
    if (suffix, given) == (".png", "rgba"):
        assert np.array_equal(images[0].to_ndarray(), source)


def test_jpeg_keeps_its_subsampling_and_range(run: Run, tmp_path: Path) -> None:
    """A 4:2:0 JPEG becomes a 4:2:0 JPEG of the same colours; a PNG of it has them, too."""
    y, x = np.mgrid[0:48, 0:64]
    picture = np.stack([x * 4, y * 5, 255 - x * 4], -1).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuvj420p", dst_colorspace="ITU601")
    frame = planar(frame)[0]
    frame.colorspace, frame.color_range = 5, 2
    (tmp_path / "in.jpg").write_bytes(encode(frame, ".jpg")[0])
    before = read_image(tmp_path / "in.jpg")
    for name, stored in (("out.jpg", "yuvj420p"), ("out.png", "rgb24")):
        run.done(tmp_path / "in.jpg", tmp_path / name)
        after = read_image(tmp_path / name)
        assert (before.format.name, after.format.name) == ("yuvj420p", stored)
        small, large = (f.to_ndarray(format="rgb24").astype(int) for f in (before, after))
        assert large.shape == (96, 128, 3)
        assert abs(large[::2, ::2] - small).mean() < 4


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


def test_a_folder_keeps_names_and_each_image_its_size_and_format(run: Run, tmp_path: Path) -> None:
    """JPEG and WebP stay in YUV, PNG in RGB, also where their samples are alike; one image alone is no exception."""
    folder = tmp_path / "in"
    write(folder / "10.png", np.full((31, 20, 1), 90, np.uint8), "gray")
    write(folder / "1.tif", np.full((20, 20, 4), 90, np.uint8), "rgba")
    frame = av.VideoFrame.from_ndarray(np.full((20, 30, 3), 90, np.uint8), "rgb24")
    yuv, full = frame.reformat(format="yuv420p"), frame.reformat(format="yuv420p", dst_color_range="JPEG")
    for name, shown in (("3.jpg", full), ("2.webp", yuv), ("4.png", planar(frame)[0]), ("5.bmp", planar(frame)[0])):
        (folder / name).write_bytes(encode(shown, Path(name).suffix)[0])
    (folder / "notes.txt").write_text("not an image")
    names = ["1.tif", "2.webp", "3.jpg", "4.png", "5.bmp", "10.png"]
    assert [path.name for path in list_images(folder)[0]] == names
    run.done(folder, tmp_path / "out")
    images = {path.name: read_image(path) for path in (tmp_path / "out").iterdir()}
    assert {name: image.format.name for name, image in images.items()} == dict(
        zip(names, ("rgba", "yuv420p", "yuvj420p", "rgb24", "bgr24", "gray"), strict=True)
    )
    sizes = {"1.tif": (40, 40), "10.png": (40, 62)}
    assert shapes(tmp_path / "out") == {name: sizes.get(name, (60, 40)) for name in names}
    for name in ("2.webp", "3.jpg"):
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
    assert (result.code, "failed" in result.out) == (1, True)
    assert "1 of 3 images could not be upscaled" in result.error
    assert str(bad) in result.error
    assert shapes(tmp_path / "out") == {"2.png": (40, 40), "3.png": (40, 40)}
    for name in ("2.png", "3.png"):
        (folder / name).unlink()
    run.refused(folder, tmp_path / "none")


def test_a_full_folder_needs_overwrite(run: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    black(folder / "a.png", value=200)
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "a.png").write_text("old")
    assert "not empty" in run.refused(folder, out)
    run.done(folder, out, "--overwrite")
    assert read_image(out / "a.png").width == 40
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "mine.txt"]


@pytest.mark.parametrize(
    ("source", "output"), [("in", "in"), *(("in/000001.png", to) for to in ("in", "in/%06d.png", "elsewhere"))]
)
def test_an_input_is_never_replaced(run: Run, tmp_path: Path, source: str, output: str) -> None:
    """Neither by an image of its own name, nor by a number which is its name, nor by way of a link."""
    black(tmp_path / "in" / "000001.png")
    (tmp_path / "elsewhere").symlink_to("in")
    begun = source != "in"
    assert "input itself" in run.refused(tmp_path / source, tmp_path / output, "--overwrite", begun=begun)


SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp")
DPI = Density(Fraction(300), Fraction(150), INCH)


def exif_data(order: str) -> bytes:
    """EXIF data with all four fields of the size, as SHORT and LONG, and the camera's orientation."""

    def directory(*entries: tuple[int, int, int]) -> bytes:
        packed = (
            struct.pack(order + "HHI" + ("H2x" if kind == 3 else "I"), tag, kind, 1, n) for tag, kind, n in entries
        )
        return struct.pack(order + "H", len(entries)) + b"".join(packed) + bytes(4)

    first = directory((256, 3, 64), (257, 4, 48), (274, 3, 6), (0x8769, 4, 8 + 2 + 4 * 12 + 4))
    start = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8)
    return start + first + directory((0xA002, 3, 64), (0xA003, 4, 48))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_exif_data_tell_the_right_size(run: Run, tmp_path: Path, suffix: str, order: str) -> None:
    """That of the written image, wherever the input told its own; the orientation stays."""
    source = tmp_path / "in.png"
    write(source, np.full((48, 64, 3), 90, np.uint8), "rgb24", chunk(b"eXIf", exif_data(order)))
    run.done(source, tmp_path / f"out{suffix}")
    told = Image.open(tmp_path / f"out{suffix}").getexif()
    found = dict(told) | told.get_ifd(0x8769)
    assert (found[0xA002], found[0xA003], found[274]) == (128, 96, 6)
    assert (found.get(256, 128), found.get(257, 96)) == (128, 96)


def test_damaged_exif_data_are_left_as_they_are() -> None:
    for data in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", exif_data("<")[:30]):
        assert exif.with_size(data, 128, 96) == data


@pytest.mark.parametrize("given", SUFFIXES)
def test_density_is_kept(run: Run, tmp_path: Path, given: str) -> None:
    source = tmp_path / f"in{given}"
    write(tmp_path / "plain.png", np.full((24, 40, 3), 90, np.uint8), "rgb24")
    run.done(tmp_path / "plain.png", source)
    if given == ".webp":
        data = exif.with_resolution(exif.EMPTY, DPI.x, DPI.y, DPI.unit)
        source.write_bytes(exif.add_to_webp(source.read_bytes(), (80, 48), False, data, None))
    else:
        source.write_bytes(density.write(source.read_bytes(), DPI))
    assert density.read(source) == DPI
    for output in (tmp_path / f"out{suffix}" for suffix in SUFFIXES):
        run.done(source, output)
        assert density.read(output) == DPI
        assert read_image(output).width == 160


def test_units(tmp_path: Path) -> None:
    """Pixels per centimetre stay so; a mere ratio has no unit; what tells nothing gets square pixels."""
    path = tmp_path / "a.png"
    write(path, np.full((24, 40, 3), 90, np.uint8), "rgb24")
    assert density.read(path) == Density(Fraction(1), Fraction(1), None)
    plain = path.read_bytes()
    for told in (Density(Fraction(4), Fraction(3), None), Density(Fraction(50), Fraction(60), CENTIMETRE)):
        path.write_bytes(density.write(plain, told))
        assert density.read(path) == told
        assert path.read_bytes().count(b"pHYs") == 1
    assert exif.resolution(exif.with_resolution(exif.EMPTY, Fraction(4), Fraction(3), None)) == (4, 3, 1)
    body = b"pHYs" + struct.pack(">IIB", 5000, 6000, 1)
    assert body + struct.pack(">I", zlib.crc32(body)) in path.read_bytes()
