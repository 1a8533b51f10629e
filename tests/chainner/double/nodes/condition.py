"""Double of chaiNNer's conditions, which only its editor evaluates."""

from __future__ import annotations


class Condition:
    def __init__(self, value: object) -> None:
        self._value = value

    def to_json(self):
        return self._value

    @staticmethod
    def enum(enum: int, values: object) -> Condition:
        return Condition({"kind": "enum", "enum": enum, "values": values})

    @staticmethod
    def type(input_id: int, condition: object, if_not_connected: bool = False) -> Condition:
        return Condition(
            {"kind": "type", "input": input_id, "condition": condition, "ifNotConnected": if_not_connected}
        )
