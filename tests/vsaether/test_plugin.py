"""The native plugin: found by VapourSynth alone, and the same filter as the Python function."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether

core = vs.core

SOURCE = "core.std.BlankClip(format=vs.YUV420P8, width=64, height=48, length=3, color=[90, 120, 140], keep=True)"


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, in a folder which holds nothing of ours."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, cwd="/"
    )


def test_typed_arguments_are_shown() -> None:
    signature = core.aether.Upscale.signature
    names = ("engine:data", "backend:data", "tile:int[]", "overlap:int[]", "num_streams:int", "device_id:int")
    assert signature.startswith("clip:vnode;")
    assert all(
        f"{name}:opt;" in signature for name in (*names, "matrix:int", "range:int", "dither_type:data", "dither:data")
    )


def test_all_arguments_reach_the_filter(noise: Any, planes: Any, make_engine: Any) -> None:
    engine = str(make_engine(precision="int8"))
    clip = noise(vs.YUV420P10, 64, 48, 2)
    arguments: dict[str, Any] = {
        "engine": engine,
        "backend": "ort",
        "tile": [32, 24],
        "overlap": 1,
        "num_streams": 2,
        "device_id": 0,
    }
    numbers: dict[str, Any] = arguments | {"matrix": 9, "range": 1, "dither_type": "error_diffusion"}
    names = arguments | {"matrix_s": "2020ncl", "range_s": "full", "dither": "error_diffusion"}
    expected = planes(vsaether.upscale(clip, **numbers))
    in_python: dict[str, Any] = arguments | {"matrix": "2020ncl", "range": "full", "dither": "error_diffusion"}
    results = [core.aether.Upscale(clip, **numbers), clip.aether.Upscale(**names), vsaether.upscale(clip, **in_python)]
    for result in results:
        for got, wanted in zip(planes(result), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_autoloads_where_nothing_is_imported(toy_engine: str) -> None:
    script = f"""
import sys
import vapoursynth as vs
core = vs.core
result = {SOURCE}.aether.Upscale(sys.argv[1])
assert (result.width, result.height, len(result)) == (128, 96, 3)
result.get_frame(2)
assert "torch" not in sys.modules
"""
    run = python(script, toy_engine)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_error_is_one_plain_line() -> None:
    run = python(f"import vapoursynth as vs\ncore = vs.core\n{SOURCE}.aether.Upscale('no\\udcffne')")
    assert run.returncode == 1
    assert "UnicodeEncodeError" in run.stderr  # VapourSynth's own: such text does not reach the plugin
    run = python(f"import vapoursynth as vs\ncore = vs.core\n{SOURCE}.aether.Upscale(b'/no\\xffne.onnx')")
    last = run.stderr.strip().splitlines()[-1]
    assert (
        last == r"vapoursynth.Error: aether.Upscale: cannot read the engine /no\udcffne.onnx: No such file or directory"
    )


def test_broken_package_is_reported(tmp_path: Path) -> None:
    (tmp_path / "vsaether").mkdir()
    (tmp_path / "vsaether" / "__init__.py").write_text("raise ImportError('half installed')")
    script = "import sys; sys.path.insert(0, sys.argv[1])\nimport vapoursynth as vs\ncore = vs.core\n"
    run = python(f"{script}{SOURCE}.aether.Upscale()", str(tmp_path))
    last = run.stderr.strip().splitlines()[-1]
    assert last == "vapoursynth.Error: aether.Upscale: the Python package vsaether cannot be used: half installed"


def test_internal_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch, noise: Any) -> None:
    monkeypatch.setattr("vsaether.filter._upscale", lambda *arguments: 1 // 0)
    with pytest.raises(vs.Error, match=r"^aether\.Upscale: internal error: ZeroDivisionError: .* zero$"):
        core.aether.Upscale(noise(vs.RGB24, 16, 16))


def test_handler_cannot_be_set_from_outside() -> None:
    with pytest.raises(vs.Error, match=r"^aether\.SetHandler: for vsaether's own use"):
        core.aether.SetHandler(lambda **arguments: None)


def test_calls_from_many_threads(noise: Any, planes: Any, toy_engine: str) -> None:
    clips = [noise(vs.GRAY8, 16 + 2 * i, 16) for i in range(8)]
    results: list[vs.VideoNode | None] = [None] * 8

    def call(i: int) -> None:
        for _ in range(5):
            results[i] = core.aether.Upscale(clips[i], toy_engine)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for clip, result in zip(clips, results, strict=True):
        assert result is not None
        np.testing.assert_array_equal(planes(result)[0], planes(vsaether.upscale(clip, toy_engine))[0])


def test_environments_do_not_meet(toy_engine: str) -> None:
    """Two cores in one process: each call works in its own, and both cores can be freed."""
    script = f"""
import sys, gc, weakref
import vapoursynth as vs

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
        result = {SOURCE}.aether.Upscale(sys.argv[1])
        results.append(bytes(result.get_frame(0)[0]))
        del core, result
assert results[0] == results[1] == results[2]
for environment in (first, second):
    policy.api.destroy_environment(environment)
policy.set_environment(None)
gc.collect()
policy.api.unregister_policy()
"""
    run = python(script, toy_engine)
    assert (run.returncode, run.stderr) == (0, "")


HOST = Path(__file__).with_name("plugin_host.c")


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_host_without_python_gets_a_clear_error(tmp_path: Path) -> None:
    import vapoursynth

    host = tmp_path / "host"
    subprocess.run(["cc", f"-I{vapoursynth.get_include()}", HOST, "-o", host, "-ldl"], check=True)
    root = Path(vapoursynth.__file__).parent
    library = next(root.glob("libvapoursynth.so*"))
    plugin = root / "plugins" / "aether" / "libaether.so"
    run = subprocess.run([host, library, plugin], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith("aether.Upscale: this program runs no Python 3.12 or later")


@pytest.fixture(scope="session")
def vspipe() -> str:
    """The vspipe of this environment, set up."""
    folder = Path(sys.executable).parent
    if not (folder / "vspipe").exists():
        pytest.fail(f"there is no vspipe beside {sys.executable}; install VapourSynth's Python package")
    subprocess.run([folder / "vapoursynth", "config"], capture_output=True, check=True, timeout=60)
    return str(folder / "vspipe")


def test_vspipe_gives_the_same_frames_both_ways(vspipe: str, tmp_path: Path, toy_engine: str) -> None:
    head = f"import vapoursynth as vs\ncore = vs.core\nclip = {SOURCE}\n"
    scripts = {
        "function": f"import vsaether\n{head}vsaether.upscale(clip, engine={toy_engine!r}).set_output()\n",
        "plugin": f"{head}core.aether.Upscale(clip, engine={toy_engine!r}).set_output()\n",
    }
    outputs = []
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for name, script in scripts.items():
        path = tmp_path / f"{name}.vpy"
        path.write_text(script)
        run = subprocess.run(
            [vspipe, "-p", "-c", "y4m", path, "-"], capture_output=True, timeout=120, env=environment, cwd=tmp_path
        )
        assert run.returncode == 0, run.stderr
        assert b"Output 3 frames" in run.stderr
        assert b"Warning" not in run.stderr
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1]
    header, _, _ = outputs[0].partition(b"\n")
    assert header.startswith(b"YUV4MPEG2 C420jpeg W128 H96") or b"W128 H96" in header
    assert len(outputs[0]) == len(header) + 1 + 3 * (len(b"FRAME\n") + 128 * 96 * 3 // 2)
