"""The command ``vsaether preview``: its arguments."""

import argparse
from pathlib import Path

from vsaether.media import progress

from .arguments import BACKEND, add_json, crop, size, time


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of the command, and what it runs."""
    argument = parser.add_argument
    argument("source", type=Path, metavar="IN", help="a video or an image")
    times = "times of the frames, as 00:05:10 or 310.5; default: the middle"
    argument("--at", type=time, nargs="+", default=(), metavar="TIME", help=times)
    argument("-o", "--output", type=Path, default=Path("preview"), metavar="FOLDER", help="default: preview")
    argument("--engine", default="small_2x_int8", help="an engine's name or an .onnx file; default: small_2x_int8")
    argument("--backend", default="auto", help=BACKEND)
    argument("--tile", type=size, metavar="WxH", help="tile size in input pixels; default: chosen by memory")
    part = "part of IN to enlarge; default: where the result differs most from bicubic scaling"
    argument("--crop", type=crop, metavar="WxH+X+Y", help=part)
    argument("--overwrite", action="store_true", help="replace pictures of an earlier preview")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from vsaether.report.preview import Preview, make_previews

    job = Preview(
        options.source,
        options.at,
        options.output,
        options.engine,
        options.backend,
        options.tile,
        options.crop,
        options.overwrite,
    )
    progress.done(make_previews(job))
