"""The GPU benchmark on a CPU: the Triton kernels interpreted and compiled, packing, what a failure leaves."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_pack, gpu_page
from benchmarks.gpu_record import Record, read

ROOT = Path(gpu.__file__).parents[1]
triton = pytest.importorskip("triton", reason="Triton is not installed: its kernels were NOT run")


def run(code: str, **environment: str) -> str:
    """What a Python process of its own prints: Triton's interpreter is switched on before its import."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_kernels_compute_the_block() -> None:
    """Against torch in float32, at a size that no tile divides; every pixel is written, and none of the frame."""
    code = """
    from benchmarks import gpu_block as g
    for paired in (False, True):
        for rows in (g.FLOAT32_SUMS, g.HALF_ROWS):
            result = g.check_block("cpu", 9, 13, g.Schedule(8, 8, 32, 4, 2, rows, paired=paired))
            print(result["error"], result["layers"], result["written_outside"])
    """
    lines = [list(map(float, line.split())) for line in run(code, TRITON_INTERPRET="1").splitlines()]
    assert len(lines) == 4
    for error, layers, outside in lines:
        assert error < 1.1 * layers  # no worse than torch's own fp16, layer by layer
        assert outside == 0


def test_the_kernels_compile_for_the_card() -> None:
    """For compute capability 9.0, without one; the matrix units are used and little is spilled."""
    code = """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    import triton
    from benchmarks import gpu_block as g
    kinds = ["*fp16", "*fp16", "*fp16", "*fp32", "*fp16", "*fp32", "*fp16", "*fp32", "i32", "i32", "fp32"]
    for kernel in (g.fused_block, g.paired_block):
        constants = dict(K=5, G=32, H=192, HB=32, BH=8, BW=8, HALF=True, STAGES=2)
        signature = dict(zip(kernel.arg_names, kinds)) | {name: "constexpr" for name in constants}
        aligned = {(i,): [["tt.divisibility", 16]] for i in range(8)}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
        print(made.asm["ptx"].count("wgmma.mma_async"), made.metadata.shared)
    """
    for line in run(code).splitlines():
        products, shared = map(int, line.split())
        assert products >= 10
        assert shared < 227 << 10


def test_what_is_packed_comes_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, with their SHA-256; a missing or damaged piece is named before anything is unpacked."""
    monkeypatch.setattr(gpu_pack, "PIECE", 32 << 10)
    monkeypatch.setattr(gpu_pack, "SOURCES", ("benchmarks",))
    monkeypatch.setitem(gpu_pack.DISTRIBUTIONS, "core", ("tqdm",))
    packed, target = tmp_path / "packed", tmp_path / "target"
    sizes = gpu_pack.pack(packed, ROOT, None, ["core"])
    assert len(sizes) > 1
    assert max(sizes.values()) <= 32 << 10
    gpu_pack.unpack(packed, target, "core")
    assert (target / "benchmarks/gpu.py").read_bytes() == (ROOT / "benchmarks/gpu.py").read_bytes()
    assert (target / "site/tqdm/__init__.py").is_file()
    piece = packed / "core.tar.xz.01"
    piece.write_bytes(piece.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"core\.tar\.xz\.01 is damaged"):
        gpu_pack.unpack(packed, tmp_path / "other", "core")
    piece.unlink()
    with pytest.raises(ValueError, match="missing"):
        gpu_pack.unpack(packed, tmp_path / "other", "core")
    assert not (tmp_path / "other").exists()


def test_a_failure_leaves_what_was_measured(tmp_path: Path) -> None:
    """Each line stands before the next step; failures and what no time was left for are recorded by name."""
    path = tmp_path / "results.jsonl"
    with Record(path, deadline=4e9) as record:
        assert record.step("first", lambda: {"median_ms": 1.5})["median_ms"] == 1.5
        assert json.loads(path.read_text())["step"] == "first"
        assert record.step("second", lambda: 1 / 0) is None
        record.deadline = 0
        assert record.step("third", lambda: {"median_ms": 2}) is None
    with path.open("a") as file:
        file.write('{"step": "cut o')
    entries = read(path)
    assert [entry["step"] for entry in entries] == ["first", "second", "third"]
    assert "ZeroDivisionError" in entries[1]["error"]
    page = gpu_page.page(entries)
    assert "second: ZeroDivisionError" in page
    assert "third" in page


def test_it_is_tried_without_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU cannot is said, TensorRT has none, and the page has no numbers. (Of all parts the longest and the one
    that fails; torch.compile and ort by hand.)
    """
    command = [
        "gpu",
        "run",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
        "--budget",
        "3600",
        "--only",
        "torch",
        "trt_rtx",
    ]
    monkeypatch.setattr(sys, "argv", command)
    assert gpu.main() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl", "dry_run.md"}
    page = (tmp_path / "dry_run.md").read_text()
    assert "nothing was measured" in page.splitlines()[0]
    rows = dict(line.strip("| ").split(" | ") for line in page.partition("|---|---|\n")[2].splitlines())
    for network in ("small_2x", "tiny_2x", "compact_16x64", "span_48", "plksr_tiny"):
        assert rows[f"{network}, eager, 8x8"] == "ran"
        assert rows[f"{network}, graph, 8x8"] == "skipped: a CPU has no CUDA graphs"
    assert "ran without" in rows["small_2x, fused block, 8x8"]
    others = {step for step, state in rows.items() if not state.startswith(("ran", "skipped: a CPU"))}
    assert others <= {"trt_rtx probe"}
