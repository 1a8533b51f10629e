"""Running a node as chaiNNer runs it, in chaiNNer's own api or in the double of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from api import NodeContext, SettingsParser, registry

import chainner_nodes.nodes  # noqa: F401, registers them


class Context(NodeContext):
    """A context on the CPU that remembers what it is told."""

    aborted = paused = False
    settings = SettingsParser({"use_cpu": True})
    storage_dir = Path()

    def __init__(self) -> None:
        self.told: list[float] = []
        self.cleanups: set[Callable[[], None]] = set()

    def set_progress(self, progress: float) -> None:
        self.told.append(progress)

    def add_cleanup(self, fn: Callable[[], None], after: Literal["node", "chain"] = "chain") -> None:
        self.cleanups.add(fn)

    def clean(self) -> None:
        """As at the end of a chain."""
        for fn in self.cleanups:
            fn()


def nodes() -> dict[str, Any]:
    package = next(p for p in registry.packages.values() if p.id == "aethernet")
    return {n.schema_id: n for c in package.categories for g in c.node_groups for n in g.nodes}


def call(name: str, *values: object, context: Context | None = None) -> Any:
    """Run a node: values in the order of its inputs, missing ones are the defaults."""
    node = nodes()[f"aethernet:{name}"]
    rest = [getattr(i, "default", None) for i in node.inputs[len(values) :]]
    given = [i.enforce_(v) for i, v in zip(node.inputs, [*values, *rest], strict=True)]
    result = node.run(*([context or Context()] if node.node_context else []), *given)
    several = result if len(node.outputs) > 1 else (result,)
    out = [o.enforce(v) for o, v in zip(node.outputs, several, strict=True)]
    return out if len(out) > 1 else out[0]
