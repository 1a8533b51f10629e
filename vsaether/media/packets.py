"""A file of encoded packets, exactly as the encoder made them.

No container keeps of every codec the times, durations and side data: NUT drops durations, Matroska rounds times, MP4
refuses codecs. So this is the packets' bytes one behind the other, then an index as JSON, then its length in 8 bytes.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
from av.packet import PacketSideData, packet_sidedata_type_from_literal

from presets import files
from presets.errors import AetherNetError
from vsaether.errors import MediaError

from .formats import fraction

_LENGTH = struct.Struct("<Q")
_IDLE = ("quality_stats",)  # for whoever runs the encoder; no container has it
_AT_ONCE = 1 << 20


class DamagedError(AetherNetError, ValueError):
    """A file of packets is not what was written."""


class PacketWriter:
    """Writes a file of packets, which gets its name with ``commit``; ``abandon`` leaves nothing.

    Raises MediaError where the disk does not take it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._index: list[list[Any]] = []
        self._time_base: Fraction | None = None
        self._pending = files.temporary(path)
        try:
            self._file = open(self._pending, "xb")  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error

    def abandon(self) -> None:
        """Remove what was written, if it has no name yet."""
        with suppress(OSError):  # what the disk did not take it is offered again
            self._file.close()
        self._pending.unlink(missing_ok=True)

    def put(self, packet: av.Packet) -> None:
        """Write a packet. All have the time base of the first."""
        self._time_base = self._time_base or fraction(packet.time_base)
        told, parts = described(packet)
        self._index.append(told)
        for part in parts:
            self._write(part)

    def commit(self) -> None:
        """Write the index, flush to the disk, and give the file its name."""
        base = self._time_base or Fraction(1)
        index = json.dumps({"time_base": [base.numerator, base.denominator], "packets": self._index}).encode()
        self._write(index)
        self._write(_LENGTH.pack(len(index)))
        try:
            files.flush(self._file)
            self._file.close()
            self._pending.replace(self.path)
            files.sync(self.path.parent)
        except OSError as error:
            raise self._failed(error) from error

    def _write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.size += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> MediaError:
        return MediaError(f"cannot write {self.path}: {error.strerror}")


def read(path: Path) -> Iterator[av.Packet]:
    """The packets of a file, in the order of decoding.

    Raises DamagedError where it is not one, or OSError; whether it is what was written only its hash tells.
    """
    with open(path, "rb") as file:
        try:
            file.seek(-_LENGTH.size, os.SEEK_END)
            end = file.tell()
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            file.seek(end - length)
            index = json.loads(file.read(length))
            base = Fraction(*index["time_base"])
            packets = list(index["packets"])
        except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
            raise DamagedError(f"{path} is damaged") from error
        file.seek(0)
        for told in packets:
            packet = restored(told, file)
            packet.time_base = base
            yield packet


def described(packet: av.Packet) -> tuple[list[Any], list[bytes]]:
    """What a packet is besides its bytes, as JSON can tell it, and its bytes: those of the data, then of side data."""
    extra = [(side.data_type, bytes(side)) for side in packet.iter_sidedata()]
    extra = [(kind, data) for kind, data in extra if kind not in _IDLE]
    told = [packet.size, packet.pts, packet.dts, packet.duration, packet.is_keyframe]
    return [*told, [[kind, len(data)] for kind, data in extra]], [bytes(packet), *(data for _, data in extra)]


def restored(told: list[Any], file: IO[bytes]) -> av.Packet:
    """The packet that was ``described`` so, its bytes read from a file. Its time base is not set."""
    size, pts, dts, duration, key, extra = told
    packet = av.Packet(file.read(size))
    packet.pts, packet.dts, packet.duration = pts, dts, duration
    packet.is_keyframe = key
    for kind, count in extra:
        side = PacketSideData(packet_sidedata_type_from_literal(kind), count)  # pyright: ignore[reportCallIssue]
        side.update(file.read(count))
        packet.set_sidedata(side)
    return packet
