"""Double of chaiNNer's input groups, whose conditions its editor alone evaluates."""

from __future__ import annotations

from api import NestedGroup


class Condition:
    @staticmethod
    def type(input_id: int, condition: str) -> Condition:
        return Condition()


def if_group(condition: Condition):
    return NestedGroup


def if_enum_group(enum: int, condition: object):
    return NestedGroup


def required():
    return NestedGroup
