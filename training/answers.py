"""Answers to training images, computed once: python -m training.answers --data DIR --out DIR --first NET [--mean NET]

Each image is reduced as in training, answered by the networks, and written to OUT/NAME.npy, (H, W, 3) uint8 with the
image's H and W: what `answers` of a configuration names. With --mean, an answer is made of tiles: each is the
first network's or the mean of the others', whichever is nearer to the image, so that a network that was trained on
photos alone does not teach what it never saw. What begins as --only names (text, clip art) has the first network's.

A network is a checkpoint or a released network's name, as `arch.load` reads them, or FILE.py:FUNCTION, a function that
returns a torch module which takes (N, 3, h, w) in [0, 1] and returns (N, 3, s*h, s*w).
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import arch
from presets.command import run_command
from presets.files import write as write_file
from training.data import reduced
from training.errors import DataError
from training.images import read_images

TILE, OVERLAP = 128, 8  # LR pixels: the inside of a tile, and what a network sees around it
TOGETHER = 16  # tiles


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.answers", description="Compute answers to training images."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of images or .tar shards of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the answers")
    parser.add_argument(
        "--first", required=True, metavar="NET", help="a checkpoint, a released network, or FILE.py:FUNCTION"
    )
    parser.add_argument("--mean", nargs="+", default=[], metavar="NET", help="networks whose mean competes with it")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="beginnings of names for --first alone")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    torch.backends.cudnn.allow_tf32 = False  # half precision is up to four code values off
    return run_command("training.answers", lambda: answer_all(args))


def answer_all(args: argparse.Namespace) -> None:
    """Write the answers to all images. Raises DataError or arch.CheckpointError for what cannot be used."""
    first, *others = [load(name, args.scale).to(args.device) for name in (args.first, *args.mean)]
    images, skipped = read_images(args.data, 4 * args.scale)
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    began, shares = time.monotonic(), []
    for name, image in images.items():
        alone = not others or Path(name).name.startswith(tuple(args.only))
        given, share = answer(image, first, [] if alone else others, args.scale, args.device)
        write(args.out / f"{name}.npy", given)
        shares.append(share)
    share, seconds = float(np.mean(shares)), time.monotonic() - began
    print(f"{len(images)} answers, {share:.0%} of the tiles the others', {seconds:.0f} s", flush=True)


def load(name: str, scale: int) -> nn.Module:
    """A network of a checkpoint or of FILE.py:FUNCTION, in eval mode; DataError where it is none of this scale."""
    path, colon, function = name.rpartition(":")
    try:
        if colon and path.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(path).stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            network = getattr(module, function)()
        else:
            network = arch.fuse(arch.load(name))
    except (ImportError, FileNotFoundError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{name} is no network: {error}.") from None
    if not isinstance(network, nn.Module):
        raise DataError(f"{name} returned {type(network).__name__}; a torch module is needed.")
    network.eval()
    with torch.inference_mode():
        shape = tuple(network(torch.zeros(1, 3, 32, 32)).shape)
    if shape != (1, 3, 32 * scale, 32 * scale):
        raise DataError(f"{name} makes {shape} of (1, 3, 32, 32); needed is {(1, 3, 32 * scale, 32 * scale)}.")
    return network


@torch.inference_mode()
def answer(
    image: NDArray[np.uint8], first: nn.Module, others: list[nn.Module], scale: int, device: str
) -> tuple[NDArray[np.uint8], float]:
    """The answer (H, W, 3) to an image (H, W, 3), and the share of its tiles that the others gave.

    What H and W are over a multiple of `scale` is copied from the image.
    """
    h, w = image.shape[0] // scale, image.shape[1] // scale
    whole = torch.from_numpy(image[: h * scale, : w * scale].copy()).to(device).permute(2, 0, 1).float()
    lr = reduced(whole, scale) / 255
    ys, xs = ([min(p, max(side - TILE, 0)) for p in range(0, side, TILE)] for side in (h, w))
    places = [(y, x) for y in ys for x in xs]
    out, taken = whole.clone(), 0
    for at in range(0, len(places), TOGETHER):
        group = places[at : at + TOGETHER]
        # every tile of an image has one size; what lies over its edge is its edge, repeated
        seen = torch.stack([_window(lr, y, x) for y, x in group])
        mine = _inner(first(seen), scale)
        theirs = _inner(torch.stack([net(seen) for net in others]).mean(0), scale) if others else mine
        for (y, x), one, other in zip(group, mine, theirs, strict=True):
            part = (slice(None), slice(y * scale, y * scale + one.shape[1]), slice(x * scale, x * scale + one.shape[2]))
            nearer = bool((other - whole[part]).square().mean() < (one - whole[part]).square().mean())
            out[part] = other if nearer else one
            taken += nearer
    result = image.copy()
    result[: h * scale, : w * scale] = out.permute(1, 2, 0).byte().cpu().numpy()
    return result, taken / len(places)


def _window(lr: Tensor, y: int, x: int) -> Tensor:
    """The tile of (3, h, w) at y, x with what lies around it, edges repeated."""
    rows, columns = (
        torch.arange(start - OVERLAP, start + min(TILE, side) + OVERLAP, device=lr.device).clamp(0, side - 1)
        for start, side in ((y, lr.shape[1]), (x, lr.shape[2]))
    )
    return lr[:, rows][:, :, columns]


def _inner(sr: Tensor, scale: int) -> Tensor:
    """Tiles' answers without their surroundings, as levels 0..255."""
    cut = OVERLAP * scale
    return (sr.float()[:, :, cut:-cut, cut:-cut].clamp(0, 1) * 255).round()


def write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an array as .npy, which appears only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.save(content, pixels, allow_pickle=False)
    write_file(path, content.getvalue())


if __name__ == "__main__":
    sys.exit(main())
