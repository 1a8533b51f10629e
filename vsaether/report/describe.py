"""The commands ``vsaether engines`` and ``vsaether info``."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import vsaether
from vsaether.errors import MediaError

if TYPE_CHECKING:
    import onnx

_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt")


def engines() -> str:
    """Tables of the engines there are, and of the backends which can run them here."""
    import presets

    rows = [("ENGINE", "PRECISION", "SCALE", "SIZE", "STATUS")]
    for name in vsaether.engines.names():
        try:
            engine = vsaether.engines.resolve(name)
        except vsaether.EngineError as error:
            rows.append((name, "", "", "", str(error)))
            continue
        status = presets.load(name.removesuffix(f"_{engine.precision}")).get("status", "")
        rows.append((name, engine.precision, f"{engine.scale}x", _size(engine.path.stat().st_size), status))
    backends = [("BACKEND", "")]
    for name, reason in vsaether.backends.probe().items():
        backends.append((name, f"not available: {reason}" if reason else _ready(name)))
    found = _table(rows) if len(rows) > 1 else "no engines are installed"
    return f"{found}\n\n{_table(backends)}"


def _ready(backend: str) -> str:
    kind = vsaether.backends.BACKENDS[backend]
    passed = kind.passed_over()
    notes = map(kind.note, vsaether.engines.PRECISIONS)
    return "; ".join(["ready", *filter(None, notes), *([f"not taken by auto: {passed}"] if passed else [])])


def info(path: Path) -> str:
    """What an engine or a checkpoint is. Raises MediaError, or the filter's EngineError."""
    if not path.is_file():
        raise MediaError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    if path.suffix == ".onnx":
        return _engine(path)
    if path.suffix in _CHECKPOINTS:
        return _checkpoint(path)
    raise MediaError(f"{path} is neither an engine (.onnx) nor a checkpoint ({', '.join(_CHECKPOINTS)})")


def _engine(path: Path) -> str:
    import onnx

    engine = vsaether.engines.read(path)
    model = onnx.load_model_from_string(engine.model)
    nodes = Counter(node.op_type for node in model.graph.node)
    facts = {
        "file": path,
        "bytes": f"{len(engine.model):,}",
        "engine": engine.name,
        "variant": engine.variant,
        "scale": f"{engine.scale}x",
        "precision": engine.precision,
        "receptive radius": f"{engine.radius} pixels",
        "memory": f"{engine.bytes_per_pixel} bytes per input pixel",
        "licence": engine.licence,
        "opset": ", ".join(str(entry.version) for entry in model.opset_import),
        "input": _value(model.graph.input[0]),
        "output": _value(model.graph.output[0]),
        "parameters": f"{sum(_elements(tensor.dims) for tensor in model.graph.initializer):,}",
        "nodes": ", ".join(f"{count} {name}" for name, count in nodes.most_common()),
        "quantised": f"{nodes['QuantizeLinear']} Q, {nodes['DequantizeLinear']} DQ",
    }
    return _facts(facts)


def _checkpoint(path: Path) -> str:
    try:
        import arch
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("torch", "safetensors"):
            raise
        raise MediaError(
            f'checkpoints are read with {error.name}, which is not installed: pip install "aethernet[export]"'
        ) from error
    try:
        weights = arch.read_checkpoint(path)
        config = arch.inspect(weights)
    except arch.CheckpointError as error:
        raise MediaError(str(error)) from error
    facts: dict[str, object] = {"file": path, "bytes": f"{path.stat().st_size:,}"}
    facts["variant"] = config.variant
    facts |= {name.replace("_", " "): value for name, value in vars(config).items()}
    facts["receptive radius"] = f"{config.receptive_radius} pixels" if config.receptive_radius else "the whole image"
    facts["parameters"] = f"{sum(weight.numel() for weight in weights.values()):,}"
    return _facts(facts)


def _value(value: "onnx.ValueInfoProto") -> str:
    tensor = value.type.tensor_type
    dims = (dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
    kind = {1: "float32", 10: "float16"}.get(tensor.elem_type, f"type {tensor.elem_type}")
    return f"{value.name} {kind} ({', '.join(dims)})"


def _elements(dims: Iterable[int]) -> int:
    product = 1
    for dim in dims:
        product *= dim
    return product


def _size(count: int) -> str:
    return f"{count / 1024:.0f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def _facts(facts: dict[str, object]) -> str:
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in facts.items())


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
