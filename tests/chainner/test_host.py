"""The nodes in a real, unmodified chaiNNer backend: listed, and every example chain run and compared with vsaether.

Needs CHAINNER_SRC (a checkout) and CHAINNER_PYTHON (the Python that runs it, with torch, onnx, onnxruntime, openvino).
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import chains
import numpy as np
import pytest
from backend import ROOT, Backend
from PIL import Image

EXAMPLES = ROOT / "chainner_nodes" / "examples"
PICTURE = ROOT / "export" / "images" / "photo_budgie_branch.webp"
NODES = {
    "aethernet:load_model",
    "aethernet:upscale_image",
    "aethernet:fuse_model",
    "aethernet:export_to_onnx",
    "aethernet:upscale_with_onnx_engine",
    "aethernet:upscale_video_frame",
}
LEAST = 50.0  # dB between chaiNNer's output and vsaether's

# openvino's Python package and the OpenVINO of VapourSynth's plugin cannot share a process.
VSAETHER = """
import sys
import numpy as np, vapoursynth as vs, vsaether
image = np.load(sys.argv[1])
planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
clip = vs.core.std.BlankClip(None, planes.shape[2], planes.shape[1], vs.GRAYS if len(planes) == 1 else vs.RGBS,
                             length=1, keep=True)
def fill(n, f):
    f = f.copy()
    for i, plane in enumerate(planes):
        np.asarray(f[i])[:] = plane
    return f
out = vsaether.upscale(clip.std.ModifyFrame(clip, fill), sys.argv[3], backend=sys.argv[4]).get_frame(0)
np.save(sys.argv[2], np.squeeze(np.stack([np.asarray(out[i]) for i in range(len(planes))], -1)))
"""


@pytest.fixture(scope="module")
def backend(checkout: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    before = _fingerprint(checkout)
    storage = tmp_path_factory.mktemp("chainner")
    if ffmpeg := shutil.which("ffmpeg"):
        (storage / "ffmpeg").mkdir()
        for name in ("ffmpeg", "ffprobe"):
            (storage / "ffmpeg" / name).symlink_to(Path(ffmpeg).with_name(name))
    with Backend([python, "-m", "chainner_nodes", "run", str(checkout)], storage) as running:
        yield running
    assert _fingerprint(checkout) == before, "the checkout was changed"


def _fingerprint(checkout: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted((checkout / "backend" / "src").rglob("*")):
        digest.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def picture(width: int = 120, height: int = 96) -> np.ndarray:
    """The corner of a bundled picture: uint8 RGB."""
    with Image.open(PICTURE) as image:
        return np.array(image.convert("RGB"))[:height, :width]


def save(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


def read16(path: Path) -> np.ndarray:
    """A PNG of 8 or 16 bits as floats in [0, 1]: (H, W) or (H, W, 3) RGB."""
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
    gray = frame.format.name.startswith("gray")
    return frame.to_ndarray(format="gray16le" if gray else "rgb48le").astype(np.float32) / 65535


def vsaether(image: np.ndarray, engine: str, runtime: str, folder: Path) -> np.ndarray:
    """vsaether's result for an 8-bit image, as floats: a process of its own."""
    np.save(folder / "in.npy", image.astype(np.float32) / 255)
    command = [sys.executable, "-c", VSAETHER, str(folder / "in.npy"), str(folder / "out.npy"), engine, runtime]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=folder)
    return np.load(folder / "out.npy").clip(0, 1)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def example(name: str, **paths: Path) -> chains.Json:
    """An example with its file or folder chosen, and 16-bit images."""
    content = chains.read(EXAMPLES / name)
    for schema, path in paths.items():
        chains.find(content, f"chainner:image:{schema}")["data"]["inputData"]["0"] = str(path)
    for node in content["nodes"]:
        if node["data"]["schemaId"] == "chainner:image:save":
            node["data"]["inputData"]["15"] = "u16"
    return content


def test_all_nodes_are_listed_in_their_own_category_and_examples_fit_them(backend: Backend) -> None:
    ours = {k: n for k, n in backend.schemas.items() if n["category"] == "aethernet"}
    assert ours.keys() == NODES
    assert all(n["description"] and n["icon"] and n["nodeGroup"].startswith("aethernet/") for n in ours.values())
    assert len(backend.schemas) > 150  # chaiNNer's own nodes are all there
    assert "chainner:pytorch:load_model" in backend.schemas
    for path in EXAMPLES.glob("*.chn"):
        chains.check(chains.read(path), backend.schemas)


@pytest.mark.parametrize("experimental", [False, True], ids=["executor", "new executor"])
def test_image_chain_equals_vsaether(backend: Backend, tmp_path: Path, experimental: bool) -> None:
    image = picture()
    backend.run(example("upscale_image.chn", load=save(tmp_path / "photo.png", image)), experimental=experimental)
    assert psnr(read16(tmp_path / "photo_2x.png"), vsaether(image, "small_2x_fp32", "ov", tmp_path)) > LEAST


@pytest.mark.parametrize(
    ("engine", "runtime"),
    [("small_2x_int8", "ov"), ("small_2x_fp32", "ort"), ("tiny_2x_int8", "ov"), ("tiny_2x_int8", "ort")],
)
def test_folder_chain_equals_vsaether(backend: Backend, tmp_path: Path, engine: str, runtime: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    colour = picture()
    images = {"colour": colour, "gray": colour[:, :, 1], "odd": colour[:65, :77]}
    for name, image in images.items():
        save(folder / f"{name}.png", image)
    content = example("upscale_folder.chn", load_images=folder)
    values = chains.find(content, "aethernet:upscale_with_onnx_engine")["data"]["inputData"]
    values |= {"1": engine, "3": runtime}
    backend.run(content)
    assert {p.name for p in (folder / "upscaled").iterdir()} == {f"{n}.png" for n in images}
    for name, image in images.items():
        found = psnr(read16(folder / "upscaled" / f"{name}.png"), vsaether(image, engine, runtime, tmp_path))
        assert found > LEAST, (name, found)


@pytest.mark.parametrize("experimental", [False, True], ids=["executor", "new executor"])
def test_video_chain_equals_vsaether(backend: Backend, tmp_path: Path, experimental: bool) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the video chain is not run: chaiNNer needs ffmpeg and ffprobe, which are not on the PATH.")
    still = picture()
    frames = [np.roll(still, 3 * n, axis=1) for n in (0, 0, 1, 2)]  # the second repeats the first
    _write_video(tmp_path / "clip.mkv", frames)
    content = example("upscale_video.chn", load_video=tmp_path / "clip.mkv")
    saved = chains.find(content, "chainner:image:save_video")["data"]["inputData"]
    saved |= {"16": 1, "4": "mkv", "3": "ffv1", "13": "-pix_fmt bgr0"}  # lossless, so that what is compared is ours
    if experimental:
        # This executor of chaiNNer 0.25.1 repeats frames, whatever nodes there are, where Save Video takes its rate,
        # sound or place from Load Video.
        content["edges"] = [e for e in content["edges"] if e["targetHandle"][37:] == "0"]
        saved |= {"1": str(tmp_path), "2": "clip_2x", "14": 10}
    backend.run(content, experimental=experimental)
    with av.open(str(tmp_path / "clip_2x.mkv")) as file:
        assert file.streams.video[0].average_rate == 10
        results = [f.to_ndarray(format="rgb24").astype(np.float32) / 255 for f in file.decode(video=0)]
    assert len(results) == len(frames)
    np.testing.assert_array_equal(results[0], results[1])
    for frame, result in zip(frames, results, strict=True):
        assert psnr(result, vsaether(frame, "small_2x_int8", "ov", tmp_path)) > LEAST


def _write_video(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "bgr0"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        file.mux(stream.encode())


def test_psnr_chain_tells_the_true_figures(backend: Backend, tmp_path: Path) -> None:
    original = picture(192, 160)
    backend.run(example("compare_psnr.chn", load=save(tmp_path / "photo.png", original)))
    (found,) = [p for p in tmp_path.glob("*.png") if p.stem != "photo"]
    match = re.fullmatch(r"photo - AetherNet (\d+\.\d{1,2}) dB, bicubic (\d+\.\d{1,2}) dB", found.stem)
    assert match, found.name
    parts = np.split(read16(found), 3, axis=1)  # upscaled, bicubic, original
    luma = [p @ np.array([0.299, 0.587, 0.114]) for p in parts]
    # chaiNNer rounds the mean square error to six digits first
    for told, part in zip(match.groups(), luma[:2], strict=True):
        assert float(told) == pytest.approx(psnr(part, luma[2]), abs=0.05)
    assert float(match[1]) > float(match[2])


def test_built_in_nodes_take_our_files(backend: Backend, tmp_path: Path) -> None:
    image = picture()
    content = example("upscale_image.chn", load=save(tmp_path / "photo.png", image))
    load, up = chains.find(content, "aethernet:load_model"), chains.find(content, "aethernet:upscale_image")
    load["data"] |= {"schemaId": "chainner:pytorch:load_model"}
    load["data"]["inputData"] = {"0": str(next((ROOT / "presets" / "tiny_2x").glob("*_notfused.safetensors")))}
    up["data"] |= {"schemaId": "chainner:pytorch:upscale_image"}
    up["data"]["inputData"] = {"2": -1, "3": 0, "4": 0, "5": 4, "6": 256, "7": 0}
    backend.run(content)
    assert psnr(read16(tmp_path / "photo_2x.png"), vsaether(image, "tiny_2x_fp32", "ov", tmp_path)) > LEAST


def test_nodes_pass_their_tests_in_the_real_api(checkout: Path, python: str) -> None:
    checks = {"CHAINNER_REAL": "1", "TYPE_CHECK_LEVEL": "error", "NAME_CHECK_LEVEL": "error"}
    environment = os.environ | checks | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    tests = [str(Path(__file__).with_name(name)) for name in ("test_nodes.py", "test_examples.py")]
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_installed_copy_works_without_our_checkout(checkout: Path, python: str, tmp_path: Path) -> None:
    home = tmp_path / "chaiNNer"
    app = home / "resources" / "src"
    shutil.copytree(checkout / "backend" / "src", app, ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def command(name: str) -> None:
        subprocess.run([sys.executable, "-m", "chainner_nodes", name, str(home)], check=True, env=environment)

    command("install")
    image = picture()
    content = example("upscale_image.chn", load=save(tmp_path / "photo.png", image))
    with Backend([python, str(app / "server.py")], tmp_path, path=None) as installed:
        assert {k for k, n in installed.schemas.items() if n["category"] == "aethernet"} == NODES
        installed.run(content)
    assert psnr(read16(tmp_path / "photo_2x.png"), vsaether(image, "small_2x_fp32", "ov", tmp_path)) > LEAST
    command("status")
    command("uninstall")
    for ours in (app / "aethernet", app / "packages" / "chaiNNer_pytorch" / "aethernet"):
        assert not ours.exists()
