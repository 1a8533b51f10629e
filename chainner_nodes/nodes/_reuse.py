"""Images that repeat are not computed again.

As vsaether/reuse.py does it for frames of VapourSynth, by reference and in its plugin. chaiNNer has arrays, and no
VapourSynth: so this is done with a dictionary.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np

from ._upscale import Run

KEPT = 256 << 20
"""Bytes of images and their results which are kept, those met last; one result always is."""


class Reuse:
    """A network's run that gives an earlier result again for an image that is equal in every bit.

    Images are looked up by their bytes, which a dictionary compares, so the result is what the run itself would give.
    """

    def __init__(self, run: Run, kept: int = KEPT) -> None:
        self._run = run
        self._limit = kept
        self._size = 0
        self._results: OrderedDict[tuple[tuple[int, ...], str, bytes], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """(1, C, H, W) -> the run's result."""
        key = batch.shape, batch.dtype.str, batch.tobytes()
        with self._lock:
            if (known := self._results.get(key)) is not None:
                self._results.move_to_end(key)
                return known.copy()
        result = self._run(batch)
        with self._lock:
            self._results[key] = result
            self._size += batch.nbytes + result.nbytes
            while self._size > self._limit and len(self._results) > 1:
                old, dropped = self._results.popitem(last=False)
                self._size -= len(old[2]) + dropped.nbytes
        return result.copy()
