"""Double of chaiNNer's input groups."""

from __future__ import annotations

from api import group

from .condition import Condition

__all__ = ["Condition", "if_enum_group", "if_group", "required"]


def if_group(condition: Condition):
    return group("conditional", {"condition": condition.to_json()})


def if_enum_group(enum: int, condition: object):
    return if_group(Condition.enum(enum, condition))


def required(condition: Condition | None = None):
    return group("required", {"condition": condition})
