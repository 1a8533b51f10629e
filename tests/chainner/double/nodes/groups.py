"""Double of chaiNNer's input groups, whose conditions its editor alone evaluates."""

from api import NestedGroup


class Condition:
    @staticmethod
    def type(input_id: int, condition: str): ...


def if_group(condition: object):
    return NestedGroup


def if_enum_group(enum: int, condition: object):
    return NestedGroup


def required():
    return NestedGroup
