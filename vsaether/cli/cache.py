"""The command ``vsaether cache``: the engines that backends have built."""

from vsaether import engine_cache
from vsaether.errors import MediaError


def show() -> str:
    """The folder, and a line for each engine in it."""
    cache = engine_cache.EngineCache()
    entries = cache.entries()
    total = sum(entry.size for entry in entries) / 2**20
    head = f"{cache.folder}: {len(entries)} engines, {total:.1f} MiB of at most {cache.limit / 2**20:.0f}"
    return "\n".join([head, *map(engine_cache.describe, entries)])


def verify() -> str:
    """Compare every engine with its side-car. Raises MediaError where one is not what was written."""
    states = engine_cache.EngineCache().verify()
    defects = [f"{path} {defect}" for path, defect in states.items() if defect]
    if defects:
        raise MediaError(
            f"{'; '.join(defects)}; such engines are never loaded, and are built again when they are needed"
        )
    return f"{len(states)} engines are what was written"


def clear() -> str:
    """Remove all engines."""
    cache = engine_cache.EngineCache()
    return f"{cache.clear() / 2**20:.1f} MiB freed in {cache.folder}"
