"""The native kernels: one output for every form, thread count and tile; what they take, and what they refuse."""

import dataclasses
import itertools
import shutil
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import vapoursynth as vs
from onnx.reference import ReferenceEvaluator

import vsaether
from benchmarks.native import random_blob
from vsaether import backends, engines, native_graph, native_model
from vsaether.backends import native as native_backend

from ..conftest import rewrite
from .conftest import assert_same, clip_of, noise, read_planes

core = vs.core

SOURCES = Path(__file__).parents[2] / "vsaether" / "native"
FORMS = core.aether.Forms().split(",")

# gated, channels, hidden, kernel, depth, scale, border
SHAPES = [
    (1, 16, 16, 3, 1, 2, 0), (1, 48, 48, 7, 2, 3, 3), (1, 80, 64, 5, 1, 4, 2), (1, 96, 192, 5, 2, 2, 4),
    (1, 128, 240, 5, 1, 2, 1), (1, 32, 48, 3, 0, 1, 1), (0, 16, 0, 3, 0, 2, 0), (0, 48, 0, 3, 2, 2, 2),
    (0, 64, 0, 3, 1, 4, 1), (0, 112, 0, 3, 1, 3, 1),
]  # fmt: skip
SMALL, WIDE = ((1, 1), (11, 1), (1, 11), (37, 9), (25, 6)), ((7681, 6),)
CASES = [(shape, SMALL) for shape in SHAPES] + [((1, 16, 16, 5, 2, 2, 4), WIDE), ((0, 16, 0, 3, 2, 2, 2), WIDE)]


def picture(width: int, height: int) -> vs.VideoNode:
    """An RGBS clip with values below 0 and above 1, and some that are no numbers."""
    values = np.random.default_rng(width * 1000 + height).uniform(-0.2, 1.2, (3, height, width))
    for plane, value in enumerate((np.nan, np.inf, -np.inf)):
        values[plane].flat[width * height // 2] = value
    return clip_of([list(values)], vs.RGBS)


def bits(clip: vs.VideoNode) -> np.ndarray:
    with clip.get_frame(0) as frame:
        return np.stack([np.array(plane).view(np.uint32) for plane in frame])


@pytest.mark.parametrize(("shape", "sizes"), CASES, ids=str)
def test_every_form_gives_the_same_bytes(shape: tuple[int, ...], sizes: tuple[tuple[int, int], ...]) -> None:
    blob = random_blob(*shape)
    for size in sizes:
        clip = picture(*size)
        expected = bits(core.aether.Run(clip, blob, threads=1, form="plain"))
        assert expected.shape == (3, size[1] * shape[5], size[0] * shape[5])
        assert size == (1, 1) or len(np.unique(expected)) > expected.size // 8
        for form, threads in itertools.product(FORMS, (1, 3)):
            np.testing.assert_array_equal(bits(core.aether.Run(clip, blob, threads=threads, form=form)), expected)


def test_avx_vnni_has_its_own_encoding() -> None:
    """The plugin has products in VEX, as processors without AVX-512 need them; they run where there are such ones."""
    if len(FORMS) == 1:
        pytest.skip("the kernels are for x86 processors with AVX2")
    if shutil.which("objdump") is None:
        pytest.skip("there is no objdump to read the plugin's instructions with")
    plugin = Path(str(vs.__file__)).parent / "plugins" / "aether" / "libaether.so"
    told = subprocess.run(["objdump", "-d", "--no-show-raw-insn", plugin], capture_output=True, text=True, check=True)
    products = [line.split("\t")[-1].strip() for line in told.stdout.splitlines() if "vpdpbusd" in line]
    vex, evex = ([p for p in products if p.startswith("{vex}") == own] for own in (True, False))
    assert vex and all("%ymm" in product for product in vex)
    assert any("%zmm" in product for product in evex)
    if "avx_vnni" not in FORMS:
        pytest.skip("this processor has no AVX-VNNI: its kernels ran in AVX-512's encoding (under the sanitizers) only")


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """The forms once more, under AddressSanitizer and UBSan; AVX-VNNI's kernels too, in AVX-512's encoding."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ to build with sanitizers")
    base = [compiler, "-std=c++17", "-O0", "-g1", "-ffp-contract=off", f"-I{SOURCES}", "-pthread"]
    base += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    (tmp_path / "hello.cpp").write_text("int main() {}")
    if subprocess.run([*base, tmp_path / "hello.cpp", "-o", tmp_path / "hello"], capture_output=True).returncode:
        pytest.skip("this g++ has no AddressSanitizer")
    evex = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma", "-Wno-maybe-uninitialized"]
    jobs = [["workers.cpp"], ["model.cpp"], ["tail.cpp"], ["plain.cpp"], ["system.c", "-x", "c", "-std=c11"]]
    if len(FORMS) > 1:
        jobs += [["form_avx512_vnni.cpp", *evex], ["form_avx_vnni.cpp", *evex, '-DVEX_PREFIX=""']]
        jobs += [["form_avx2.cpp", "-mavx2", "-mfma"]]

    def compiled(job: list[str]) -> Path:
        source, *flags = job
        target = tmp_path / f"{source}.o"
        subprocess.run([*base, *flags, "-c", SOURCES / source, "-o", target], check=True)
        return target

    with ThreadPoolExecutor(2) as threads:
        objects = list(threads.map(compiled, jobs))
    program = tmp_path / "forms"
    subprocess.run([*base, Path(__file__).with_name("native_forms.cpp"), *objects, "-o", program], check=True)
    shapes = (1, 48, 48, 7, 1, 3, 3), (1, 32, 48, 5, 2, 2, 1), (0, 48, 0, 3, 2, 2, 2)
    blobs = [tmp_path / f"blob{number}" for number in range(len(shapes))]
    for blob, shape in zip(blobs, shapes, strict=True):
        blob.write_bytes(random_blob(*shape))
    done = subprocess.run([program, *blobs], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.count("plain same") == len(blobs)
    if "avx512_vnni" in FORMS:
        assert "not run" not in done.stdout


@pytest.mark.parametrize("border", [0, 1])
def test_the_convolutions_at_the_end_are_folded_to_the_edge(border: int) -> None:
    """One integer convolution gives what two give, in float64, where the second one sees zeros around the picture."""
    channels, outputs = 16, 12
    blob = random_blob(1, channels, 16, 3, 0, 2, border)
    at = len(native_model.MAGIC) + 7 * 4

    def take(dtype: str, *shape: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(blob, dtype, int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        return values.astype(np.float64)

    def conv(inputs: int) -> Callable[[np.ndarray], np.ndarray]:
        step, weight = float(take("<f4", 1)[0]), take("i1", channels, inputs, 3, 3)
        scale, bias = take("<f4", channels), take("<f4", channels)
        return lambda x: convolve(codes(x, step), weight * scale[:, None, None, None] * step, bias)

    def codes(x: np.ndarray, step: float) -> np.ndarray:
        return np.clip(np.rint((x / np.float32(step)).astype(np.float32)), -128, 127)

    def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return np.einsum("oiyx,ihwyx->ohw", weight, seen) + bias[:, None, None]

    first, after = conv(3), conv(channels)
    weight, bias = take("<f4", 3, 3, channels, outputs).transpose(3, 2, 0, 1), take("<f4", outputs)
    for size in ((9, 7), (1, 5), (6, 1)):
        image = np.nan_to_num(bits(picture(*size)).view(np.float32), posinf=9, neginf=-9, nan=-9)
        continued = np.pad(image, ((0, 0), (border, border), (border, border)), "edge") - np.float32(0.5)
        start = first(continued)
        added = convolve(after(start) + start, weight, bias)
        residual = added[:, border : border + size[1], border : border + size[0]].reshape(3, 2, 2, size[1], size[0])
        got = bits(core.aether.Run(picture(*size), blob)).view(np.float32).astype(np.float64)
        got = got.reshape(3, size[1], 2, size[0], 2).transpose(0, 2, 4, 1, 3)
        sound = np.broadcast_to(abs(image[:, None, None]) < 2, got.shape)
        found = (got - image[:, None, None])[sound]
        np.testing.assert_allclose(found, residual[sound], atol=1e-4 * abs(residual).max())


@pytest.mark.parametrize(
    ("name", "least"),
    # PSNR in dB: values next to the half between two codes may fall to either side, and small_2x has 16 blocks of them
    [("tiny_2x", 60), ("tiny_2x_video", 60), ("small_2x", 54), ("small_2x_video", 54)],
)
def test_presets_agree_with_the_onnx_reference(name: str, least: float) -> None:
    engine = engines.resolve(f"{name}_int8")
    image = smooth_noise(19, 14)
    clip = clip_of([list(image)], vs.RGBS)
    got = bits(core.aether.Run(clip, native_model.pack(native_graph.recognise(engine.model)).data)).view(np.float32)
    expected: Any = ReferenceEvaluator(onnx.load_model_from_string(engine.model)).run(None, {"input": image[None]})
    error = np.mean((got.astype(np.float64) - expected[0][0]) ** 2)
    assert -10 * np.log10(error) > least


def test_a_block_that_adds_its_bias_alone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    network = native_graph.recognise(engines.resolve("small_2x_int8").model)
    body = network.body
    assert isinstance(body, native_model.Gated)

    def packed(closed: int, bias: float = 1.0) -> bytes:
        blocks = list(body.blocks[5:8])
        fc2 = dataclasses.replace(blocks[closed].fc2, bias=blocks[closed].fc2.bias * np.float32(bias))
        blocks[closed] = dataclasses.replace(blocks[closed], product=1e-9, fc2=fc2)
        changed = dataclasses.replace(body, blocks=tuple(blocks))
        return native_model.pack(dataclasses.replace(network, body=changed)).data

    clip = clip_of([list(smooth_noise(19, 14))], vs.RGBS)
    without, biased = packed(1), packed(1, bias=2)
    monkeypatch.setattr(native_model, "DEAD", 0)
    whole = packed(1)
    assert len(without) < len(whole)
    expected, got, other = (bits(core.aether.Run(clip, blob)).view(np.float32) for blob in (whole, without, biased))
    assert np.abs(got - expected).max() < 1e-3 < np.abs(other - expected).max()
    monkeypatch.undo()
    assert len(packed(0)) == len(whole), "of the first one no block is left to add the bias"


def smooth_noise(width: int, height: int) -> np.ndarray:
    random = np.random.default_rng(0).random((3, height + 4, width + 4), np.float32)
    smooth = sum(random[:, y : y + height, x : x + width] for y in range(5) for x in range(5)) / 25
    return np.ascontiguousarray(0.7 * smooth + 0.3 * random[:, 2:-2, 2:-2], np.float32)


def test_auto_prefers_native_for_what_it_knows(toy_engine: str) -> None:
    if FORMS == ["plain"]:
        pytest.skip("this processor has no AVX2")
    for name in ("small_2x", "tiny_2x_video"):
        assert isinstance(backends.create("auto", engines.resolve(f"{name}_int8")), backends.Native)
        assert isinstance(backends.create("auto", engines.resolve(f"{name}_fp32")), backends.OpenVINO)
    assert isinstance(backends.create("auto", engines.resolve(toy_engine)), backends.OpenVINO)
    clip = noise(vs.YUV420P8, 64, 48)
    with pytest.raises(vs.Error, match="native: the kernels compute int8, and this engine is fp32"):
        vsaether.upscale(clip, "tiny_2x_fp32", backend="native")
    assert_same(vsaether.upscale(clip, "tiny_2x_int8"), vsaether.upscale(clip, "tiny_2x_int8", backend="native"))


def test_a_plugin_of_another_version_is_said(monkeypatch: pytest.MonkeyPatch, toy_engine: str) -> None:
    monkeypatch.setattr(native_backend, "_forms", list)
    assert "another version" in str(backends.probe()["native"])
    assert isinstance(backends.create("auto", engines.resolve("tiny_2x_int8")), backends.OpenVINO)
    monkeypatch.setattr(native_backend, "_forms", lambda: ["plain"])
    with pytest.raises(vsaether.BackendError, match="no AVX2"):
        backends.create("native", engines.resolve("tiny_2x_int8"))


def test_tiles_change_nothing() -> None:
    clip = noise(vs.RGB24, 150, 84)
    whole = vsaether.upscale(clip, "tiny_2x_int8", backend="native")
    for tile in (64, (150, 40)):
        assert_same(vsaether.upscale(clip, "tiny_2x_int8", backend="native", tile=tile), whole)


def test_many_frames_and_filters_at_once() -> None:
    blob = random_blob(1, 32, 48, 5, 2, 2, 4)
    clip = noise(vs.RGBS, 61, 40, 8)
    alone = [read_planes(core.aether.Run(clip[n], blob, threads=1)) for n in range(8)]
    both = core.std.StackHorizontal([core.aether.Run(clip, blob, threads=2), core.aether.Run(clip, blob)])
    for number, frame in enumerate(both.frames(prefetch=6, close=True)):
        np.testing.assert_array_equal([np.asarray(plane) for plane in frame], np.tile(alone[number], 2))


@pytest.mark.parametrize("shape", [(1, 16, 16, 3, 1, 2, 1), (0, 16, 0, 3, 1, 2, 1)], ids=str)
def test_a_damaged_blob_is_one_plain_line(shape: tuple[int, ...]) -> None:
    clip, blob = noise(vs.RGBS, 16, 16), random_blob(*shape)
    step = len(native_model.MAGIC) + 7 * 4
    damaged = {
        "is none that vsaether wrote": b"x" + blob[1:],
        "is cut short": blob[:-1],
        "is longer than": blob + b"\0",
        "do not compute": blob[:12] + struct.pack("<I", 17) + blob[16:],
        "no finite number": blob[:step] + struct.pack("<f", np.nan) + blob[step + 4 :],
        "sensible size": blob[: step + 4 + 16 * 27] + struct.pack("<f", 1e14) + blob[step + 8 + 16 * 27 :],
        "not positive": blob[:step] + struct.pack("<f", 0) + blob[step + 4 :],
    }
    for reason, wrong in damaged.items():
        with pytest.raises(vs.Error, match=f"^aether.Run: the model blob .*{reason}") as error:
            core.aether.Run(clip, wrong)
        assert "\n" not in str(error.value)
    for length in range(0, len(blob), 97):
        with pytest.raises(vs.Error, match=r"^aether\.Run: the model blob "):
            core.aether.Run(clip, blob[:length])


def test_wrong_arguments_of_run() -> None:
    clip, blob = noise(vs.RGBS, 16, 16), random_blob(*SHAPES[0])
    for arguments, reason in (
        ({"threads": -1}, "threads is -1"),
        ({"threads": 10**12}, "threads is"),
        ({"form": "mmx"}, "mmx"),
    ):
        with pytest.raises(vs.Error, match=f"^aether.Run: .*{reason}"):
            core.aether.Run(clip, blob, **arguments)
    with pytest.raises(vs.Error, match=r"^aether\.Run: the clip must be"):
        core.aether.Run(noise(vs.RGB24, 16, 16), blob)
    with pytest.raises(vsaether.ArgumentError, match="threads is 300; it must be a whole number from 1 to 256"):
        backends.Native(threads=300)


def node(graph: onnx.GraphProto, op: str, number: int = 0) -> onnx.NodeProto:
    return [n for n in graph.node if n.op_type == op][number]


def attribute(graph: onnx.GraphProto, op: str, name: str, value: Any, number: int = 0) -> None:
    found = next(a for a in node(graph, op, number).attribute if a.name == name)
    found.CopyFrom(onnx.helper.make_attribute(name, value))


CHANGES: dict[str, Callable[[onnx.GraphProto], object]] = {
    "dilation": lambda g: attribute(g, "Conv", "dilations", [2, 2], 3),
    "stride": lambda g: attribute(g, "Conv", "strides", [2, 2], 0),
    "padding": lambda g: attribute(g, "Conv", "pads", [0, 0, 0, 0], 1),
    "pad mode": lambda g: attribute(g, "Pad", "mode", "reflect"),
    "shuffle": lambda g: attribute(g, "DepthToSpace", "mode", "DCR"),
    "activation": lambda g: setattr(node(g, "Relu"), "op_type", "Abs"),
    "sum": lambda g: setattr(node(g, "Add", -2), "op_type", "Mul"),
    "mean": lambda g: setattr(node(g, "Sub"), "op_type", "Add"),
    "zero point": lambda g: rewrite(g, "zero_point", lambda v: v + 1),
    "weight": lambda g: rewrite(g, "weight_int8", lambda v: v[:, :, :, :2]),
    "bias": lambda g: rewrite(g, ".bias", lambda v: v[:-1]),
    "more nodes": lambda g: g.node.append(onnx.helper.make_node("Relu", ["input"], ["more"])),
    "another order of the picture's planes": lambda g: node(g, "Concat").input.reverse(),
}
"""Ways in which a graph can be another one, for which the kernels must not be taken."""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["small_2x", "tiny_2x"])
def test_another_graph_is_refused(name: str, change: str) -> None:
    engine = engines.resolve(f"{name}_int8")
    assert backends.Native.refusal(engine) is None
    model = onnx.load_model_from_string(engine.model)
    CHANGES[change](model.graph)
    other = dataclasses.replace(engine, model=model.SerializeToString())
    assert backends.Native.refusal(other)
    assert isinstance(backends.create("auto", other), backends.OpenVINO)
