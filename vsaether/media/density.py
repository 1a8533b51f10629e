"""Pixel density ("DPI") of image files, which FFmpeg neither reads nor writes: pHYs of PNG, JFIF of JPEG, resolution
of TIFF and EXIF, pixels per metre of BMP.
"""

import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from . import exif

INCH, CENTIMETRE = 2, 3
"""Units, as TIFF and EXIF number them."""
_PER_METRE = {INCH: Fraction(10000, 254), CENTIMETRE: Fraction(100)}
_HEAD = 1 << 20


@dataclass(frozen=True)
class Density:
    """Pixels per unit, horizontally and vertically; without a unit only their ratio counts."""

    x: Fraction
    y: Fraction
    unit: int | None

    def per_metre(self) -> tuple[int, int]:
        """The same in pixels per metre, which PNG and BMP count in."""
        assert self.unit is not None
        return round(self.x * _PER_METRE[self.unit]), round(self.y * _PER_METRE[self.unit])


def read(path: Path) -> Density | None:
    """The density an image file tells; None if it tells none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if head[:4] in (b"II*\0", b"MM\0*", b"RIFF"):
            head += file.read()  # the directory or the EXIF data may be at the end
    try:
        found = _read(head)
    except (struct.error, ZeroDivisionError):
        return None
    return found if found and found.x > 0 and found.y > 0 else None


def _read(data: bytes) -> Density | None:
    if data.startswith(b"\x89PNG"):
        return _read_png(data)
    if data.startswith(b"\xff\xd8"):
        return _read_jpeg(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _of_tags(data)
    if data.startswith(b"RIFF"):
        return next((_of_tags(body) for name, body in exif.riff_chunks(data) if name == b"EXIF"), None)
    if data.startswith(b"BM"):
        x, y = struct.unpack_from("<2i", data, 38)
        return _metric(x, y)
    return None


def _metric(x: int, y: int) -> Density:
    """Pixels per metre, as whole numbers of pixels per inch where they are meant."""
    across, down = (Fraction(round(value / _PER_METRE[INCH])) for value in (x, y))
    inches = Density(across, down, INCH)
    if inches.per_metre() == (x, y):
        return inches
    return Density(Fraction(x, 100), Fraction(y, 100), CENTIMETRE)


def _read_png(data: bytes) -> Density | None:
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            return None
        if name == b"pHYs":
            x, y, metric = struct.unpack_from(">IIB", data, at + 8)
            return _metric(x, y) if metric else Density(Fraction(x), Fraction(y), None)
        at += 12 + length
    return None


def _read_jpeg(data: bytes) -> Density | None:
    found, at = None, 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xE0 and body.startswith(b"JFIF\0"):
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            found = Density(Fraction(x), Fraction(y), {1: INCH, 2: CENTIMETRE}.get(unit))
            if found.unit:
                return found
        if data[at + 1] == 0xE1 and body.startswith(b"Exif\0\0"):
            return _of_tags(body[6:]) or found
        at += 2 + length
    return found


def _of_tags(data: bytes) -> Density | None:
    values = exif.resolution(data)
    if values is None:
        return None
    x, y, unit = values
    return Density(x, y, unit if unit in _PER_METRE else None)


def write(data: bytes, density: Density) -> bytes:
    """An image file which tells a density instead of what it tells now, as far as its format can."""
    if data.startswith(b"\x89PNG"):
        return _write_png(data, density)
    if data.startswith(b"\xff\xd8"):
        return _write_jpeg(data, density)
    if data.startswith(b"II*\0"):
        return exif.with_resolution(data, density.x, density.y, density.unit)
    if data.startswith(b"BM") and density.unit:
        return data[:38] + struct.pack("<2i", *density.per_metre()) + data[46:]
    return data


def _write_png(data: bytes, density: Density) -> bytes:
    if density.unit:
        x, y = density.per_metre()
    else:
        x, y = round(density.x), round(density.y)
    body = b"pHYs" + struct.pack(">IIB", x, y, 1 if density.unit else 0)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    at = 33
    while data[at + 4 : at + 8] not in (b"pHYs", b"IDAT"):
        at += 12 + struct.unpack_from(">I", data, at)[0]
    end = at + 21 if data[at + 4 : at + 8] == b"pHYs" else at
    return data[:at] + chunk + data[end:]


def _write_jpeg(data: bytes, density: Density) -> bytes:
    """In a JFIF segment, which comes first. It holds whole numbers."""
    unit = {None: 0, INCH: 1, CENTIMETRE: 2}[density.unit]
    x, y = (min(max(round(value), 1), 0xFFFF) for value in (density.x, density.y))
    segment = b"\xff\xe0" + struct.pack(">H5sHBHHBB", 16, b"JFIF\0", 0x0102, unit, x, y, 0, 0)
    rest = data[2:]
    if rest[4:9] == b"JFIF\0":
        rest = rest[2 + struct.unpack_from(">H", rest, 2)[0] :]
    return data[:2] + segment + rest
