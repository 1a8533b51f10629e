"""EXIF data and ICC profiles in JPEG and WebP files, where FFmpeg's encoders leave them out."""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext

_APP1_MOST = 0xFFFF - 2
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


def add_to_jpeg(data: bytes, exif: bytes) -> bytes:
    """A JPEG file with EXIF data as its first segment. More than one segment can hold is left out."""
    payload = b"Exif\0\0" + exif
    if len(payload) > _APP1_MOST:
        return data
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def add_to_webp(data: bytes, size: tuple[int, int], alpha: bool, exif: bytes | None, profile: bytes | None) -> bytes:
    """A WebP file in the extended format, with EXIF data and an ICC profile."""
    image = [(name, body) for name, body in _chunks(data) if name != b"VP8X"]
    chunks = [*([(b"ICCP", profile)] if profile else []), *image, *([(b"EXIF", exif)] if exif else [])]
    flags = sum({_WEBP_FLAGS.get(name, 0) for name, _ in chunks} | ({0x10} if alpha else set()))
    canvas = b"".join(struct.pack("<I", length - 1)[:3] for length in size)
    chunks.insert(0, (b"VP8X", struct.pack("<I", flags) + canvas))
    body = b"".join(name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
