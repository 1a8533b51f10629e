"""The commands and their arguments.

Exit codes: 0 done; 1 it, or a part of it, could not be done, and one line says why; 2 the command line is wrong; 129
the terminal was closed (SIGHUP); 130 interrupted (Ctrl-C); 143 terminated.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import vapoursynth as vs
from av.error import FFmpegError

from presets.command import add_version, say
from presets.errors import AetherNetError
from vsaether import system
from vsaether.backends import NUM_STREAMS
from vsaether.errors import MediaError
from vsaether.media import progress
from vsaether.media.deinterlace import MODES
from vsaether.media.encoders import MUXERS, Encoding
from vsaether.media.files import Written
from vsaether.media.interrupts import Interrupted, caught

from . import arguments, compare, completion, jobs, preview


def main(given: Sequence[str] | None = None) -> int:
    """Run a command; the result is the exit code."""
    try:
        code = _main(given)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads what is printed has ended, as head does: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _main(given: Sequence[str] | None) -> int:
    options = parser().parse_args(given)
    system.limit_arenas()
    logging.getLogger("libav").addHandler(logging.NullHandler())
    logging.getLogger("libav").propagate = False
    os.environ.setdefault("SVT_LOG", "1")
    with progress.reporting(getattr(options, "json", False)):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    with Written() as written:
        try:
            with caught():
                options.run(options)
        except (vs.Error, AetherNetError) as error:
            return _fail(str(error))
        except (FFmpegError, OSError) as error:
            if isinstance(error, BrokenPipeError) and str(getattr(options, "output", "")) != "-":
                raise  # what is printed; what is written to a pipe is the output
            name = error.filename or " -> ".join(str(path) for path in _paths(options))
            return _fail(f"{name}: {error.strerror or error}" if name else str(error.strerror or error))
        except MemoryError:
            return _fail("not enough memory; give a smaller --tile or fewer --num-streams")
        except Interrupted as error:
            _fail(f"{error}; {written}")
            return 128 + error.number
    return 0


def _paths(options: argparse.Namespace) -> list[Path]:
    """The files a command is about."""
    paths = [getattr(options, name) for name in ("source", "file", "output") if hasattr(options, name)]
    return [*getattr(options, "sources", ()), *paths]


def _fail(text: str) -> int:
    if not progress.event("error", text=" ".join(text.split())):
        say("vsaether", text)
    return 1


def parser() -> argparse.ArgumentParser:
    """The command line, all commands of it."""
    parser = argparse.ArgumentParser(
        prog="vsaether",
        description="Upscale video and images with AetherNet.",
        epilog="exit codes: 0 done, 1 not done (one line says why), 2 wrong command line, 130 interrupted",
    )
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_upscale(commands.add_parser("upscale", help="upscale a video, an image or a folder of images"))
    engines = commands.add_parser("engines", help="list engines and backends")
    engines.set_defaults(run=_engines)
    _add_build(commands.add_parser("build", help="build a TensorRT engine as a file, or say with which command to"))
    cache = commands.add_parser("cache", help="the engines that TensorRT backends have built")
    cache.add_argument("action", choices=("list", "verify", "clear"), help="list them, check them, or remove them")
    cache.set_defaults(run=_cache)
    info = commands.add_parser("info", help="describe an engine (.onnx) or a checkpoint (.safetensors, .pth)")
    info.add_argument("file", type=Path, metavar="FILE", help="an .onnx, .safetensors or .pth file")
    info.set_defaults(run=_info)
    compare.add(commands.add_parser("compare", help="two videos or images on one page, with metrics"))
    preview.add(commands.add_parser("preview", help="single frames, upscaled and beside bicubic scaling, as PNGs"))
    jobs.add(commands.add_parser("jobs", help="films that were stopped, or are being made"))
    demo = commands.add_parser("demo", help="upscale the bundled clip and compare it with bicubic scaling")
    demo.add_argument("--output", type=Path, default=Path("demo"), metavar="FOLDER", help="default: demo")
    demo.add_argument("--engine", default="small_2x_int8", help="default: small_2x_int8")
    demo.add_argument("--limit", type=arguments.positive, metavar="N", help="only the first N frames")
    demo.set_defaults(run=_demo)
    completion.add(parser, commands.choices.values())
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("engine", metavar="ENGINE", help="an engine's name or an .onnx file")
    add("output", type=Path, metavar="OUT", help="the engine file; its layers and types go to OUT.log")
    add("--library", choices=("tensorrt", "tensorrt-rtx"), default="tensorrt", help="default: tensorrt")
    for name, default in (("min", "1x3x32x32"), ("opt", "1x3x256x256"), ("max", "16x3x1080x1920")):
        add(f"--{name}-shapes", f"--{name}Shapes", default=default, metavar="NxCxHxW", help=f"default: {default}")
    add("--level", type=int, default=3, metavar="0-5", help="the builder's optimisation level; default: 3")
    add("--workspace", type=arguments.positive, default=0, metavar="MIB", help="scratch memory at most; default: any")
    add("--tf32", action="store_true", help="float32 products may be rounded to TF32")
    add("--version-compatible", action="store_true", help="an engine that later versions load too, which costs speed")
    add("--any-card", action="store_true", help="an engine that cards from Ampere on load too, which costs speed")
    add("--overwrite", action="store_true", help="replace OUT")
    parser.set_defaults(run=_build)


def _add_upscale(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "a video, an image, a folder of images or of videos; or several of them, each upscaled for itself"
    add("sources", type=Path, nargs="+", metavar="IN", help=what)
    videos = " ".join(MUXERS)
    add(
        "output",
        type=Path,
        metavar="OUT",
        help=f"a video ({videos}), an image, a folder, or a pattern like x/%%06d.png; a folder for several inputs; - "
        "for y4m on standard output",
    )
    arguments.add_filter(parser)
    streams = f"inferences at the same time; default: {NUM_STREAMS}"
    add("--num-streams", type=arguments.positive, default=NUM_STREAMS, metavar="N", help=streams)
    add("--codec", help="FFmpeg's name of the encoder; default: libx264, libx265 above 8 bits; .webm: VP9 or AV1")
    add("--crf", type=float, metavar="N", help="constant quality; lower is better")
    add("--preset", metavar="P", help="speed preset of the encoder")
    add("--pix-fmt", metavar="FMT", help="sample format; default: as the input")
    add(
        "--encoder-options",
        type=arguments.pairs,
        default={},
        metavar="K=V,...",
        help="further options; values may hold commas",
    )
    command = (
        "another encoder's command, which reads y4m: 'x265 --y4m - -o {out}'; {out} stands for OUT; made in one pass, "
        "which begins anew when it was stopped"
    )
    add("--pipe", metavar="COMMAND", help=command)
    sound = "FFmpeg's name of the encoder for sound that OUT cannot carry as it is; default: aac, or libopus"
    fields = "whole frames: of those flagged as interlaced, of all (that field comes first), or of a telecined film"
    add("--deinterlace", choices=tuple(MODES), help=fields)
    add("--audio-codec", metavar="CODEC", help=sound)
    add("--recursive", action="store_true", help="take the videos of all folders in IN, too, and keep those in OUT")
    add("--fps", type=arguments.rate, metavar="RATE", help="frame rate of a video made of images; default: 24")
    add("--start", type=arguments.moment, metavar="TIME", help="begin there: 00:01:30.5, 90.5, or a frame: 2250f")
    add("--end", type=arguments.moment, metavar="TIME", help="end there, without that frame")
    add("--limit", type=arguments.positive, metavar="N", help="only N frames")
    add("--width", type=arguments.positive, metavar="N", help="width of the result; the height follows, unless given")
    add("--height", type=arguments.positive, metavar="N", help="height of the result, such as 2160; the width follows")
    add("--scale", type=arguments.factor, metavar="F", help="times the input's size, such as 1.5, 3 or 4")
    add("--no-reuse", action="store_true", help="compute what repeats, too; the result is the same")
    add("--drop-unsupported", action="store_true", help="leave out what OUT's container cannot carry")
    add("--overwrite", action="store_true", help="replace OUT if it exists")
    add(
        "--segment",
        type=arguments.duration,
        metavar="TIME",
        help="longest part of a film that is kept when a run is stopped; default: 30 s, of films longer than a minute",
    )
    add("--workers", type=arguments.positive, metavar="N", help="processes of this machine that make segments")
    add("--scheduler", metavar="ADDRESS", help="let workers of a dask scheduler make segments: tcp://HOST:8786")
    add("--no-resume", action="store_true", help="write in one pass, and keep nothing when stopped")
    arguments.add_json(parser)
    parser.set_defaults(run=_upscale)


def _upscale(options: argparse.Namespace) -> None:
    from vsaether.media import batch
    from vsaether.media.job import run
    from vsaether.media.settings import Job

    encoding = Encoding(options.codec, options.crf, options.preset, options.pix_fmt, options.encoder_options)
    job = Job(
        source=options.sources[0],
        output=options.output,
        **arguments.filtering(options),
        num_streams=options.num_streams,
        encoding=encoding,
        rate=options.fps,
        start=options.start,
        end=options.end,
        limit=options.limit,
        deinterlace=options.deinterlace,
        audio_codec=options.audio_codec,
        pipe=options.pipe,
        overwrite=options.overwrite,
        drop_unsupported=options.drop_unsupported,
        width=options.width,
        height=options.height,
        scale=options.scale,
        reuse=not options.no_reuse,
        segment=options.segment,
        resume=not options.no_resume,
        workers=options.workers,
        scheduler=options.scheduler,
    )
    if several := batch.jobs(options.sources, options.output, job, progress.note, options.recursive):
        result = batch.run_all(several, progress.note, progress.one_of_many)
    else:
        result = run(job, progress.note)
    progress.done(result, sys.stderr if str(options.output) == "-" else sys.stdout)
    if result.failure:
        raise MediaError(result.failure)


def _engines(options: argparse.Namespace) -> None:
    from vsaether.report.describe import engines

    print(engines())


def _build(options: argparse.Namespace) -> None:
    from .build import EngineBuild, build

    shapes = (options.min_shapes, options.opt_shapes, options.max_shapes)
    same = ("engine", "output", "library", "level", "workspace", "tf32", "version_compatible", "any_card", "overwrite")
    print(build(EngineBuild(shapes=shapes, **{name: getattr(options, name) for name in same})))


def _cache(options: argparse.Namespace) -> None:
    from . import cache

    print({"list": cache.show, "verify": cache.verify, "clear": cache.clear}[options.action]())


def _info(options: argparse.Namespace) -> None:
    from vsaether.report.describe import info

    print(info(options.file))


def _demo(options: argparse.Namespace) -> None:
    from vsaether.report.demo import make_demo

    print(make_demo(options.output, options.engine, options.limit, progress.note))
