"""EXIF data and ICC profiles in JPEG and WebP files, where FFmpeg's encoders leave them out; and TIFF's tags, which
EXIF data consist of.
"""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext

_APP1_MOST = 0xFFFF - 2
_WIDTH, _HEIGHT, _X, _Y, _UNIT, _EXIF, _PIXEL_X, _PIXEL_Y = 256, 257, 282, 283, 296, 0x8769, 0xA002, 0xA003
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_WEBP_FLAGS = {b"ICCP": 0x20, b"ALPH": 0x10, b"EXIF": 0x08}


def extras(frame: av.VideoFrame) -> tuple[bytes | None, bytes | None]:
    """EXIF data, with the orientation that is to be shown, and ICC profile of a frame.

    FFmpeg keeps the orientation apart and joins them in PNG files, so both are taken from a small one. (PyAV's own
    access to a frame's side data frees the name of a PNG's profile twice, and crashes.)
    """
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width = encoder.height = 16
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 25)
    small = frame.reformat(16, 16, "rgb24", interpolation="POINT")
    data = b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])
    exif = profile = None
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        if name == b"eXIf":
            exif = content
        elif name == b"iCCP":
            profile = zlib.decompress(content.partition(b"\0")[2][1:])
        at += 12 + length
    return exif, profile


def with_size(data: bytes, width: int, height: int) -> bytes:
    """EXIF data whose fields of the image's size, where there are any, tell the right one."""
    sizes = {_WIDTH: width, _HEIGHT: height, _PIXEL_X: width, _PIXEL_Y: height}
    result = bytearray(data)
    try:
        order = _order(data)
        entries = list(_entries(data, order, struct.unpack_from(order + "I", data, 4)[0]))
        for tag, _, at in list(entries):
            if tag == _EXIF:
                entries += _entries(data, order, struct.unpack_from(order + "I", data, at + 8)[0])
        for tag, _, at in entries:
            if tag in sizes:
                struct.pack_into(order + "HHII", result, at, tag, _LONG, 1, sizes[tag])
    except struct.error:  # damaged data are left as they are
        return data
    return bytes(result)


def resolution(data: bytes) -> tuple[Fraction, Fraction, int] | None:
    """Horizontal and vertical resolution and its unit, as EXIF data or a TIFF file tell them."""
    order = _order(data)
    found = {tag: (kind, at) for tag, kind, at in _entries(data, order, struct.unpack_from(order + "I", data, 4)[0])}
    if _X not in found or _Y not in found or {found[_X][0], found[_Y][0]} != {_RATIONAL}:
        return None
    places = (struct.unpack_from(order + "I", data, found[tag][1] + 8)[0] for tag in (_X, _Y))
    x, y = (Fraction(*struct.unpack_from(order + "II", data, place)) for place in places)
    unit = struct.unpack_from(order + "H", data, found[_UNIT][1] + 8)[0] if _UNIT in found else 2
    return x, y, unit


def with_resolution(data: bytes, x: Fraction, y: Fraction, unit: int | None) -> bytes:
    """A TIFF file, or EXIF data, with another resolution: the first directory is written anew, at the end."""
    order = _order(data)
    first = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, first)[0]
    entries = {tag: data[at : at + 12] for tag, _, at in _entries(data, order, first)}
    rest = data[first + 2 + 12 * count :][:4].ljust(4, b"\0")
    data += b"\0" * (len(data) % 2)
    for tag, value in ((_X, x), (_Y, y)):
        value = value.limit_denominator(10000)
        entries[tag] = struct.pack(order + "HHII", tag, _RATIONAL, 1, len(data))
        data += struct.pack(order + "II", value.numerator, value.denominator)
    entries[_UNIT] = struct.pack(order + "HHIHH", _UNIT, _SHORT, 1, unit or 1, 0)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + rest
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + directory


EMPTY = b"II*\0" + struct.pack("<IHI", 8, 0, 0)
"""EXIF data without a field."""


def _order(data: bytes) -> str:
    return ">" if data[:2] == b"MM" else "<"


def _entries(data: bytes, order: str, at: int) -> Iterator[tuple[int, int, int]]:
    """Tag, type and place of each entry of a directory."""
    for index in range(struct.unpack_from(order + "H", data, at)[0]):
        place = at + 2 + 12 * index
        tag, kind = struct.unpack_from(order + "HH", data, place)
        yield tag, kind, place


def add_to_jpeg(data: bytes, exif: bytes) -> bytes:
    """A JPEG file with EXIF data as its first segment. More than one segment can hold is left out."""
    payload = b"Exif\0\0" + exif
    if len(payload) > _APP1_MOST:
        return data
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def add_to_webp(data: bytes, size: tuple[int, int], alpha: bool, exif: bytes | None, profile: bytes | None) -> bytes:
    """A WebP file in the extended format, with EXIF data and an ICC profile."""
    image = [(name, body) for name, body in riff_chunks(data) if name != b"VP8X"]
    chunks = [*([(b"ICCP", profile)] if profile else []), *image, *([(b"EXIF", exif)] if exif else [])]
    flags = sum({_WEBP_FLAGS.get(name, 0) for name, _ in chunks} | ({0x10} if alpha else set()))
    canvas = b"".join(struct.pack("<I", length - 1)[:3] for length in size)
    chunks.insert(0, (b"VP8X", struct.pack("<I", flags) + canvas))
    body = b"".join(name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks of a WebP file."""
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
