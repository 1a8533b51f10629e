"""The weighted mean of two checkpoints of one network: python -m training.average FIRST SECOND OUT --share 0.6

Weights that one training led on to other data lie near those that it began with, and their mean is often better than
both on all of it (Wortsman et al., Robust fine-tuning of zero-shot models, 2022). Two checkpoints of
quantisation-aware training are averaged with their ranges.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import arch
from export.cli import refuse_existing, run_command, summary
from export.quantizer import cover_weights
from training.errors import TrainingError


def average(first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) * first + share * second of two state dicts of one network; ranges still hold all weights.

    share: 0 to 1. Raises TrainingError where the two are of different networks, or one has ranges and the other none.
    """
    if not 0 <= share <= 1:
        raise TrainingError(f"the share is {share:g}; allowed are numbers from 0 to 1.")
    for key in sorted(first.keys() | second.keys()):
        sizes = [tuple(state[key].shape) if key in state else None for state in (first, second)]
        if sizes[0] != sizes[1]:
            raise TrainingError(
                f"the checkpoints are not of one network: {key} has the shapes {sizes[0]} and {sizes[1]}; give two "
                "float ones, or two of quantisation-aware training, of one configuration."
            )
        whole = not first[key].is_floating_point() and not key.endswith(".num_batches_tracked")
        if whole and not torch.equal(first[key], second[key]):
            raise TrainingError(f"the checkpoints are not of one network: {key} differs, and has no mean.")
    mean = {k: v.float().lerp(second[k].float(), share) if v.is_floating_point() else v for k, v in first.items()}
    cover_weights(mean)
    return mean


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.average", description=summary(__doc__))
    parser.add_argument("first", metavar="FIRST", type=Path, help="checkpoint, .safetensors or .pth")
    parser.add_argument("second", metavar="SECOND", type=Path, help="checkpoint of the same network")
    parser.add_argument("target", metavar="OUT", type=Path, help="their mean, .safetensors or .pth")
    parser.add_argument("--share", type=float, default=0.5, help="of SECOND, 0 to 1 (0.5)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")
    args = parser.parse_args(argv)

    def run() -> None:
        refuse_existing(args.target, args.overwrite)
        first, second = (arch.read_checkpoint(path) for path in (args.first, args.second))
        arch.write_checkpoint(average(first, second, args.share), args.target)
        print(f"{args.target}: {args.target.stat().st_size:,} bytes")

    return run_command("training.average", run)


if __name__ == "__main__":
    raise SystemExit(main())
