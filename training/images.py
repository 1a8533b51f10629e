"""Images as training takes them: folders of files and .tar shards, decoded; and the answers to them."""

from __future__ import annotations

import io
import sys
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.pictures import decode
from training.errors import DataError

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_images(root: Path, minimum: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Every image under `root` (image files, and .tar files of them) as name: (H, W, 3) uint8, in name order.

    Images that cannot be decoded or whose shorter side is under `minimum` are left out; the list says which
    and why. Raises DataError where nothing is left or a .tar is damaged.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder of training images.")
    images: dict[str, np.ndarray] = {}
    skipped: list[str] = []
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside of Python's lock
        for name, pixels in pool.map(_decode, encoded(root)):
            if isinstance(pixels, str):
                skipped.append(f"{name}: {pixels}")
            elif min(pixels.shape[:2]) < minimum:
                skipped.append(f"{name}: {pixels.shape[1]}x{pixels.shape[0]} is smaller than a crop of {minimum}")
            else:
                images[name] = pixels
    if not images:
        raise DataError(f"{root}: no usable image (.tar shards or {', '.join(SUFFIXES)}); {len(skipped)} were skipped.")
    return images, skipped


def _decode(item: tuple[str, io.BytesIO | Path]) -> tuple[str, np.ndarray | str]:
    """An image's name, and its pixels or why there are none."""
    name, file = item
    try:
        return name, decode(file)
    except ValueError as error:
        return name, str(error)


def encoded(root: Path) -> Iterator[tuple[str, io.BytesIO | Path]]:
    """Name and file of every image under `root`, those in .tar files included, in name order.

    Raises DataError where a .tar is damaged.
    """
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


def read_answers(folder: Path, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The answer that `training.answers` wrote for each image, (H, W, 3) uint8; DataError where one is missing."""
    answers: dict[str, np.ndarray] = {}
    for name, image in images.items():
        path = folder / f"{name}.npy"
        try:
            answers[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no answer to {name} ({error}); run training.answers on these images.") from None
        if answers[name].shape != image.shape or answers[name].dtype != np.uint8:
            shape = f"{answers[name].dtype} {answers[name].shape}"
            raise DataError(f"{path} holds {shape}; the image {name} is uint8 {image.shape}.")
    return answers


def validation_crops(root: Path, crop: int, most: int = 16) -> dict[str, NDArray[np.uint8]]:
    """Centre crops (crop, crop, 3) of up to `most` images of a folder, evenly from the first to the last."""
    images, skipped = read_images(root, crop)
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    chosen: dict[str, NDArray[np.uint8]] = {}
    evenly = np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)  # names begin with the kind
    for name, image in [list(images.items())[i] for i in evenly]:
        y, x = (image.shape[0] - crop) // 2, (image.shape[1] - crop) // 2
        chosen[name] = image[y : y + crop, x : x + crop].copy()
    return chosen
