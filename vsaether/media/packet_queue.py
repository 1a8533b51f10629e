"""Packets that wait, first in, first out: few in memory, and the rest in a temporary file, however many there are."""

import json
import struct
import tempfile
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
from av.stream import Stream

from vsaether.errors import MediaError

from .packets import described, restored

_MOST = 4 << 20  # bytes of packets which are held in memory
_EACH = 512  # bytes that a packet takes besides its data
_LENGTH = struct.Struct("<I")


class PacketQueue:
    """A queue of packets. Beyond some megabytes they wait in a file of a ``folder``, which nobody else sees.

    Packets come back with all that containers keep of them. Raises MediaError where the disk does not take them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._first: deque[av.Packet] = deque()
        self._held = 0
        self._streams: dict[int, Stream] = {}
        self._file: IO[bytes] | None = None
        self._read = self._written = 0  # bytes of the file
        self._filed = 0

    def __len__(self) -> int:
        return len(self._first) + self._filed

    @property
    def filed(self) -> int:
        """How many of them are in the file."""
        return self._filed

    @property
    def head(self) -> av.Packet:
        """The first packet, which stays where it is. Raises IndexError where there is none."""
        if not self._first:
            self._load()
        return self._first[0]

    def append(self, packet: av.Packet) -> None:
        """Put a packet behind the others."""
        if self._filed or self._held >= _MOST:
            self._save(packet)
        else:
            self._first.append(packet)
            self._held += packet.size + _EACH

    def popleft(self) -> av.Packet:
        """Take the first packet. Raises IndexError where there is none."""
        packet = self.head
        self._held -= packet.size + _EACH
        return self._first.popleft()

    def _save(self, packet: av.Packet) -> None:
        told, parts = described(packet)
        base = packet.time_base
        header = json.dumps([packet.stream_index, base.numerator, base.denominator, packet.is_corrupt, told]).encode()
        self._streams[packet.stream_index] = packet.stream
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115, lives as long as the queue
            self._file.seek(self._written)
            self._file.write(_LENGTH.pack(len(header)) + header)
            for part in parts:
                self._file.write(part)
            self._written = self._file.tell()
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise MediaError(f"cannot keep packets in a temporary file in {where}: {error.strerror}") from error
        self._filed += 1

    def _load(self) -> None:
        if self._file is None or not self._filed:
            return
        self._file.seek(self._read)
        while self._filed and self._held < _MOST // 2:
            (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
            stream, numerator, denominator, corrupt, told = json.loads(self._file.read(length))
            packet = restored(told, self._file)
            if denominator:
                packet.time_base = Fraction(numerator, denominator)
            packet.stream = self._streams[stream]
            packet.is_corrupt = corrupt
            self._first.append(packet)
            self._held += packet.size + _EACH
            self._filed -= 1
        self._read = self._file.tell()
        if not self._filed:
            self._read = self._written = 0
            self._file.truncate(0)
