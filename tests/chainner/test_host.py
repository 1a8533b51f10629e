"""The nodes in a real, unmodified chaiNNer backend: listed, and every example chain run and compared with vsaether.

Needs CHAINNER_SRC (a checkout) and CHAINNER_PYTHON (the Python that runs it, with torch, onnx, onnxruntime, openvino).
"""

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
from backend import ENVIRONMENT, ROOT, Backend, started
from PIL import Image

from chainner_nodes.__main__ import main

EXAMPLES = ROOT / "chainner_nodes" / "examples"
PICTURE = ROOT / "export" / "images" / "photo_budgie_branch.webp"
NODES = {f"aethernet:{path.stem}" for path in (ROOT / "chainner_nodes" / "nodes").glob("[a-z]*.py")}
LEAST = 50.0  # dB between chaiNNer's output and vsaether's


@pytest.fixture(scope="module")
def backend(checkout: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """One that runs from the checkout, which stays as it is."""
    before = contents(checkout)
    storage = tmp_path_factory.mktemp("chainner")
    if ffmpeg := shutil.which("ffmpeg"):
        (storage / "ffmpeg").mkdir()
        for name in ("ffmpeg", "ffprobe"):
            (storage / "ffmpeg" / name).symlink_to(Path(ffmpeg).with_name(name))
    with started([python, "-m", "chainner_nodes", "run", str(checkout)], storage) as running:
        yield running
    assert contents(checkout) == before


def contents(checkout: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (checkout / "backend" / "src").rglob("*") if path.is_file()}


def picture(width: int = 120, height: int = 96) -> np.ndarray:
    """The corner of a bundled picture: uint8 RGB."""
    return np.array(Image.open(PICTURE).convert("RGB"))[:height, :width]


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
    """What vsaether's command makes of an 8-bit image, as floats."""
    given, out = save(folder / "given.png", image), folder / "expected.png"
    command = [sys.executable, "-m", "vsaether.cli", "upscale", given, out, "--engine", engine, "--backend", runtime]
    subprocess.run([*command, "--overwrite"], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return read16(out)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return -10 * np.log10(np.mean((a.astype(np.float64) - b) ** 2) + 1e-12)


def example(name: str, **paths: Path) -> chains.Json:
    """An example with its file or folder chosen, and 16-bit images."""
    content = chains.read(EXAMPLES / name)
    for schema, path in paths.items():
        chains.values(content, f"chainner:image:{schema}")["0"] = str(path)
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
    backend.run(example("upscale_image.chn", load=save(tmp_path / "photo.png", picture())), experimental=experimental)
    assert psnr(read16(tmp_path / "photo_2x.png"), vsaether(picture(), "small_2x_fp32", "ov", tmp_path)) > LEAST


@pytest.mark.parametrize(
    ("engine", "runtime"),
    [("small_2x_int8", "ov"), ("small_2x_fp32", "ort"), ("tiny_2x_int8", "ov"), ("tiny_2x_int8", "ort")],
)
def test_folder_chain_equals_vsaether(backend: Backend, tmp_path: Path, engine: str, runtime: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    images = {"colour": picture(), "gray": picture()[:, :, 1], "odd": picture(77, 65)}
    for name, image in images.items():
        save(folder / f"{name}.png", image)
    content = example("upscale_folder.chn", load_images=folder)
    chains.values(content, "aethernet:upscale_with_onnx_engine").update({"1": engine, "3": runtime})
    backend.run(content)
    assert {p.name for p in (folder / "upscaled").iterdir()} == {f"{n}.png" for n in images}
    for name, image in images.items():
        found = psnr(read16(folder / "upscaled" / f"{name}.png"), vsaether(image, engine, runtime, tmp_path))
        assert found > LEAST, (name, found)


@pytest.mark.parametrize("experimental", [False, True], ids=["executor", "new executor"])
def test_video_chain_equals_vsaether(backend: Backend, tmp_path: Path, experimental: bool) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the video chain is not run: chaiNNer needs ffmpeg and ffprobe, which are not on the PATH.")
    frames = [np.roll(picture(), 3 * n, axis=1) for n in (0, 0, 1, 2)]  # the second repeats the first
    with av.open(str(tmp_path / "clip.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 120, 96, "bgr0"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        file.mux(stream.encode())
    content = example("upscale_video.chn", load_video=tmp_path / "clip.mkv")
    saved = chains.values(content, "chainner:image:save_video")
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
    content = example("upscale_image.chn", load=save(tmp_path / "photo.png", picture()))
    released = str(next((ROOT / "presets" / "tiny_2x").glob("*_notfused.safetensors")))
    for name, values in (
        ("load_model", {"0": released}),
        ("upscale_image", {"2": -1, "3": 0, "4": 0, "5": 4, "6": 256, "7": 0}),
    ):
        data = chains.find(content, f"aethernet:{name}")["data"]
        data |= {"schemaId": f"chainner:pytorch:{name}", "inputData": values}
    backend.run(content)
    assert psnr(read16(tmp_path / "photo_2x.png"), vsaether(picture(), "tiny_2x_fp32", "ov", tmp_path)) > LEAST


def test_nodes_pass_their_tests_in_the_real_api(checkout: Path, python: str) -> None:
    environment = os.environ | ENVIRONMENT | {"CHAINNER_REAL": "1", "PYTHONPATH": str(ROOT)}
    tests = [Path(__file__).with_name(name) for name in ("test_nodes.py", "test_examples.py")]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_installed_copy_works_without_our_checkout(checkout: Path, python: str, tmp_path: Path) -> None:
    app = tmp_path / "chaiNNer" / "resources" / "src"
    shutil.copytree(checkout / "backend" / "src", app, ignore=shutil.ignore_patterns("__pycache__"))
    assert main(["install", str(tmp_path / "chaiNNer")]) == 0
    content = example("upscale_image.chn", load=save(tmp_path / "photo.png", picture()))
    with started([python, str(app / "server.py")], tmp_path, path="") as installed:
        assert {k for k, n in installed.schemas.items() if n["category"] == "aethernet"} == NODES
        installed.run(content)
    assert psnr(read16(tmp_path / "photo_2x.png"), vsaether(picture(), "small_2x_fp32", "ov", tmp_path)) > LEAST
    assert main(["status", str(tmp_path / "chaiNNer")]) == main(["uninstall", str(tmp_path / "chaiNNer")]) == 0
    assert not (app / "aethernet").exists() and not (app / "packages" / "chaiNNer_pytorch" / "aethernet").exists()
