"""The command ``vsaether compare``: its arguments."""

import argparse
from pathlib import Path

from vsaether.media import progress

from .arguments import add_json, add_tags, positive, tags


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of the command, and what it runs."""
    argument = parser.add_argument
    argument("a", type=Path, metavar="A", help="a video or an image")
    argument("b", type=Path, metavar="B", help="another of the same")
    argument("--reference", type=Path, metavar="R", help="the original, against which both are measured; default: A")
    argument("-o", "--output", type=Path, default=Path("compare.html"), metavar="PAGE", help="default: compare.html")
    argument("--frames", type=positive, default=24, metavar="N", help="frames to take, evenly spread; default: 24")
    argument("--max-size", type=positive, default=100, metavar="MIB", help="of the page; default: 100")
    argument("--resize", action="store_true", help="enlarge the smaller by bicubic scaling where the sizes differ")
    add_tags(parser)
    argument("--overwrite", action="store_true", help="replace PAGE if it exists")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from vsaether.report.compare import Comparison, make_page

    job = Comparison(
        options.a,
        options.b,
        options.reference,
        options.output,
        options.frames,
        options.max_size,
        options.resize,
        options.overwrite,
        tags(options),
    )
    progress.done(make_page(job, progress.note))
