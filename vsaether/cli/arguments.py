"""Values of the command line's arguments, read from text: argparse tells the user what is wrong with one."""

import argparse
import re
from fractions import Fraction


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
