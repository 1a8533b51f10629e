"""Double of chaiNNer's image sizes and regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def get_h_w_c(image: np.ndarray) -> tuple[int, int, int]:
    return image.shape[0], image.shape[1], 1 if image.ndim == 2 else image.shape[2]


@dataclass(frozen=True)
class Padding:
    each: int

    @staticmethod
    def all(value: int) -> Padding:
        return Padding(value)


@dataclass(frozen=True)
class Region:
    x: int
    y: int
    width: int
    height: int

    def intersect(self, other: Region) -> Region:
        x, y = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        return Region(x, y, right - x, min(self.y + self.height, other.y + other.height) - y)

    def add_padding(self, pad: Padding) -> Region:
        return Region(self.x - pad.each, self.y - pad.each, self.width + 2 * pad.each, self.height + 2 * pad.each)

    def read_from(self, image: np.ndarray) -> np.ndarray:
        return image[self.y : self.y + self.height, self.x : self.x + self.width]
