"""Pages on what benchmarks.gpu recorded: tables of a card's measurements, or of a dry run what ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import presets
from benchmarks import gpu_pack
from benchmarks.gpu_record import read

DRY = {"step": "dry run", "dry": True}
"""The first entry of a run without a card."""
URBAN100 = {"compact_16x64": 31.72, "span_48": 32.24, "plksr_tiny": 32.43}
"""The peers' Y-PSNR, 2x, as published (traiNNer-redux's benchmark table; PLKSR's paper, DIV2K)."""


def report(out: Path) -> str:
    """Write gpu.json and gpu.md, or dry_run.md alone, from the lines that there are; returns the page."""
    entries = read(out / "results.jsonl")
    dry = any("dry" in entry for entry in entries)
    text = dry_page(entries) if dry else page(entries)
    if not dry:
        (out / "gpu.json").write_text(json.dumps(entries, indent=1))
    (out / ("dry_run.md" if dry else "gpu.md")).write_text(text)
    return text


def dry_page(entries: list[dict[str, Any]]) -> str:
    """What ran without a card and what did not; none of the numbers, which say nothing about one."""
    lines = ["# Dry run on a CPU: nothing was measured", ""]
    lines += ["Triton's kernels were interpreted, and torch.compile traced without making code.", ""]
    lines += ["| step | |", "|---|---|"]
    for entry in entries:
        if "dry" in entry:
            continue
        state = "ran"
        if "without" in entry:
            state = f"ran without {entry['without']}"
        for kind in ("skipped", "left_out"):
            if kind in entry:
                state = f"{kind.replace('_', ' ')}: {entry[kind]}"
        if isinstance(entry.get("error"), str):
            state = f"failed: {' '.join(entry['error'].split())[:200]}"
        lines.append(f"| {entry['step'].replace(' | ', ', ')} | {state} |")
    return "\n".join(lines) + "\n"


def quality() -> dict[str, float]:
    """Y-PSNR on Urban100, 2x: ours from the presets' fp16 measurement, the peers' as published."""
    found = dict(URBAN100)
    for name in gpu_pack.ENGINES:
        measured = presets.load(name)["measured"]
        found[name] = measured["fp16"]["Urban100"]["psnr"]
    return found


def page(entries: list[dict[str, Any]]) -> str:
    """The Markdown tables."""
    cards = [e for e in entries if "card" in e]
    lines = ["# GPU", ""]
    for e in cards[:1]:
        lines.append(
            f"{e['card']}, PyTorch {e['torch']}: copies {e['bandwidth_tb_s']:.2f} TB/s (read and written), fp16 matrix "
            f"product {e['fp16_tflop_s']:.0f} TFLOP/s; both measured in the same run."
        )
    timed = [(e["step"].split(" | "), e) for e in entries if " | " in e["step"] and "median_ms" in e]
    db = quality()
    for size in dict.fromkeys(parts[2] for parts, _ in timed):
        rows = {(p[0], p[1]): e for p, e in timed if p[2] == size}
        best = min((e["median_ms"] for (name, _), e in rows.items() if name == "compact_16x64"), default=None)
        lines += ["", f"## Networks alone, fp16, {size} to twice the size", ""]
        lines += [
            "| network | how | ms | fps | against Compact's best | % of roofline | bound | peak MiB | Urban100 dB |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for (name, how), e in sorted(rows.items(), key=lambda item: item[1]["median_ms"]):
            ratio = f"{e['median_ms'] / best:.2f}" if best else ""
            peak = f"{e['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in e else ""
            lines.append(
                f"| {name} | {how} | {e['median_ms']:.2f} | {e['fps']:.0f} | {ratio} | {e['percent_of_roofline']:.0f} "
                f"| {e['bound']} | {peak} | {db.get(name, 0):.2f} |"
            )
    filters = [e for e in entries if "first_frame_s" in e]
    if filters:
        lines += ["", "## Through VapourSynth", "", "| what | fps | first frame s |", "|---|---|---|"]
        lines += [f"| {e['step']} | {e['fps']:.1f} | {e['first_frame_s']:.1f} |" for e in filters]
    checks = [e for e in entries if "max_difference_of_255" in e or "max_error" in e]
    if checks:
        lines += ["", "## Against the CPU or float32", ""]
        for e in checks:
            keys = ("max_difference_of_255", "mean_difference", "max_error", "max_error_of_torch_fp16", "schedule")
            lines.append(f"- {e['step']}: " + ", ".join(f"{k} {e[k]}" for k in keys if k in e))
    blocks = [e for e in entries if e["step"].startswith("block ") and "median_ms" in e]
    if blocks:
        lines += [
            "",
            "## The fused block's schedules",
            "",
            "| schedule | ms | % of roofline | error |",
            "|---|---|---|---|",
        ]
        for e in sorted(blocks, key=lambda e: e["median_ms"]):
            shown = f"{e['percent_of_roofline']:.0f} | {e['error']:.1e}"
            lines.append(f"| {e['step'][6:]} | {e['median_ms']:.3f} | {shown} |")
    failed = [e for e in entries if "error" in e and isinstance(e["error"], str)]
    if failed:
        lines += ["", "## What failed", ""] + [f"- {e['step']}: {e['error'][:300]}" for e in failed]
    missing = [e["step"] for e in entries if "left_out" in e]
    if missing:
        lines += ["", f"Left out for want of time: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"
