"""What image files tell besides their samples: the size in EXIF data, and pixels per inch."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsaether.media import density, exif
from vsaether.media.density import CENTIMETRE, INCH, Density
from vsaether.media.stills import read_image

from .conftest import Run
from .test_images import chunk, write

SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp")
DPI = Density(Fraction(300), Fraction(150), INCH)


def directory(order: str, entries: list[tuple[int, int, int]]) -> bytes:
    """A TIFF directory of one SHORT or LONG each."""
    packed = b"".join(
        struct.pack(order + "HHI", tag, kind, 1)
        + struct.pack(order + ("H" if kind == 3 else "I"), value).ljust(4, b"\0")
        for tag, kind, value in entries
    )
    return struct.pack(order + "H", len(entries)) + packed + bytes(4)


def exif_data(order: str) -> bytes:
    """EXIF data with all four fields of the size, as SHORT and LONG, and the camera's orientation."""
    start = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8)
    first = [(256, 3, 64), (257, 4, 48), (274, 3, 6), (0x8769, 4, 8 + 2 + 4 * 12 + 4)]
    return start + directory(order, first) + directory(order, [(0xA002, 3, 64), (0xA003, 4, 48)])


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
    """They are not ours to judge."""
    for data in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", exif_data("<")[:30]):
        assert exif.with_size(data, 128, 96) == data


@pytest.mark.parametrize("given", SUFFIXES)
def test_density_is_kept(run: Run, tmp_path: Path, given: str) -> None:
    """300 x 150 pixels per inch stay that, from each format to each other."""
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
    body = b"pHYs" + struct.pack(">IIB", 5000, 6000, 1)
    assert body + struct.pack(">I", zlib.crc32(body)) in path.read_bytes()
