"""The command ``vsaether preview``: its arguments."""

import argparse
from pathlib import Path

from vsaether.media import progress

from .arguments import add_filter, add_json, crop, filtering, time


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of the command, and what it runs."""
    argument = parser.add_argument
    argument("source", type=Path, metavar="IN", help="a video or an image")
    times = "times of the frames, as 00:05:10 or 310.5; default: the middle"
    argument("--at", type=time, nargs="+", default=(), metavar="TIME", help=times)
    argument("-o", "--output", type=Path, default=Path("preview"), metavar="FOLDER", help="default: preview")
    add_filter(parser)
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
        crop=options.crop,
        overwrite=options.overwrite,
        **filtering(options),
    )
    progress.done(make_previews(job))
