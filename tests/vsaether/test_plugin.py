"""The native plugin: found by VapourSynth alone, and the same filter as the Python function."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import vapoursynth as vs

import vsaether

from .conftest import assert_same, noise, python

core = vs.core

SOURCE = "core.std.BlankClip(format=vs.YUV420P8, width=64, height=48, length=3, color=[90, 120, 140], keep=True)"


def test_typed_arguments_reach_the_filter(make_engine: Any) -> None:
    signature = core.aether.Upscale.signature
    names = "engine:data backend:data tile:int[] overlap:int[] num_streams:int device_id:int matrix:int range:int"
    assert signature.startswith("clip:vnode;")
    assert all(f"{name}:opt;" in signature for name in (*names.split(), "dither_type:data", "dither:data"))
    arguments: dict[str, Any] = {"engine": str(make_engine(precision="int8")), "backend": "ort", "tile": [32, 24]}
    arguments |= {"overlap": 1, "num_streams": 2, "device_id": 0}
    numbers: dict[str, Any] = {"matrix": 9, "range": 1, "dither_type": "error_diffusion"}
    words: dict[str, Any] = {"matrix": "2020ncl", "range": "full", "dither": "error_diffusion"}
    clip = noise(vs.YUV420P10, 64, 48, 2)
    expected = vsaether.upscale(clip, **arguments, **numbers)
    assert_same(vsaether.upscale(clip, **arguments, **words), expected)
    assert_same(core.aether.Upscale(clip, **arguments, **numbers), expected)
    words = {"matrix_s": "2020ncl", "range_s": "full", "dither": "error_diffusion"}
    assert_same(clip.aether.Upscale(**arguments, **words), expected)


def test_broken_package_is_reported(tmp_path: Path) -> None:
    (tmp_path / "vsaether").mkdir()
    (tmp_path / "vsaether" / "__init__.py").write_text("raise ImportError('half installed')")
    run = python(f"core = vs.core\nsys.path.insert(0, sys.argv[1])\n{SOURCE}.aether.Upscale()", tmp_path)
    line = "vapoursynth.Error: aether.Upscale: the Python package vsaether cannot be used: half installed"
    assert (run.returncode, run.stderr.splitlines()[-1]) == (1, line)


def test_errors_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a path is no text, and where the fault is ours; and nobody takes the filter's place."""
    clip = noise(vs.RGB24, 16, 16)
    said = r"^aether\.Upscale: cannot read the engine /no\\udcffne\.onnx: No such file or directory$"
    with pytest.raises(vs.Error, match=said):
        core.aether.Upscale(clip, b"/no\xffne.onnx")
    monkeypatch.setattr("vsaether.filter._upscale", lambda *arguments: 1 // 0)
    with pytest.raises(vs.Error, match=r"^aether\.Upscale: internal error: ZeroDivisionError: .* zero$"):
        core.aether.Upscale(clip)
    with pytest.raises(vs.Error, match=r"^aether\.SetHandler: for vsaether's own use"):
        core.aether.SetHandler(lambda **arguments: None)


def test_calls_from_many_threads(toy_engine: str) -> None:
    clips = [noise(vs.GRAY8, 16 + 2 * i, 16) for i in range(4)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda clip: core.aether.Upscale(clip, toy_engine), clips * 4))
    expected = [vsaether.upscale(clip, toy_engine) for clip in clips]
    for result, same in zip(results, expected * 4, strict=True):
        assert_same(result, same)


def test_environments_do_not_meet(toy_engine: str) -> None:
    """Two cores in one process: each call works in its own, and both cores can be freed."""
    script = f"""
import gc

class Policy(vs.EnvironmentPolicy):
    def __init__(self): self.current = None
    def on_policy_registered(self, api): self.api = api
    def on_policy_cleared(self): pass
    def get_current_environment(self): return self.current
    def set_environment(self, environment):
        previous, self.current = self.current, environment
        return previous
    def is_alive(self, environment): return environment is not None

policy = Policy()
vs.register_policy(policy)
first, second = policy.api.create_environment(), policy.api.create_environment()
results = []
for environment in (first, second, first):
    with policy.api.wrap_environment(environment).use():
        core = vs.core.core
        results.append(bytes({SOURCE}.aether.Upscale(sys.argv[1]).get_frame(0)[0]))
        del core
assert results[0] == results[1] == results[2]
for environment in (first, second):
    policy.api.destroy_environment(environment)
policy.set_environment(None)
gc.collect()
policy.api.unregister_policy()
"""
    run = python(script, toy_engine)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_host_without_python_gets_a_clear_error(tmp_path: Path) -> None:
    source, host = Path(__file__).with_name("plugin_host.c"), tmp_path / "host"
    subprocess.run(["cc", f"-I{vs.get_include()}", source, "-o", host, "-ldl"], check=True)
    root = Path(str(vs.__file__)).parent
    library = next(root.glob("libvapoursynth.so*"))
    plugin = root / "plugins" / "aether" / "libaether.so"
    run = subprocess.run([host, library, plugin], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith("aether.Upscale: this program runs no Python 3.12 or later")


def test_autoloads_in_vspipe_where_nothing_is_imported(tmp_path: Path, toy_engine: str) -> None:
    folder = Path(sys.executable).parent
    subprocess.run([folder / "vapoursynth", "config"], capture_output=True, check=True, timeout=60)
    lines = ["import sys", "import vapoursynth as vs", "core = vs.core", f"clip = {SOURCE}"]
    lines += [f"clip.aether.Upscale({toy_engine!r}).set_output()", "assert 'torch' not in sys.modules"]
    (tmp_path / "x.vpy").write_text("\n".join(lines))
    command = [folder / "vspipe", "-p", "-c", "y4m", "x.vpy", "-"]
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(command, capture_output=True, timeout=120, env=environment, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert b"Output 3 frames" in run.stderr and b"Warning" not in run.stderr
    header, *frames = run.stdout.split(b"FRAME\n")
    assert header.startswith(b"YUV4MPEG2 ") and b"W128 H96" in header
    for frame, expected in zip(frames, vsaether.upscale(eval(SOURCE), toy_engine).frames(), strict=True):
        assert frame == b"".join(bytes(plane) for plane in expected)
