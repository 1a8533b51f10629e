"""Double of chaiNNer's api: what the nodes and their tests call of it, with the arguments that they give.

Anything else is an error here until it is added. Whether chaiNNer has these names, takes these arguments and does the
same with them is shown by test_host.py, which runs the same tests in chaiNNer's own api.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

MB = 1024**2


class Aborted(Exception):
    pass


class Progress(ABC):
    aborted: Any

    @abstractmethod
    def set_progress(self, progress: float) -> None: ...

    def check_aborted(self) -> None:
        if self.aborted:
            raise Aborted

    suspend = check_aborted


@dataclass
class SettingsParser:
    raw: dict[str, object]


class NodeContext(Progress):
    settings: SettingsParser

    @abstractmethod
    def add_cleanup(self, fn: Callable[[], None], after: Literal["node", "chain"] = "chain") -> None: ...


class _Socket:
    """An input or output, without its type, which chaiNNer's editor alone shows."""

    id = -1

    def __init__(self, label: str):
        self.label = label

    def with_id(self, id: int):
        self.id = id
        return self

    def enforce(self, value: object) -> Any:
        assert value is not None
        return value


class BaseInput(_Socket):
    default: Any = None
    optional = False

    def enforce_(self, value: object | None) -> Any:
        if self.optional and value is None:
            return None
        assert value is not None, f"Expected value to exist for {self.label}"
        return self.enforce(value)

    def with_docs(self, *description: str, hint: bool = False):
        return self

    def make_optional(self):
        self.optional = True
        return self


class BaseOutput(_Socket):
    def suggest(self):
        return self


class NestedGroup:
    def __init__(self, *items: BaseInput | NestedGroup) -> None:
        self.items = items


class KeyInfo:
    @staticmethod
    def type(expression: str) -> KeyInfo:
        return KeyInfo()


def _flat(items: Any) -> list[BaseInput]:
    return [x for item in items for x in (_flat(item.items) if isinstance(item, NestedGroup) else [item])]


class NodeGroup:
    def __init__(self) -> None:
        self.nodes: list[Any] = []

    def register(
        self, schema_id: str, *, name: str, inputs: Any, outputs: Any, node_context: bool = False, **shown: Any
    ):
        """With chaiNNer's own checks of what is registered."""
        assert {"description", "icon", "see_also"} <= shown.keys()
        assert shown.keys() <= {"description", "icon", "see_also", "side_effects", "key_info"}
        flat = _flat(inputs)
        for ids in ([i.id for i in flat if i.id != -1], [o.id for o in outputs if o.id != -1]):
            assert len(ids) == len(set(ids)), f"{schema_id}: an id twice"

        def wrapper(fn: Callable[..., Any]):
            expected = name.lower().replace(" ", "_")
            assert fn.__name__ == f"{expected}_node" and Path(inspect.getfile(fn)).stem == expected
            assert len(inspect.signature(fn).parameters) == len(flat) + node_context, schema_id
            for number, entry in enumerate(flat):
                entry.id = number if entry.id == -1 else entry.id
            facts = {"schema_id": schema_id, "inputs": flat, "outputs": outputs, "node_context": node_context}
            self.nodes.append(SimpleNamespace(**facts, run=fn))
            return fn

        return wrapper


class Category:
    def __init__(self, *, name: str, description: str, icon: str, color: str, install_hint: str):
        self.name = name
        self.node_groups: list[NodeGroup] = []

    def add_node_group(self, name: str) -> NodeGroup:
        self.node_groups.append(NodeGroup())
        return self.node_groups[-1]


Dependency = make_dataclass(
    "Dependency", ["display_name", "pypi_name", "version", "size_estimate", "auto_update"], kw_only=True
)


class Package:
    def __init__(
        self, where: str, *, id: str, name: str, description: str, icon: str, color: str, dependencies: Any = ()
    ):
        self.where, self.id = where, id
        self.categories: list[Category] = []
        self.settings: list[Any] = []

    def add_category(self, **facts: Any) -> Category:
        self.categories.append(Category(**facts))
        return self.categories[-1]

    def add_setting(self, setting: Any) -> None:
        self.settings.append(setting)


class registry:  # noqa: N801
    packages: dict[str, Package] = {}  # noqa: RUF012


def add_package(where: str, **facts: Any) -> Package:
    return registry.packages.setdefault(where, Package(where, **facts))
