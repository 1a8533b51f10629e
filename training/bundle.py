"""All that one training needs on a machine without network: python -m training.bundle CONFIG --data DIR --out DIR

OUT gets bundle.NN.tar, pieces of at most --piece-mib MiB and --max-mib MiB together, and run.sh, which on the other
machine (torch, numpy and Pillow are enough) unpacks what lies beside it, trains, and leaves results.tar.aa and so on.
Images are packed as JPEG of --quality without chroma subsampling, those with most detail a pixel first, until the room
is used up; an image that is smaller as it is stays so. Validation images are cut to what is looked at.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

import arch
from arch.checkpoint import pickled
from export.pictures import decode
from presets.command import run_command
from presets.files import write
from training.config import read_config
from training.data import VALIDATION_CROP
from training.errors import TrainingError
from training.images import encoded, validation_crops

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("arch", "export", "presets", "training")
MIB = 1 << 20

RUN = """#!/bin/sh
# Unpack, train, and leave the results: ./run.sh [FIT_MINUTES [QAT_MINUTES]]
# 0 leaves a stage out, "all" takes as many steps as the configuration says.
# Beside this file: the pieces bundle.*.tar. Results: results.tar.aa, .ab ... of at most 15 MiB, packed every two
# minutes and at the end; cat results.tar.* | tar -x gives the run's folder, which training.release takes.
# WORK: a folder to work in. RESULTS: where the results go. PREPARE: a command to run before training, in WORK.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-$here/work}; results=${RESULTS:-$here}; python=${PYTHON:-python3}
mkdir -p "$work" "$results"
for piece in "$here"/bundle.*.tar; do tar -xf "$piece" -C "$work"; done
cd "$work"
export PYTHONUNBUFFERED=1
pack() {  # complete or not there; one at a time
    [ -d run ] || return 0
    rm -rf packing && mkdir packing
    tar -cf - run | split -b 15728640 - packing/results.tar.
    rm -f "$results"/results.tar.*
    mv packing/results.tar.* "$results"/
}
if [ -n "${PREPARE:-}" ]; then sh -c "$PREPARE"; fi
(while sleep 120; do pack || true; done) > /dev/null 2>&1 & packer=$!  # its sleep must not hold the output open
trap 'kill $packer 2>/dev/null || true' EXIT
train() {
    minutes=$1; shift
    [ "$minutes" = all ] || set -- "$@" --fit-minutes "$minutes"
    "$python" -m training.train config.toml --data images --val val --out run "$@"
}
status=0
if [ "${1:-5}" != 0 ]; then train "${1:-5}" || status=$?; fi
if [ $status = 0 ] && [ "${2:-0}" != 0 ]; then train "$2" --stage qat || status=$?; fi
kill $packer 2>/dev/null || true
pack
exit $status
"""


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.bundle", description="Pack what one training needs.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of images or .tar shards of them")
    parser.add_argument("--val", type=Path, help="folder of validation images")
    parser.add_argument("--init", type=Path, help="checkpoint to begin with, instead of the configuration's")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pieces")
    parser.add_argument("--max-mib", type=float, default=60, help="of all pieces together (default: 60)")
    parser.add_argument("--piece-mib", type=float, default=25, help="of one piece (default: 25)")
    parser.add_argument("--quality", type=int, default=95, choices=range(50, 101), metavar="50..100")
    args = parser.parse_args(argv)
    return run_command("training.bundle", lambda: print(bundle(args)))


def bundle(args: argparse.Namespace) -> str:
    """Write the pieces and run.sh; returns a line that says what is in them."""
    if args.out.exists() and any(args.out.iterdir()):
        raise TrainingError(f"{args.out} is not empty; give a new folder.")
    if not 0 < args.piece_mib <= args.max_mib:
        raise TrainingError(f"--piece-mib {args.piece_mib} must be above 0 and at most --max-mib {args.max_mib}.")
    files = dict(code())
    files |= configuration(args.config, args.init)
    if args.val:
        for name, crop in validation_crops(args.val, VALIDATION_CROP).items():
            files[f"val/{name.replace('/', '_')}.png"] = as_file(Image.fromarray(crop), "PNG")
    limit, most = int(args.max_mib * MIB), int(args.piece_mib * MIB)
    room = limit - sum(tarred(data) for data in files.values()) - tar_end(limit, most)
    if room < 0:
        raise TrainingError(f"--max-mib {args.max_mib:g} is too little: the code and checkpoints alone need more.")
    images = packed(args.data, args.quality)
    chosen = 0
    for name, _, data in sorted(images, key=lambda image: -len(image[2]) / image[1]):
        if tarred(data) <= min(room, most - tar_end(most, most)):
            files[f"images/{name}"] = data
            room -= tarred(data)
            chosen += 1
    if not chosen:
        raise TrainingError(f"--max-mib {args.max_mib:g} leaves no room for an image.")
    args.out.mkdir(parents=True, exist_ok=True)
    pieces = write_pieces(files, args.out, most)
    script = args.out / "run.sh"
    script.write_text(RUN, encoding="utf-8")
    script.chmod(0o755)
    total = sum(p.stat().st_size for p in pieces) / MIB
    return (
        f"{args.out}: {chosen} of {len(images)} images at quality {args.quality}, {len(pieces)} pieces, {total:.1f} MiB"
    )


def code() -> Iterator[tuple[str, bytes]]:
    """The Python files of the packages that training imports."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def configuration(path: Path, init: Path | None) -> dict[str, bytes]:
    """config.toml and the checkpoints that it names, as .pth, which needs torch alone."""
    text = path.read_text(encoding="utf-8")
    config, stage = read_config(path, "float")
    if init and not stage.init:
        text = text.replace("[float]\n", '[float]\ninit = ""\n', 1)
    files = {}
    for key, source in (("init", init or stage.init), ("teacher", stage.teacher)):
        if source:
            named = config["float"].get(key, "")
            files[f"{key}.pth"] = pickled(arch.read_checkpoint(Path(source)))
            text, count = re.subn(rf"(?m)^{key} *= *([\"']){re.escape(named)}\1", f'{key} = "{key}.pth"', text)
            if count != 1:
                raise TrainingError(f"{path}: write {key} = {named!r} of section [float] on a line of its own, once.")
    return files | {"config.toml": text.encode()}


def packed(root: Path, quality: int) -> list[tuple[str, int, bytes]]:
    """Name, pixels and file of every image, as JPEG of `quality` where that is smaller than the image's own file."""
    found: dict[str, tuple[int, bytes]] = {}
    for name, file in encoded(root):
        own = file.read_bytes() if isinstance(file, Path) else file.getvalue()
        try:
            pixels = decode(io.BytesIO(own))
        except ValueError:
            continue  # training.train says so of the original
        jpeg = as_file(Image.fromarray(pixels), "JPEG", quality=quality, subsampling=0)
        flat = Path(name)
        if len(jpeg) < len(own):
            flat, own = flat.with_suffix(".jpg"), jpeg
        number = sum(1 for other in found if Path(other).stem.partition("~")[0] == flat.stem)  # of other folders
        unique = f"{flat.stem}~{number}{flat.suffix}" if number else flat.name
        found[unique] = (pixels.shape[0] * pixels.shape[1], own)
    return [(name, size, data) for name, (size, data) in found.items()]


def as_file(image: Image.Image, kind: str, **options: int) -> bytes:
    """An image, encoded."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tarred(data: bytes) -> int:
    """Bytes that a file takes in a tar, a long name's header included."""
    return 1536 + -(-len(data) // 512) * 512


def tar_end(total: int, piece: int) -> int:
    """Bytes for the ends of the tars that `total` bytes in pieces need, and for what a piece leaves empty."""
    return (total // piece + 2) * tarfile.RECORDSIZE


def write_pieces(files: dict[str, bytes], out: Path, most: int) -> list[Path]:
    """Write files into tars of at most `most` bytes, each complete in itself, in order."""
    pieces: list[list[str]] = [[]]
    used = 0
    for name, data in files.items():
        if used + tarred(data) > most - tarfile.RECORDSIZE and pieces[-1]:
            pieces.append([])
            used = 0
        pieces[-1].append(name)
        used += tarred(data)
    paths = []
    for number, names in enumerate(pieces):
        path = out / f"bundle.{number:02}.tar"
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(files[name])
                tar.addfile(member, io.BytesIO(files[name]))
        write(path, content.getvalue())
        paths.append(path)
    return paths


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
