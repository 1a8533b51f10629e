"""Double of chaiNNer's api: what the nodes and their tests call of it, with the arguments that they give.

Anything else is an error here until it is added. Whether chaiNNer has these names, takes these arguments and does the
same with them is shown by test_host.py, which runs the same tests in chaiNNer's own api.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

MB = 1024**2


class Aborted(Exception):
    pass


class Progress(ABC):
    @property
    @abstractmethod
    def aborted(self) -> bool: ...

    @abstractmethod
    def set_progress(self, progress: float) -> None: ...

    def check_aborted(self) -> None:
        if self.aborted:
            raise Aborted

    def suspend(self) -> None:
        self.check_aborted()

    def sub_progress(self, offset: float, length: float) -> Progress:
        return _SubProgress(self, offset, length)


class _SubProgress(Progress):
    def __init__(self, parent: Progress, offset: float, length: float):
        self._parent, self._offset, self._length = parent, offset, length

    @property
    def aborted(self) -> bool:
        return self._parent.aborted

    def set_progress(self, progress: float) -> None:
        self._parent.set_progress(self._offset + progress * self._length)


class SettingsParser:
    def __init__(self, raw: dict[str, object]) -> None:
        self.raw = raw


class NodeContext(Progress):
    @property
    @abstractmethod
    def settings(self) -> SettingsParser: ...

    @abstractmethod
    def add_cleanup(self, fn: Callable[[], None], after: Literal["node", "chain"] = "chain") -> None: ...


class _Socket:
    """An input or output; its type is shown by chaiNNer's editor alone."""

    def __init__(self, type_: Any, label: str):
        self.label = label
        self.id = -1

    def with_id(self, id: int):
        self.id = id
        return self


class BaseInput(_Socket):
    default: Any = None
    optional = False

    def enforce(self, value: object) -> Any:
        return value

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
    def enforce(self, value: object) -> Any:
        assert value is not None
        return value

    def suggest(self):
        return self


class NestedGroup:
    def __init__(self, *items: BaseInput | NestedGroup) -> None:
        self.items = items


class KeyInfo:
    @staticmethod
    def type(expression: str) -> KeyInfo:
        return KeyInfo()


@dataclass(frozen=True)
class _Node:
    schema_id: str
    inputs: list[BaseInput]
    outputs: list[BaseOutput]
    node_context: bool
    run: Callable[..., Any]


def _flat(items: Any) -> list[BaseInput]:
    return [x for item in items for x in (_flat(item.items) if isinstance(item, NestedGroup) else [item])]


@dataclass
class NodeGroup:
    name: str
    nodes: list[_Node] = field(default_factory=list)

    def register(
        self,
        schema_id: str,
        *,
        name: str,
        description: list[str],
        icon: str,
        inputs: list[Any],
        outputs: list[BaseOutput],
        see_also: list[str],
        node_context: bool = False,
        side_effects: bool = False,
        key_info: KeyInfo | None = None,
    ):
        """With chaiNNer's own checks of what is registered."""
        flat = _flat(inputs)
        for ids in ([i.id for i in flat if i.id != -1], [o.id for o in outputs if o.id != -1]):
            assert len(ids) == len(set(ids)), f"{schema_id}: an id twice"

        def wrapper(fn: Callable[..., Any]):
            expected = name.lower().replace(" ", "_")
            assert fn.__name__ == f"{expected}_node" and Path(inspect.getfile(fn)).stem == expected
            assert len(inspect.signature(fn).parameters) == len(flat) + node_context, schema_id
            for number, entry in enumerate(flat):
                entry.id = number if entry.id == -1 else entry.id
            self.nodes.append(_Node(schema_id, flat, outputs, node_context, fn))
            return fn

        return wrapper


@dataclass
class Category:
    name: str
    description: str
    icon: str
    color: str
    install_hint: str
    node_groups: list[NodeGroup] = field(default_factory=list)

    def add_node_group(self, name: str) -> NodeGroup:
        self.node_groups.append(NodeGroup(name))
        return self.node_groups[-1]


@dataclass
class Dependency:
    display_name: str
    pypi_name: str
    version: str
    size_estimate: int
    auto_update: bool


@dataclass
class Package:
    where: str
    id: str
    name: str
    description: str
    icon: str
    color: str
    dependencies: list[Dependency] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    settings: list[Any] = field(default_factory=list)

    def add_category(self, **facts: Any) -> Category:
        self.categories.append(Category(**facts))
        return self.categories[-1]

    def add_setting(self, setting: Any) -> None:
        self.settings.append(setting)


class PackageRegistry:
    def __init__(self) -> None:
        self.packages: dict[str, Package] = {}


registry = PackageRegistry()


def add_package(where: str, **facts: Any) -> Package:
    return registry.packages.setdefault(where, Package(where, **facts))
