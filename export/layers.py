"""What a built TensorRT engine computes in which type: its builder's list of layers, counted."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

NAMES = {"Float": "fp32", "Half": "fp16", "Int8": "int8", "Int32": "int32", "Int64": "int64", "Bool": "bool"}
BYTES = {"Float": 4, "Half": 2, "Int8": 1, "Int32": 4, "Int64": 8, "Bool": 1}
LAYER = re.compile(r"^Name: .*?, LayerType: \w+, (.*)$", re.MULTILINE)
PART = re.compile(
    r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Constants|Outputs|TacticName|ParameterType|StreamId)|$)"
)
TENSOR = re.compile(r"Dimensions: \[([^\]]*)\].*?Datatype: (\w+)")


def summarise(log: str) -> dict[str, Any]:
    """Layers of an engine by the type of the tensor that they read first, and what they move.

    log: all that the builder said, with detailed profiling. Returns "layers" (number by type), "percent_int8" (of the
    layers that read anything), and "bytes_a_frame": what all layers read and write, weights included, which a card's
    caches may save a part of; None where shapes are dynamic. Seen of TensorRT for RTX 1.7; full TensorRT writes
    its list alike, but none was seen.
    """
    found: Counter[str] = Counter()
    moved: float = 0
    for layer in LAYER.findall(log.rpartition("\nLayers:\n")[2]):
        parts: dict[str, list[tuple[str, str]]] = {kind: TENSOR.findall(text) for kind, text in PART.findall(layer)}
        if parts.get("Inputs"):
            kind = parts["Inputs"][0][1]
            found[NAMES.get(kind, kind.lower())] += 1
        for dims, kind in (tensor for tensors in parts.values() for tensor in tensors):
            sizes = [int(d) for d in dims.split(",") if d.strip()]
            moved += math.nan if min(sizes, default=1) < 0 else math.prod(sizes) * BYTES.get(kind, 4)
    total = found.total()
    return {
        "layers": dict(sorted(found.items())),
        "percent_int8": round(100 * found["int8"] / total, 1) if total else None,
        "bytes_a_frame": None if math.isnan(moved) else int(moved),
    }
