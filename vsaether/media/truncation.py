"""Whether an image file is cut off, for the formats whose decoders do not tell: by the structure of the file."""

import struct


def is_cut(data: bytes) -> bool:
    """Whether a file ends before what it announces. False for formats whose decoders tell themselves."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(data)
        if data.startswith(b"qoif"):
            return b"\0\0\0\0\0\0\0\x01" not in data[-64:]
        if data.startswith(b"v/1\x01"):
            return _exr(data)
    except (IndexError, KeyError, ValueError, struct.error):
        return True
    return False


def _jpeg(data: bytes) -> bool:
    """Whether the end marker is missing, behind the segments and the scans."""
    at = 2
    while True:
        at = data.index(b"\xff", at)
        marker = data[at + 1]
        if marker == 0xD9:
            return False
        if marker == 0xFF:
            at += 1
        elif marker == 0 or marker == 1 or 0xD0 <= marker <= 0xD7:  # in the coded samples
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _gif(data: bytes) -> bool:
    """Whether the file ends within a block. (Some end without the closing byte.)"""
    flags = data[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x2C:
            flags = data[at + 9]
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        else:
            at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    return False


_EXR_LINES = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}
"""Lines of a chunk, by compression."""


def _exr(data: bytes) -> bool:
    """Whether a chunk of scan lines is missing. Tiles and several parts are not looked at."""
    if data[5] & 0b11010:
        return False
    at, facts = 8, {}
    while data[at]:
        name_end = data.index(0, at)
        kind_end = data.index(0, name_end + 1)
        size = struct.unpack_from("<I", data, kind_end + 1)[0]
        facts[data[at:name_end]] = data[kind_end + 5 : kind_end + 5 + size]
        at = kind_end + 5 + size
    _, top, _, bottom = struct.unpack("<4i", facts[b"dataWindow"])
    count = -(-(bottom - top + 1) // _EXR_LINES[facts[b"compression"][0]])
    for offset in struct.unpack_from(f"<{count}Q", data, at + 1):
        size = struct.unpack_from("<I", data, offset + 4)[0]
        if not offset or offset + 8 + size > len(data):
            return True
    return False
