"""What setup.cfg cannot say: the native VapourSynth plugin, built into vapoursynth's autoload folder."""

import platform
import shutil
from pathlib import Path

import vapoursynth
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

PLUGIN = "vapoursynth.plugins.aether.libaether"
NATIVE = Path("vsaether/native")
COMMON = ["-O2", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden"]
# A float's product and sum are contracted into one operation where the source says so, and nowhere else: every form of
# the kernels gives the same bytes.
CXX = ("-std=c++17", *COMMON, "-O3", "-ffp-contract=off")
# One file an instruction set, chosen among when the plugin runs. GCC 12's own AVX-512 intrinsics raise the warning.
X86 = {
    "form_avx512_vnni.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma"),
        "-Wno-maybe-uninitialized",
    ],
    "form_avx_vnni.cpp": ["-mavx2", "-mfma"],
    "form_avx2.cpp": ["-mavx2", "-mfma"],
}
FLAGS = {
    **{name: ["-std=c11", *COMMON] for name in ("aether.c", "run.c")},
    **dict.fromkeys(("network.cpp", "model.cpp", "workers.cpp", "plain.cpp"), CXX),
    **({name: [*CXX, *flags] for name, flags in X86.items()} if platform.machine() in ("x86_64", "AMD64") else {}),
}


class BuildPlugin(build_ext):
    """A VapourSynth plugin is a plain shared library beside a manifest, not a Python extension module."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ["VapourSynthPluginInit2"]

    def build_extension(self, ext: Extension) -> None:
        sources, ext.sources = ext.sources, []
        for source in sources:
            ext.extra_objects += self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=list(FLAGS[Path(source).name]),
                depends=ext.depends,
            )
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
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            PLUGIN,
            [str(NATIVE / name) for name in FLAGS],
            include_dirs=[vapoursynth.get_include()],
            depends=[str(path) for path in sorted(NATIVE.glob("*.h*"))],
            extra_link_args=["-s", "-pthread"],
            language="c++",
        )
    ],
    cmdclass={"build_ext": BuildPlugin, "bdist_wheel": PlatformWheel},
)
