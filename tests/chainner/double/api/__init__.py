"""Double of chaiNNer's api, as far as the nodes use it: same names, same signatures (see test_double.py)."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

KB = 1024**1
MB = 1024**2
GB = 1024**3
T = TypeVar("T")


class Aborted(Exception):
    pass


class Progress(ABC):
    @property
    @abstractmethod
    def aborted(self) -> bool: ...

    @property
    @abstractmethod
    def paused(self) -> bool: ...

    def check_aborted(self) -> None:
        if self.aborted:
            raise Aborted

    def suspend(self) -> None:
        self.check_aborted()

    @abstractmethod
    def set_progress(self, progress: float) -> None: ...

    def sub_progress(self, offset: float, length: float) -> Progress:
        return _SubProgress(self, offset, length)


class _SubProgress(Progress):
    def __init__(self, parent: Progress, offset: float, length: float):
        self._parent, self._offset, self._length = parent, offset, length

    @property
    def aborted(self) -> bool:
        return self._parent.aborted

    @property
    def paused(self) -> bool:
        return self._parent.paused

    def set_progress(self, progress: float) -> None:
        self._parent.set_progress(self._offset + progress * self._length)


class SettingsParser:
    def __init__(self, raw: dict[str, object]) -> None:
        self._settings = raw

    def get_bool(self, key: str, default: bool) -> bool:
        value = self._settings.get(key, default)
        if isinstance(value, bool):
            return value
        raise ValueError(key)

    def get_int(self, key: str, default: int, parse_str: bool = False) -> int:
        value = self._settings.get(key, default)
        if isinstance(value, int) or (parse_str and isinstance(value, str)):
            return int(value)
        raise ValueError(key)


class NodeContext(Progress, ABC):
    @property
    @abstractmethod
    def settings(self) -> SettingsParser: ...

    @property
    @abstractmethod
    def storage_dir(self) -> Path: ...

    @abstractmethod
    def add_cleanup(self, fn: Callable[[], None], after: Literal["node", "chain"] = "chain") -> None: ...


class BaseInput(Generic[T]):
    def __init__(
        self,
        input_type: Any,
        label: str,
        kind: str = "generic",
        has_handle: bool = True,
        associated_type: Any = None,
    ):
        self.input_type, self.label, self.kind, self.has_handle = input_type, label, kind, has_handle
        self.associated_type = associated_type
        self.id = -1
        self.optional = False

    def enforce(self, value: object) -> T:
        return value  # type: ignore

    def enforce_(self, value: object | None) -> T | None:
        if self.optional and value is None:
            return None
        assert value is not None, f"Expected value to exist for {self.label}"
        return self.enforce(value)

    def with_id(self, input_id: int):
        self.id = input_id
        return self

    def with_docs(self, *description: str, hint: bool = False):
        self.description, self.hint = "\n\n".join(description), hint
        return self

    def suggest(self):
        return self

    def make_optional(self):
        self.optional = True
        return self


class BaseOutput(Generic[T]):
    def __init__(
        self,
        output_type: Any,
        label: str,
        kind: str = "generic",
        has_handle: bool = True,
        associated_type: Any = None,
    ):
        self.output_type, self.label, self.kind, self.has_handle = output_type, label, kind, has_handle
        self.associated_type = associated_type
        self.id = -1

    def with_id(self, output_id: int):
        self.id = output_id
        return self

    def suggest(self):
        return self

    def enforce(self, value: object) -> T:
        assert value is not None
        return value  # type: ignore


class GroupInfo:
    def __init__(self, group_id: int, kind: str, options: dict[str, Any] | None = None) -> None:
        self.id, self.kind, self.options = group_id, kind, options or {}


class Group(Generic[T]):
    def __init__(self, info: GroupInfo, items: list[T]) -> None:
        self.info, self.items = info, items


NestedGroup = Group[Any]


def group(kind: str, options: dict[str, Any] | None = None, id: int = -1):
    def ret(*items: BaseInput | NestedGroup) -> NestedGroup:
        return Group(GroupInfo(id, kind, options), list(items))

    return ret


class KeyInfo:
    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data

    @staticmethod
    def type(expression: Any) -> KeyInfo:
        return KeyInfo({"kind": "type", "expression": expression})


@dataclass(frozen=True)
class _Node:
    """What chaiNNer keeps of a registered node, as far as the tests ask for it."""

    schema_id: str
    name: str
    inputs: list[BaseInput]
    outputs: list[BaseOutput]
    node_context: bool
    run: Callable[..., Any]


def _flat(items: list[Any]) -> list[BaseInput]:
    return [x for item in items for x in (_flat(item.items) if isinstance(item, Group) else [item])]


@dataclass
class NodeGroup:
    category: Category
    id: str
    name: str
    order: list[str] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)

    def register(
        self,
        schema_id: str,
        *,
        name: str,
        description: str | list[str],
        inputs: list[Any],
        outputs: list[BaseOutput],
        icon: str = "BsQuestionCircleFill",
        kind: str = "regularNode",
        side_effects: bool = False,
        deprecated: bool = False,
        decorators: list[Callable] | None = None,
        see_also: list[str] | str | None = None,
        features: Any = None,
        limited_to_8bpc: bool | str = False,
        iterator_inputs: Any = None,
        iterator_outputs: Any = None,
        node_context: bool = False,
        key_info: KeyInfo | None = None,
        suggestions: Any = None,
    ):
        flat = _flat(inputs)
        for ids in ([i.id for i in flat if i.id != -1], [o.id for o in outputs if o.id != -1]):
            assert len(ids) == len(set(ids)), f"{schema_id}: an id twice"

        def wrapper(fn: Callable[..., Any]):
            expected = name.lower().replace(" ", "_")
            assert fn.__name__ == f"{expected}_node" and Path(inspect.getfile(fn)).stem == expected
            assert len(inspect.signature(fn).parameters) == len(flat) + node_context, schema_id
            for number, entry in enumerate(flat):
                entry.id = number if entry.id == -1 else entry.id
            self.nodes.append(_Node(schema_id, name, flat, outputs, node_context, fn))
            return fn

        return wrapper


@dataclass
class Category:
    package: Package
    id: str
    name: str
    description: str
    icon: str = "BsQuestionCircleFill"
    color: str = "#777777"
    install_hint: str | None = None
    node_groups: list[NodeGroup] = field(default_factory=list)

    def add_node_group(self, name: str) -> NodeGroup:
        self.node_groups.append(NodeGroup(self, f"{self.id}/{name.lower()}", name))
        return self.node_groups[-1]


@dataclass
class Dependency:
    display_name: str
    pypi_name: str
    version: str
    size_estimate: int | float
    auto_update: bool = True
    extra_index_url: str | None = None
    import_name: str | None = None


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
    features: list[Any] = field(default_factory=list)
    settings: list[Any] = field(default_factory=list)
    disabled: bool = False
    disabled_reason: str | None = None

    def add_category(self, name: str, description: str, icon: str, color: str, install_hint: str | None = None):
        self.categories.append(Category(self, name.lower(), name, description, icon, color, install_hint))
        return self.categories[-1]

    def add_setting(self, setting: Any):
        self.settings.append(setting)


def add_package(
    where: str,
    id: str,
    name: str,
    description: str,
    dependencies: list[Dependency] | None = None,
    icon: str = "BsQuestionCircleFill",
    color: str = "#777777",
) -> Package:
    package = Package(where, id, name, description, icon, color, dependencies or [])
    registry.packages[where] = package
    return package


class PackageRegistry:
    def __init__(self) -> None:
        self.packages: dict[str, Package] = {}


registry = PackageRegistry()
