"""`arch.install`: in the manner of spandrel_extra_arches, and without a price for those who do not call it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from spandrel import MAIN_REGISTRY, DuplicateArchitectureError

import arch


def run(code: str) -> None:
    """Run code in a fresh interpreter, with the registry as spandrel ships it."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_twice() -> None:
    """The fixture has installed it already."""
    before = MAIN_REGISTRY.architectures("detection")
    with pytest.raises(DuplicateArchitectureError, match="AetherNet"):
        arch.install()
    assert arch.install(ignore_duplicates=True) == []
    assert MAIN_REGISTRY.architectures("detection") == before


def test_first_time() -> None:
    run("""
        import arch
        from spandrel import MAIN_REGISTRY, ModelLoader, UnsupportedModelError
        state = arch.aether_tiny().state_dict()
        try:
            ModelLoader().load_from_state_dict(state)
        except UnsupportedModelError:
            pass
        else:
            raise SystemExit("spandrel knows AetherNet by itself")
        added = arch.install()
        assert [support.architecture.id for support in added] == ["AetherNet"]
        assert len(MAIN_REGISTRY) == len(set(s.architecture.id for s in MAIN_REGISTRY))
        assert ModelLoader().load_from_state_dict(state).architecture is added[0].architecture
    """)


def test_spandrel_is_imported_by_install_alone() -> None:
    run("""
        import sys
        import arch
        assert "spandrel" not in sys.modules and "torchvision" not in sys.modules
    """)


@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_the_extra_architectures(ours_first: bool) -> None:
    pytest.importorskip("spandrel_extra_arches", reason="spandrel_extra_arches is not installed")
    calls = ["arch.install()", "spandrel_extra_arches.install()"]
    run(f"""
        import arch, spandrel_extra_arches
        from spandrel import ModelLoader
        {"; ".join(calls if ours_first else calls[::-1])}
        assert ModelLoader().load_from_state_dict(arch.aether_small().state_dict()).architecture.id == "AetherNet"
    """)
