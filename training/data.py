"""Training batches: images put onto the device once; crops by indexing there, a pure function of the step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from export.metrics import cubic
from training.errors import DataError
from training.images import validation_crops

if TYPE_CHECKING:
    from training.degrade import Video

Pair = tuple[Tensor, NDArray[np.uint8]]  # LR (1, 3, h, w) in [0, 1] and HR (H, W, 3)

VALIDATION_CROP = 256  # HR pixels
NORMAL, FLAT, BILEVEL = range(3)
COLUMNS = 13  # of a table of crops, see Batches.draw
TABLES = 64


class Batch(NamedTuple):
    """Crops on the device, float32 in [0, 1]: LR (N, 3, p, p); HR and the precomputed answer (N, 3, s*p, s*p).

    Without precomputed answers `answer` is `hr`.
    """

    lr: Tensor
    hr: Tensor
    answer: Tensor


def reduced(hr: Tensor, scale: int) -> Tensor:
    """(..., H, W) of levels 0..255 -> LR (..., H / scale, W / scale) of levels: bicubic with antialiasing, as MATLAB's.

    Keys' kernel with a = -0.5, symmetric borders, rounded and saturated after each pass, rows first, as
    `export.metrics.imresize` does on uint8: for scales 2 and 4 levels and weights are exact in float32, and the result
    is the same to the bit. H and W must be multiples of `scale`, and at least twice of it.
    """
    reach = 2 * scale
    weights = cubic(np.abs(np.arange(-reach, reach + 1) - (scale - 1) / 2 + (scale - 1) // 2) / scale)
    taps = (weights / weights.sum()).tolist()
    start = (scale - 1) // 2  # of the first output's taps, in the padded row
    for axis in (-2, -1):
        size = hr.shape[axis]
        before, after = (hr.narrow(axis, start, reach).flip(axis) for start in (0, size - reach))
        padded = torch.cat([before, hr, after], axis).transpose(axis, -1)
        span = size - scale + 1
        total = sum(w * padded[..., start + k : start + k + span : scale] for k, w in enumerate(taps) if w)
        assert isinstance(total, Tensor)
        hr = total.add_(0.5).floor_().clamp_(0, 255).transpose(axis, -1)
    return hr


class Batches:
    """Random training batches; `batch(step)` depends on (seed, step) alone, so that a resumed run sees the same.

    LR is made of the whole images once, by bicubic to 8 bit as the benchmarks' images are (`reduced`), or of every
    crop by `video`. Crops are drawn in proportion to image area times `share`, then flipped and transposed at random.
    A share `flat` of them is one constant colour, the same in LR and HR: a flat picture must stay flat, and no photo
    teaches that. In a share `bilevel` every channel is 0 or 255 at every pixel, of HR by a random threshold, of LR by
    the majority of HR's pixels: without them a network may diverge on dithers.

    Everything lies on the device. `load` copies the table of a step's crops there, and `crops` makes them of it and
    asks the host for nothing, so that it can be part of a CUDA graph.
    """

    def __init__(
        self,
        images: dict[str, np.ndarray],
        scale: int,
        patch: int,
        batch: int,
        *,
        seed: int,
        flat: float,
        device: str,
        video: Video | None = None,
        shares: dict[str, float] | None = None,
        bilevel: float = 0.0,
        answers: dict[str, np.ndarray] | None = None,
    ) -> None:
        area = np.array([i.shape[0] * i.shape[1] * share(n, shares or {}) for n, i in images.items()], dtype=np.float64)
        if not area.any():
            raise DataError(f"shares = {shares} leave no image to draw from.")
        self.share = area / area.sum()
        self.scale, self.patch, self.size, self.seed = scale, patch, batch, seed
        self.device, self.video, self.flat, self.bilevel = device, video, flat, bilevel
        sides = [(i.shape[0] // scale * scale, i.shape[1] // scale * scale) for i in images.values()]
        self.sides = np.array(sides, dtype=np.int64)
        self.start = np.concatenate([[0], np.cumsum(self.sides.prod(1))])
        self.hr = self._store(1)
        self.lr = torch.empty(0, 3) if video else self._store(scale)
        for (h, w), at, image in zip(sides, self.start, images.values(), strict=False):
            pixels = torch.from_numpy(image[:h, :w]).to(device)
            self.hr[at : at + h * w] = pixels.reshape(-1, 3)
            if not video:
                small = reduced(pixels.permute(2, 0, 1).float(), scale).permute(1, 2, 0)
                self.lr[at // scale**2 : (at + h * w) // scale**2] = small.reshape(-1, 3).byte()
        self.table = torch.zeros(batch, COLUMNS, dtype=torch.int64, device=device)
        self.tables, self.first = torch.zeros(0, batch, COLUMNS, dtype=torch.int64), 0
        self.rng = np.random.default_rng(0)
        self.answers = self._store(1) if answers else None
        for (h, w), at, name in zip(sides, self.start, images, strict=False):
            if answers and self.answers is not None:
                self.answers[at : at + h * w] = torch.from_numpy(answers[name][:h, :w].copy()).view(-1, 3).to(device)

    def _store(self, divisor: int) -> Tensor:
        """Room for the pixels of all images, one after the other, `divisor` times smaller."""
        return torch.empty(int(self.start[-1]) // divisor**2, 3, dtype=torch.uint8, device=self.device)

    def draw(self, step: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        """The table (N, COLUMNS) of a step's crops, and the generator after it, for `video`.

        Columns: first HR pixel and pixels a row; the same of LR; whether to flip rows, to flip columns, to transpose;
        NORMAL, FLAT or BILEVEL; red, green and blue of a flat crop; the threshold of HR's levels of a bilevel one, and
        whether its LR is set where half of HR's pixels are.
        """
        rng = np.random.default_rng((self.seed, step))
        n, grid = self.size, 1 if self.video else self.scale
        side = (self.video.side if self.video else self.patch * self.scale) // grid
        image = rng.choice(len(self.sides), size=n, p=self.share)
        room = self.sides[image] // grid - side + 1
        y, x = (rng.random((n, 2)) * room).astype(np.int64).T
        width = self.sides[image, 1]
        table = np.zeros((n, COLUMNS), np.int64)
        table[:, 0] = self.start[image] + (y * width + x) * grid
        table[:, 1] = width
        table[:, 2] = self.start[image] // grid**2 + y * (width // grid) + x
        table[:, 3] = width // grid
        table[:, 4:7] = rng.integers(0, 2, (n, 3))
        kind = rng.random((n, 2))
        table[:, 7] = np.where(kind[:, 0] < self.flat, FLAT, np.where(kind[:, 1] < self.bilevel, BILEVEL, NORMAL))
        colour, which = rng.integers(0, 256, (n, 3)), rng.random((n, 1))
        corner = np.where(colour < 128, 0, 255)  # of the cube: the hardest, above all at the picture's border
        table[:, 8:11] = np.where(which < 0.3, colour[:, :1], np.where(which < 0.6, corner, colour))
        table[:, 11] = rng.integers(64, 192, n)
        table[:, 12] = rng.integers(0, 2, n)
        return table, rng

    def load(self, step: int) -> None:
        """Make `crops` those of a step. Tables are drawn and sent for TABLES steps at once, without waiting."""
        if self.video:
            table, self.rng = self.draw(step)
            self.table.copy_(torch.from_numpy(table))
            return
        if not self.first <= step < self.first + len(self.tables):
            drawn = torch.from_numpy(np.stack([self.draw(s)[0] for s in range(step, step + TABLES)]))
            on_gpu = torch.device(self.device).type == "cuda"
            self.tables = (drawn.pin_memory() if on_gpu else drawn).to(self.device, non_blocking=True)
            self.first = step
        self.table.copy_(self.tables[step - self.first])

    def crops(self) -> Batch:
        """The crops of the step that was loaded."""
        table, side = self.table, self.patch * self.scale
        if self.video:
            lr, hr = self.video(self._cut(self.hr, 0, self.video.side), self.rng)
        else:
            lr, hr = self._cut(self.lr, 2, self.patch), self._cut(self.hr, 0, side)
        answer = None if self.answers is None else self._cut(self.answers, 0, side)
        columns = table.view(-1, COLUMNS, 1, 1)
        kind = columns[:, 7:8]
        if self.bilevel:
            white = (hr > columns[:, 11:12] / 255).float()
            mean, half = F.avg_pool2d(white, self.scale), columns[:, 12:13] > 0
            hr = torch.where(kind == BILEVEL, white, hr)
            lr = torch.where(kind == BILEVEL, torch.where(half, mean >= 0.5, mean > 0.5).float(), lr)
        if self.flat:  # after `video`: a codec's noise on them would hide what they teach
            colour = columns[:, 8:11] / 255
            hr, lr = torch.where(kind == FLAT, colour, hr), torch.where(kind == FLAT, colour, lr)
        if answer is not None:  # no network answers these better than they are
            answer = torch.where(kind == NORMAL, answer, hr).contiguous(memory_format=torch.channels_last)
        lr, hr = (x.contiguous(memory_format=torch.channels_last) for x in (lr, hr))
        return Batch(lr, hr, hr if answer is None else answer)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        self.load(step)
        return self.crops()

    def _cut(self, store: Tensor, column: int, side: int) -> Tensor:
        """Crops (N, 3, side, side) in [0, 1], flipped and transposed as the table says.

        column: the table's first of their two, where a crop begins and how long the rows are.
        """
        start, width, flip_y, flip_x, transpose = (
            self.table[:, k].view(-1, 1, 1) for k in (column, column + 1, 4, 5, 6)
        )
        along = torch.arange(side, device=store.device)
        i, j = along.view(1, -1, 1), along.view(1, 1, -1)
        y, x = torch.where(transpose > 0, j, i), torch.where(transpose > 0, i, j)
        y, x = torch.where(flip_y > 0, side - 1 - y, y), torch.where(flip_x > 0, side - 1 - x, x)
        return store[start + y * width + x].permute(0, 3, 1, 2).float() / 255


def share(name: str, shares: dict[str, float]) -> float:
    """What `shares` gives a file by the beginning of its name, such as {"text": 0.3} to text_1.png; 1 otherwise."""
    return next((value for prefix, value in shares.items() if Path(name).name.startswith(prefix)), 1.0)


def validation_set(root: Path, scale: int, video: type[Video] | None = None) -> list[Pair]:
    """(LR tensor, HR uint8) pairs of centre crops; LR made as in training, the same in every call."""
    degrade = video(scale, VALIDATION_CROP // scale, "cpu") if video else None
    crop = degrade.side if degrade else VALIDATION_CROP // scale * scale
    pairs: list[Pair] = []
    for number, hr in enumerate(validation_crops(root, crop).values()):
        t = torch.from_numpy(hr).permute(2, 0, 1).float()
        if degrade:
            lr, target = degrade(t[None] / 255, np.random.default_rng(number))
            pairs.append((lr, target[0].mul(255).round().byte().permute(1, 2, 0).numpy()))
        else:
            pairs.append((reduced(t, scale)[None] / 255, hr))
    return pairs
