"""Training data: images decoded once into memory; crops and LR made on the fly, a pure function of the step."""

from __future__ import annotations

import io
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from export.pictures import decode

if TYPE_CHECKING:
    from training.degrade import Video

Pair = tuple[Tensor, NDArray[np.uint8]]  # LR (1, 3, h, w) in [0, 1] and HR (H, W, 3)

VALIDATION_CROP = 256  # HR pixels
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class DataError(ValueError):
    """The training data is missing or unusable; the message says what was given and what is needed."""


def read_images(root: Path, minimum: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Every image under `root` (image files, and .tar files of them) as name: (H, W, 3) uint8, in name order.

    Images that cannot be decoded or whose shorter side is under `minimum` are left out; the list says which
    and why. Raises DataError where nothing is left or a .tar is damaged.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder of training images.")
    images: dict[str, np.ndarray] = {}
    skipped: list[str] = []
    for name, file in _files(root):
        try:
            pixels = decode(file)
        except ValueError as error:
            skipped.append(f"{name}: {error}")
            continue
        if min(pixels.shape[:2]) < minimum:
            skipped.append(f"{name}: {pixels.shape[1]}x{pixels.shape[0]} is smaller than a crop of {minimum}")
            continue
        images[name] = pixels
    if not images:
        raise DataError(f"{root}: no usable image (.tar shards or {', '.join(SUFFIXES)}); {len(skipped)} were skipped.")
    return images, skipped


def _files(root: Path) -> Iterator[tuple[str, io.BytesIO | Path]]:
    for path in sorted(root.rglob("*")):
        if path.suffix == ".tar":
            try:
                with tarfile.open(path) as tar:
                    for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
                        if member.name.lower().endswith(SUFFIXES):
                            file = tar.extractfile(member)
                            assert file is not None
                            yield f"{path.relative_to(root)}/{member.name}", io.BytesIO(file.read())
            except (tarfile.TarError, EOFError, zlib.error) as error:
                raise DataError(f"{path}: a damaged shard ({error}); copy it again, or take it away.") from None
        elif path.suffix.lower() in SUFFIXES:
            yield str(path.relative_to(root)), path


def cubic_matrix(size: int, scale: int) -> Tensor:
    """(size / scale, size) matrix of antialiased bicubic downscaling (a = -0.5, symmetric borders), as MATLAB's.

    `size` must be a multiple of `scale`.
    """
    out = size // scale
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) * scale - 0.5
    taps = torch.arange(-2 * scale, 2 * scale + 1)
    index = centre.floor().long()[:, None] + taps
    x = ((centre[:, None] - index) / scale).abs()
    weight = torch.where(
        x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, torch.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0)
    )
    weight /= weight.sum(1, keepdim=True)
    index = torch.where(index < 0, -1 - index, index)
    index = torch.where(index >= size, 2 * size - 1 - index, index)
    return torch.zeros(out, size, dtype=torch.float64).scatter_add_(1, index, weight).float()


class Batches:
    """Random training batches; `batch(step)` depends on (seed, step) alone, so that a resumed run sees the same.

    Each batch is (lr, hr): float32 in [0, 1], (N, 3, p, p) and (N, 3, s*p, s*p). LR is made by `video`, or `reduced` by
    bicubic to 8 bit as the benchmarks' images are. Crops are drawn in proportion to image area times `share`, then
    flipped and transposed at random. A share `flat` of them is one constant colour, the same in LR and HR: a flat
    picture must stay flat, and no photo teaches that. In a share `bilevel` every channel is 0 or 255 at every pixel, of
    HR by a random threshold, of LR by the majority of HR's pixels: without them a network may diverge on dithers.
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
    ) -> None:
        self.images = [torch.from_numpy(i).to(device) for i in images.values()]
        area = np.array([i.shape[0] * i.shape[1] * share(n, shares or {}) for n, i in images.items()], dtype=np.float64)
        if not area.any():
            raise DataError(f"shares = {shares} leave no image to draw from.")
        self.share = area / area.sum()
        self.scale, self.patch, self.size, self.seed, self.flat = scale, patch, batch, seed, flat
        self.device, self.video, self.bilevel = device, video, bilevel
        self.shrink = cubic_matrix(patch * scale, scale).to(device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step, on the device."""
        rng = np.random.default_rng((self.seed, step))
        side = self.video.side if self.video else self.patch * self.scale
        crops, flat = [], []
        bilevel: dict[int, tuple[float, bool]] = {}  # threshold, and whether LR is set where half of HR's pixels are
        for number, index in enumerate(rng.choice(len(self.images), size=self.size, p=self.share)):
            image = self.images[index]
            y = rng.integers(0, image.shape[0] - side + 1)
            x = rng.integers(0, image.shape[1] - side + 1)
            crop = image[y : y + side, x : x + side]
            flips = [axis for axis in (0, 1) if rng.random() < 0.5]
            crop = crop.flip(flips) if flips else crop
            crop = crop.transpose(0, 1) if rng.random() < 0.5 else crop
            if rng.random() < self.flat:
                colour = torch.from_numpy(rng.integers(0, 256, 3, dtype=np.uint8)).to(self.device)
                kind = rng.random()
                if kind < 0.3:  # grey, black and white included
                    colour = colour[:1].expand(3)
                elif kind < 0.6:  # the corners of the cube are the hardest, above all at the picture's border
                    colour = torch.where(colour < 128, 0, 255).to(torch.uint8)
                crop = colour.expand(side, side, 3)
                flat.append(number)
            elif self.bilevel and rng.random() < self.bilevel:
                bilevel[number] = (rng.uniform(0.25, 0.75), rng.random() < 0.5)
            crops.append(crop)
        hr = torch.stack(crops).permute(0, 3, 1, 2).float()
        lr, hr = self.video(hr / 255, rng) if self.video else (reduced(hr, self.shrink) / 255, hr / 255)
        lr[flat] = hr[flat, :, : self.patch, : self.patch]  # a codec's noise on them would hide what they teach
        for number, (threshold, half) in bilevel.items():
            hr[number] = (hr[number] > threshold).float()
            mean = F.avg_pool2d(hr[number], self.scale)
            lr[number] = (mean >= 0.5 if half else mean > 0.5).float()
        return lr.contiguous(memory_format=torch.channels_last), hr.contiguous(memory_format=torch.channels_last)


def reduced(hr: Tensor, shrink: Tensor) -> Tensor:
    """(..., H, W) of levels 0..255 -> LR of levels, by `shrink` of `cubic_matrix`.

    Rounded and saturated after each pass, rows first, as `export.metrics.imresize` does on uint8. For scales 2 and 4
    levels and weights are exact in float32, and the result is the same to the bit.
    """
    return _levels(_levels(shrink @ hr) @ shrink.T)


def _levels(x: Tensor) -> Tensor:
    return x.add_(0.5).floor_().clamp_(0, 255)


def share(name: str, shares: dict[str, float]) -> float:
    """What `shares` gives a file by the beginning of its name, such as {"text": 0.3} to text_1.png; 1 otherwise."""
    return next((value for prefix, value in shares.items() if Path(name).name.startswith(prefix)), 1.0)


def validation_set(root: Path, scale: int, video: type[Video] | None = None, most: int = 16) -> list[Pair]:
    """(LR tensor, HR uint8) pairs of centre crops; LR made as in training, the same in every call."""
    degrade = video(scale, VALIDATION_CROP // scale, "cpu") if video else None
    crop = degrade.side if degrade else VALIDATION_CROP // scale * scale
    images, skipped = read_images(root, crop)
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    pairs: list[Pair] = []
    shrink = cubic_matrix(crop, scale)
    evenly = np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)  # names begin with the kind
    for number, image in enumerate(list(images.values())[i] for i in evenly):
        y, x = (image.shape[0] - crop) // 2, (image.shape[1] - crop) // 2
        hr = image[y : y + crop, x : x + crop]
        t = torch.from_numpy(hr.copy()).permute(2, 0, 1).float()
        if degrade:
            lr, target = degrade(t[None] / 255, np.random.default_rng(number))
            pairs.append((lr, target[0].mul(255).round().byte().permute(1, 2, 0).numpy()))
        else:
            pairs.append((reduced(t, shrink)[None] / 255, hr))
    return pairs
