"""What setup.cfg cannot say: the native VapourSynth plugin, built into vapoursynth's autoload folder."""

import shutil
from pathlib import Path

import vapoursynth
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

PLUGIN = "vapoursynth.plugins.aether.libaether"


class BuildPlugin(build_ext):
    """A VapourSynth plugin is a plain shared library beside a manifest, not a Python extension module."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ["VapourSynthPluginInit2"]

    def build_extension(self, ext: Extension) -> None:
        super().build_extension(ext)
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
            ["vsaether/native/aether.c"],
            include_dirs=[vapoursynth.get_include()],
            extra_compile_args=["-std=c11", "-O2", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden"],
            extra_link_args=["-s"],
        )
    ],
    cmdclass={"build_ext": BuildPlugin, "bdist_wheel": PlatformWheel},
)
