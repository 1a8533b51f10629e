"""Values of the command line's arguments, read from text: argparse tells the user what is wrong with one."""

import argparse
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from vsaether import colour
from vsaether.media.formats import TagOverride


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a command the option to report to a script."""
    parser.add_argument("--json", action="store_true", help="report on standard error, a JSON object a line")


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Give a command the filter's options."""
    add = parser.add_argument
    add("--engine", default="small_2x_int8", help="an engine's name or an .onnx file; default: small_2x_int8")
    backend = "auto, or one listed by: vsaether engines; with options as in native:threads=4 or ov:device=GPU"
    add("--backend", default="auto", help=backend)
    add("--tile", type=size, metavar="WxH", help="tile size in input pixels; default: chosen by memory")
    overlap = "input pixels computed beyond a tile's share on each side; default: as many as the engine sees"
    add("--overlap", type=overlaps, metavar="N|WxH", help=overlap)
    add("--device-id", type=natural, default=0, metavar="N", help="the backend's device; default: 0")
    add("--dither", choices=colour.DITHERS, default="ordered", metavar="D", help=_of("dithering", colour.DITHERS))
    add_tags(parser)


def filtering(options: argparse.Namespace) -> dict[str, Any]:
    """What add_filter's options say, by the names that jobs have for it."""
    names = ("engine", "backend", "tile", "overlap", "device_id", "dither")
    return {name: getattr(options, name) for name in names} | {"tags": tags(options)}


def add_tags(parser: argparse.ArgumentParser) -> None:
    """Give a command the options for inputs of which tags are missing or wrong."""
    add = parser.add_argument
    add("--matrix", choices=colour.MATRIX_NAMES, metavar="M", help=_of("the input's matrix", colour.MATRIX_NAMES))
    add("--range", choices=colour.RANGE_NAMES, help="the input's range, where its tag is missing or wrong")


def tags(options: argparse.Namespace) -> TagOverride:
    """What add_tags' options say."""
    return TagOverride(colour.MATRIX_NAMES.get(options.matrix), colour.RANGE_NAMES.get(options.range))


def _of(what: str, names: Iterable[str]) -> str:
    return f"{what}: {', '.join(names)}"


def overlaps(text: str) -> tuple[int, int]:
    """Whole numbers of pixels, horizontal and vertical: 16 or 16x8."""
    parts = re.fullmatch(r"(\d+)(?:x(\d+))?", text.lower())
    if not parts:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels such as 16, or two such as 16x8")
    return int(parts[1]), int(parts[2] or parts[1])


def natural(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """A width and height in pixels: 480x270."""
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 480x270")
    return int(width), int(height)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def rate(text: str) -> Fraction:
    """A frame rate: 25, 23.976 or 30000/1001."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate such as 25, 23.976 or 30000/1001")
    return rate


def factor(text: str) -> Fraction:
    """How many times as large: 1.5, 3 or 4/3."""
    try:
        factor = Fraction(text)
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if not 0 < factor <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a factor such as 1.5, 3 or 4")
    return factor


def time(text: str) -> Fraction:
    """A time in seconds: 310, 310.5, 5:10 or 00:05:10.5."""
    parts = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", text)
    if not parts:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 310.5, 5:10 or 00:05:10.5")
    hours, minutes, seconds = (Fraction(part or 0) for part in parts.groups())
    if parts[2] and (seconds >= 60 or (parts[1] and minutes >= 60)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: minutes and seconds behind a colon are below 60")
    return hours * 3600 + minutes * 60 + seconds


def moment(text: str) -> Fraction | int:
    """A time since the first frame as ``time`` reads it, or a frame, counted from 0: 2250f."""
    frame = re.fullmatch(r"(\d+)f", text)
    return int(frame[1]) if frame else time(text)


def duration(text: str) -> Fraction:
    """A time in seconds which is more than none."""
    seconds = time(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; a second, or 0.5, is the least that makes sense")
    return seconds


def crop(text: str) -> tuple[int, int, int, int]:
    """A part of a picture, 160x90+320+180: width, height, left and top; as left, top, width, height."""
    parts = re.fullmatch(r"(\d+)x(\d+)\+(\d+)\+(\d+)", text.lower())
    if not parts or not int(parts[1]) or not int(parts[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part such as 160x90+320+180 (width, height, left, top)")
    width, height, left, top = map(int, parts.groups())
    return left, top, width, height


def pairs(text: str) -> dict[str, str]:
    """``key=value`` pairs with commas between.

    Commas are those of a value unless a new name= follows; a backslash makes it one of the value there, too.
    """
    pairs = {}
    for part in re.split(r"(?<!\\),(?=[\w-]+=)", text):
        key, separator, value = part.partition("=")
        if not (re.fullmatch(r"[\w-]+", key) and separator):
            raise argparse.ArgumentTypeError(f"{part!r} is not of the form key=value")
        pairs[key] = value.replace("\\,", ",")
    return pairs
