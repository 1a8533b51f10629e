"""A Dolby Vision configuration (dvcC, dvvC) put into an MP4 of HEVC, which FFmpeg cannot be asked to write."""

import struct
from collections.abc import Iterator
from pathlib import Path

_WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1")
_AHEAD = {b"stsd": 8, b"hev1": 78}  # bytes of a box before the boxes in it


def mark(path: Path, profile: int, compatibility: int) -> Path:
    """Say in a file, whose index is at its end, that its video is Dolby Vision of a profile."""
    data = bytearray(path.read_bytes())
    at, end, way = 0, len(data), []
    for wanted in _WAY:
        at, size = next((at, size) for at, size, kind in _boxes(data, at, end) if kind == wanted)
        way.append(at)
        at, end = at + 8 + _AHEAD.get(wanted, 0), at + size
    flags = profile << 9 | 1 << 3 | 0b101  # level 1; metadata and base layer are there
    record = struct.pack(">BBHB19x", 1, 0, flags, compatibility << 4)
    box = struct.pack(">I4s", 8 + len(record), b"dvvC" if profile > 7 else b"dvcC") + record
    data[end:end] = box
    for place in way:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(box))
    path.write_bytes(data)
    return path


def _boxes(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while at < end:
        size, kind = struct.unpack_from(">I4s", data, at)
        yield at, size, kind
        at += size
