"""``vsaether upscale`` on images: depth, gray and alpha are kept, names, EXIF data and pixels per inch, too."""

from fractions import Fraction
from pathlib import Path
from typing import Any

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

SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp")


def exif_data(order: str) -> Image.Exif:
    """EXIF data with all four fields of the size, as LONG and SHORT, and the camera's orientation."""
    made = Image.Exif()
    made.endian = order
    made.update({256: 64, 257: 48, 274: 6, 0x8769: {0xA002: 64, 0xA003: 48}})
    return made


def black(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        Image.new("RGB", (20, 20)).save(folder / name)


def shapes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: Image.open(path).size for path in folder.iterdir()}


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
    source = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (37, 41 * len(components))).astype(dtype)
    frame, path = av.VideoFrame(41, 37, given), tmp_path / f"in{suffix}"
    np.frombuffer(frame.planes[0], dtype).reshape(37, -1)[:, : source.shape[1]] = source
    path.write_bytes(encode(planar(frame)[0], suffix)[0])
    run.done(path, tmp_path / f"out{suffix}")
    images = [read_image(each) for each in (path, tmp_path / f"out{suffix}")]
    assert [image.format.name for image in images] == [stored, stored]
    before, after = (image.to_ndarray(format="rgba64le").astype(int) for image in images)
    assert after.shape == (74, 82, 4)
    assert abs(after[::2, ::2] - before).max() <= step
    if (suffix, given) == (".png", "rgba"):
        assert np.array_equal(images[0].to_ndarray().reshape(37, -1), source)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_orientation_and_colour_profile_are_kept(run: Run, tmp_path: Path, suffix: str) -> None:
    """A photo taken upright stays upright, and its colours stay what they were; what a format cannot hold is told."""
    profile = bytes(range(256))
    Image.new("RGB", (40, 24)).save(tmp_path / "in.png", exif=exif_data("<"), icc_profile=profile)
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
    kinds = {
        "1.tif": ("RGBA", (20, 20), "rgba"),
        "2.webp": ("RGB", (30, 20), "yuv420p"),
        "3.jpg": ("RGB", (30, 20), "yuvj420p"),
        "4.png": ("RGB", (30, 20), "rgb24"),
        "5.bmp": ("RGB", (30, 20), "bgr24"),
        "10.png": ("L", (20, 31), "gray"),
    }
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (mode, size, _) in kinds.items():
        Image.new(mode, size).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    assert [path.name for path in list_images(folder)[0]] == list(kinds)
    run.done(folder, tmp_path / "out")
    large = {name: (2 * width, 2 * height) for name, (_, (width, height), _) in kinds.items()}
    assert shapes(tmp_path / "out") == large
    for name, (*_, stored) in kinds.items():
        assert read_image(tmp_path / "out" / name).format.name == stored
    for name in ("2.webp", "3.jpg"):
        run.done(folder / name, tmp_path / name[0])
        assert shapes(tmp_path / name[0]) == {name: large[name]}


def test_one_bad_image_does_not_stop_the_folder(run: Run, tmp_path: Path) -> None:
    """The others are upscaled; the error, the summary and the exit code tell. A video would miss a picture: refused."""
    folder, bad = tmp_path / "in", tmp_path / "in" / "1.png"
    black(folder, "2.png", "3.png")
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


@pytest.mark.parametrize(
    ("source", "output"), [("in", "in"), *(("in/000001.png", to) for to in ("in", "in/%06d.png", "elsewhere"))]
)
def test_an_input_is_never_replaced(run: Run, tmp_path: Path, source: str, output: str) -> None:
    """Neither by an image of its own name, nor by a number which is its name, nor by way of a link."""
    black(tmp_path / "in", "000001.png")
    (tmp_path / "elsewhere").symlink_to("in")
    begun = source != "in"
    assert "input itself" in run.refused(tmp_path / source, tmp_path / output, "--overwrite", begun=begun)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_exif_data_tell_the_right_size(run: Run, tmp_path: Path, suffix: str, order: str) -> None:
    """That of the written image, wherever the input told its own; the orientation stays."""
    Image.new("RGB", (64, 48)).save(tmp_path / "in.png", exif=exif_data(order))
    run.done(tmp_path / "in.png", tmp_path / f"out{suffix}")
    direct = Image.Exif()
    direct.load(exif.with_size(exif_data(order).tobytes()[6:], 128, 96))  # FFmpeg has one byte order
    for told in (direct, Image.open(tmp_path / f"out{suffix}").getexif()):
        found = dict(told) | told.get_ifd(0x8769)
        assert (found[0xA002], found[0xA003], found[274]) == (128, 96, 6)
        assert (found.get(256, 128), found.get(257, 96)) == (128, 96)


def test_damaged_exif_data_are_left_as_they_are() -> None:
    for data in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", exif_data("<").tobytes()[6:36]):
        assert exif.with_size(data, 128, 96) == data


@pytest.mark.parametrize("given", SUFFIXES)
def test_density_is_kept(run: Run, tmp_path: Path, given: str) -> None:
    source, dpi, told = tmp_path / f"in{given}", Density(Fraction(300), Fraction(150), INCH), Image.Exif()
    told.update({282: 300, 283: 150, 296: 2})
    options: dict[str, Any] = {"exif": told} if given == ".webp" else {"dpi": (300, 150)}
    Image.new("RGB", (40, 24)).save(source, **options)
    assert density.read(source) == dpi
    for output in (tmp_path / f"out{suffix}" for suffix in SUFFIXES):
        run.done(source, output)
        assert density.read(output) == dpi
        assert read_image(output).width == 80


def test_units(tmp_path: Path) -> None:
    """Pixels per centimetre stay so; a mere ratio has no unit; what tells nothing gets square pixels."""
    path, plain = tmp_path / "a.png", encode(av.VideoFrame(40, 24, "gray"), ".png")[0]
    path.write_bytes(plain)
    assert density.read(path) == Density(Fraction(1), Fraction(1), None)
    for told in (Density(Fraction(4), Fraction(3), None), Density(Fraction(50), Fraction(60), CENTIMETRE)):
        path.write_bytes(density.write(plain, told))
        assert density.read(path) == told
        assert path.read_bytes().count(b"pHYs") == 1
    assert Image.open(path).info["dpi"] == pytest.approx((127, 152.4))  # which looks at the checksum
    assert exif.resolution(exif.with_resolution(exif.EMPTY, Fraction(4), Fraction(3), None)) == (4, 3, 1)
