"""The wheel for Windows which `make windows` builds with mingw-w64; where Wine is, the plugin runs in it."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import vapoursynth

from benchmarks.native import random_blob

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "windows"
HOST = ROOT / "tests" / "vsaether" / "plugin_host.c"
MINGW = "x86_64-w64-mingw32"
SHAPES = [(1, 48, 48, 7, 2, 3, 3), (0, 48, 0, 3, 2, 2, 2)]


@pytest.fixture(scope="module")
def dll(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin, of the unpacked wheel, which holds nothing else that is native."""
    wheels = list(BUILT.glob("aethernet-*.whl"))
    if not wheels:
        pytest.skip("the wheel for Windows was not built; make windows builds it")
    assert [path.name.split("-", 2)[2] for path in wheels] == ["py3-none-win_amd64.whl"]
    shutil.unpack_archive(wheels[0], folder := tmp_path_factory.mktemp("wheel"), "zip")
    plugin = folder / "vapoursynth" / "plugins" / "aether"
    assert {path.name for path in plugin.iterdir()} == {"libaether.dll", "manifest.vs"}
    assert (plugin / "manifest.vs").read_text().splitlines() == ["[VapourSynth Manifest V1]", "libaether"]
    assert not list(folder.rglob("*.so"))
    return plugin / "libaether.dll"


def test_the_plugin_is_one_that_vapoursynth_loads(dll: Path) -> None:
    """It exports the entry, and needs nothing that Windows has not."""
    command = [f"{MINGW}-objdump", "-p", dll]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exported = told.partition("[Ordinal/Name Pointer] Table")[2]
    assert "VapourSynthPluginInit2" in exported.split()
    needed = {line.split()[-1].lower() for line in told.splitlines() if "DLL Name:" in line}
    assert needed == {"kernel32.dll", "msvcrt.dll"}


def test_windows_vapoursynth_computes_the_same_bytes(dll: Path, tmp_path: Path) -> None:
    """VapourSynth's own build for Windows loads the plugin in Wine; every form gives the hash that it gives here."""
    wine = shutil.which("wine64") or shutil.which("wine64", path="/usr/lib/wine")
    if wine is None:
        pytest.skip("there is no wine64: the plugin for Windows was built, and not run")
    with zipfile.ZipFile(next(BUILT.glob("vapoursynth-*-win_amd64.whl"))) as file:
        file.extractall(tmp_path, [name for name in file.namelist() if name.endswith(".dll")])
    include, root = f"-I{vapoursynth.get_include()}", Path(str(vapoursynth.__file__)).parent
    subprocess.run(["cc", include, HOST, "-o", tmp_path / "host", "-ldl"], check=True)
    subprocess.run([f"{MINGW}-gcc-posix", include, HOST, "-o", tmp_path / "host.exe"], check=True)
    here = [tmp_path / "host", next(root.glob("libvapoursynth.so*")), root / "plugins" / "aether" / "libaether.so"]
    there = [wine, tmp_path / "host.exe", tmp_path / "vapoursynth" / "libvapoursynth.dll", dll]
    environment = os.environ | {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    for number, shape in enumerate(SHAPES):
        blob = tmp_path / str(number)
        blob.write_bytes(random_blob(*shape))
        one, other = (
            subprocess.run([*command, blob], capture_output=True, text=True, env=environment, check=True, timeout=200)
            for command in (here, there)
        )
        lines = other.stdout.splitlines()
        assert lines == one.stdout.splitlines()
        assert lines[0].startswith("aether.Upscale: this program runs no Python 3.12 or later")
        assert lines[-1].startswith("plain ")
        assert len({line.split()[1] for line in lines[1:]}) == 1
