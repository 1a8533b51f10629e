"""What setup.cfg cannot say: the native VapourSynth plugin, built into vapoursynth's autoload folder.

On Windows and for it: CC=x86_64-w64-mingw32-gcc-posix CXX=x86_64-w64-mingw32-g++-posix builds the DLL elsewhere.
"""

import os
import platform
import shutil
from pathlib import Path

import vapoursynth
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

PLUGIN = "vapoursynth.plugins.aether.libaether"
NATIVE = Path("vsaether/native")
CROSS = "mingw" in os.environ.get("CC", "") and os.name != "nt"
WINDOWS = CROSS or os.name == "nt"

SOURCES = (
    "aether.c",
    "run.c",
    "system.c",
    "reuse.cpp",
    "network.cpp",
    "model.cpp",
    "tail.cpp",
    "workers.cpp",
    "plain.cpp",
)
COMMON = ["-O2", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden"]
C = ["-std=c11", *COMMON]
# A float's product and sum are contracted into one operation where the source says so, and nowhere else: every form of
# the kernels gives the same bytes.
CXX = ["-std=c++17", *COMMON, "-O3", "-ffp-contract=off"]
# One file an instruction set, chosen among when the plugin runs. GCC 12's own AVX-512 intrinsics raise the warning.
X86 = {
    "form_avx512_vnni.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma"),
        "-Wno-maybe-uninitialized",
    ],
    "form_avx_vnni.cpp": ["-mavx2", "-mfma"],
    "form_avx2.cpp": ["-mavx2", "-mfma"],
}
if WINDOWS:  # GCC aligns the stack to 16 bytes there, and moves vectors to it as if it were to 32 (its bug 54412)
    X86 = {name: [*flags, "-Wa,-muse-unaligned-vector-move"] for name, flags in X86.items()}
GNU = {
    **{name: C if name.endswith(".c") else CXX for name in SOURCES},
    **({name: [*CXX, *flags] for name, flags in X86.items()} if platform.machine() in ("x86_64", "AMD64") else {}),
}
# Its compiler has no inline assembler: the plain form alone, with which the backend native is not offered.
MSVC = {name: ["/O2", "/std:c11"] if name.endswith(".c") else ["/O2", "/std:c++17", "/EHsc"] for name in SOURCES}


class BuildPlugin(build_ext):
    """A VapourSynth plugin is a plain shared library beside a manifest, not a Python extension module."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".dll" if WINDOWS else ".so"))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ["VapourSynthPluginInit2"]

    def build_extension(self, ext: Extension) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        sources, ext.sources = ext.sources, []
        for name, flags in (MSVC if msvc else GNU).items():
            ext.extra_objects += self.compiler.compile(
                [str(NATIVE / name)],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=flags,
                depends=ext.depends,
            )
        if not msvc:
            ext.extra_link_args += ["-s", "-pthread", *(["-static"] if WINDOWS else [])]
        super().build_extension(ext)
        ext.sources = sources
        library = Path(self.get_ext_fullpath(ext.name))
        library.with_name("manifest.vs").write_text(f"[VapourSynth Manifest V1]\n{library.stem}\n")


class PlatformWheel(bdist_wheel):
    """The plugin does not link to Python: one wheel serves every version of it."""

    def run(self) -> None:
        # A module which was renamed since the last build must not live on in the wheel.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", "win_amd64" if CROSS else super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            PLUGIN,
            [str(NATIVE / name) for name in GNU],
            include_dirs=[vapoursynth.get_include()],
            depends=[str(path) for path in sorted(NATIVE.iterdir())],
            language="c++",
        )
    ],
    cmdclass={"build_ext": BuildPlugin, "bdist_wheel": PlatformWheel},
)
