"""Values of the command line's arguments, read from text: argparse tells the user what is wrong with one."""

import argparse
import re
from fractions import Fraction


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a command the option to report to a script."""
    parser.add_argument("--json", action="store_true", help="report on standard error, a JSON object a line")


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


def time(text: str) -> Fraction:
    """A time in seconds: 310, 310.5, 5:10 or 00:05:10.5."""
    parts = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", text)
    if not parts:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 310.5, 5:10 or 00:05:10.5")
    hours, minutes, seconds = (Fraction(part or 0) for part in parts.groups())
    if parts[2] and (seconds >= 60 or (parts[1] and minutes >= 60)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: minutes and seconds behind a colon are below 60")
    return hours * 3600 + minutes * 60 + seconds


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
