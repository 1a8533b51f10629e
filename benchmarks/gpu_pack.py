"""What benchmarks.gpu needs on a machine without a network: made into pieces here, put together again there.

A set is a .tar.xz cut into pieces of at most PIECE bytes, so that a transfer of 64 MiB carries two, and manifest.json
holds their SHA-256. `core`, the sources and weights, is enough for the networks in PyTorch; the other sets are for the
filter. `site` of a packed file's name is a folder for PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import lzma
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

PIECE = 24 << 20
MANIFEST = "manifest.json"
ENGINES = ("tiny_2x", "small_2x")
SOURCES = ("arch", "benchmarks", "export", "presets", "vsaether")
KEPT = ("_fused.safetensors", "_fp16.onnx", "_fp32.onnx", "_int8.onnx")
FILTERS = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 256 << 20}]
DISTRIBUTIONS = {  # set -> distributions whose files it holds
    "core": ("spandrel", "filelock", "platformdirs", "tqdm"),
    "vapoursynth": ("vapoursynth", "vapoursynth-mlrt-ort"),
    "ort_cuda": ("vapoursynth-mlrt-ort-cuda",),
    "trt_rtx": ("vapoursynth-mlrt-trt-rtx", "tensorrt-rtx-cu13-libs"),
}
LEFT_OUT = (
    "direct_url.json",
    ".pyi",
    ".h",
    "vspipe",
    "libtensorrt_onnxparser_rtx.so.1",
    "libvapoursynthfilters_zn4.so",
)
"""Endings of files that nobody opens there."""


def pack(out: Path, root: Path, engines: Path | None, only: list[str]) -> dict[str, int]:
    """Write the sets to `out`, from the project at `root`, this Python's packages and a folder of TensorRT-RTX engines.

    Returns the bytes of each piece. Raises FileNotFoundError where a package or a file is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / MANIFEST
    manifest = json.loads(path.read_text()) if path.exists() else {}
    sizes: dict[str, int] = {}
    for name in only or DISTRIBUTIONS:
        files = dict(distribution_files(name))
        if name == "core":
            files |= project_files(root)
        if name == "trt_rtx":
            if engines is None or not (built := sorted(engines.glob("*.engine"))):
                raise FileNotFoundError("trt_rtx needs engines: benchmarks.gpu pack makes them.")
            files |= {f"engines/{f.name}": f for f in built}
        data = archive(files)
        pieces = {f"{name}.tar.xz.{i:02}": data[at : at + PIECE] for i, at in enumerate(range(0, len(data), PIECE))}
        for old in out.glob(f"{name}.tar.xz.*"):
            old.unlink()
        for piece, content in pieces.items():
            (out / piece).write_bytes(content)
            sizes[piece] = len(content)
        manifest[name] = {piece: hashlib.sha256(content).hexdigest() for piece, content in pieces.items()}
        path.write_text(json.dumps(manifest, indent=1))  # each set on its own: the next may fail
    return sizes


def archive(files: dict[str, Path]) -> bytes:
    """A .tar.xz of these files, without times and owners: the same files give the same bytes."""
    buffer = io.BytesIO()
    with lzma.open(buffer, "wb", filters=FILTERS) as compressed, tarfile.open(fileobj=compressed, mode="w|") as tar:
        for name, path in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            info.mode = 0o755 if ".so" in path.suffixes else 0o644
            with path.open("rb") as f:
                tar.addfile(info, f)
    return buffer.getvalue()


def project_files(root: Path) -> dict[str, Path]:
    """Sources, and of the presets what is run."""
    found = {}
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root)
            if path.suffix in (".py", ".json") or (path.name.endswith(KEPT) and name.parts[1] in ENGINES):
                found[str(name)] = path
    return {name: path for name, path in found.items() if name.split("/")[0] != "presets" or keep_preset(name)}


def keep_preset(name: str) -> bool:
    """Whether a file below presets/ is Python, or belongs to an engine that is measured."""
    parts = name.split("/")
    return len(parts) == 2 or parts[1] in ENGINES


def distribution_files(name: str) -> Iterator[tuple[str, Path]]:
    """Name in the set -> file, of the set's distributions as installed here."""
    for distribution in DISTRIBUTIONS[name]:
        try:
            files = importlib.metadata.files(distribution)
        except importlib.metadata.PackageNotFoundError:
            files = None
        if not files:
            raise FileNotFoundError(f"the set {name} needs the package {distribution}: pip install {distribution}")
        for file in files:
            text = str(file)
            if text.startswith("..") or text.endswith(LEFT_OUT) or "__pycache__" in text:
                continue
            yield f"site/{text}", Path(str(file.locate()))


def unpack(packed: Path, target: Path, name: str) -> None:
    """Put a set together in `target`. Raises ValueError where a piece is missing or not the one that was made."""
    manifest = json.loads((packed / MANIFEST).read_text())
    if name not in manifest:
        raise ValueError(f"{packed} holds no set {name}; it holds {', '.join(manifest)}")
    data = bytearray()
    for piece, digest in manifest[name].items():
        path = packed / piece
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{path} is {'damaged' if content else 'missing'}; carry it again")
        data += content
    with lzma.open(io.BytesIO(data)) as compressed, tarfile.open(fileobj=compressed, mode="r|") as tar:
        tar.extractall(target, filter="data")


def main() -> int:
    """python benchmarks/gpu_pack.py PACKED TARGET SET...: alone on the other machine, before there is a package."""
    packed, target, *names = sys.argv[1:]
    for name in names:
        unpack(Path(packed), Path(target), name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
