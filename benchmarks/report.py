"""What people see of the models, made from measured files: README's figures, the cards, OpenModelDB's entries.

    python -m benchmarks.report

Quality comes from presets/*/preset.json (python -m benchmarks.quality --presets), speed from docs/results/speed.json
(python -m benchmarks.speed); nothing is measured here. Writes the table between README's markers, docs/overview.webp,
docs/results/quality.md, docs/models/<preset>.md, a picture of crops by those for clean pictures, and
presets/<preset>/openmodeldb.json.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import presets
from benchmarks import cards, pictures
from export.errors import ExportError
from presets import files
from presets.command import run_command

README = Path("README.md")
DOCS = Path("docs")
BEGIN, END = "<!-- figures: python -m benchmarks.report -->\n", "<!-- end of figures -->"
BENCHMARKS = ("Set5", "Set14", "BSD100", "Urban100")
PUBLISHED = {  # Y-PSNR / SSIM of peers on BENCHMARKS, 2x, as their authors or traiNNer-redux give them
    "compact_16x64": ("—", "—", "—", "31.72 / 0.9257"),
    "span_48": ("—", "—", "—", "32.24 / 0.9294"),
    "SMFANet": ("38.08 / 0.9607", "33.65 / 0.9185", "32.22 / 0.9002", "32.20 / 0.9282"),
    "SMFANet+": ("38.19 / 0.9611", "33.92 / 0.9207", "32.32 / 0.9015", "32.70 / 0.9331"),
}
TIMED_SOURCE = "Compact and SPAN: [traiNNer-redux's benchmarks](https://github.com/the-database/traiNNer-redux)"
SOURCES = f"{TIMED_SOURCE}; SMFANet: [its authors' figures](https://github.com/Zheng-MJ/SMFANet), DF2K"
NATIVE = " (native)"  # ends the name of an engine in our own kernels in speed.json
Presets = dict[str, dict[str, Any]]
Figures = dict[str, dict[str, dict[str, float]]]
"""Engine: benchmark: {"psnr", "ssim"}."""


def main() -> int:
    """Write everything; returns the exit code."""
    speed = json.loads((DOCS / "results" / "speed.json").read_text())
    measured = {name: presets.load(name) for name in presets.names()}
    times = milliseconds(speed)
    figures = engines(measured)
    files.write(README, readme(README.read_text(encoding="utf-8"), short(figures, speed)).encode())
    files.write(DOCS / "results" / "quality.md", page(figures, speed).encode())
    shown = {name: time for name, time in times.items() if name.endswith("int8") or name not in figures}
    where = f"ms a frame of {speed['size']}, 2x, {speed['machine']['cores']} CPU cores (README's table; peers in gray)"
    pictures.overview({n: t for n, t in shown.items() if "video" not in n}, where, DOCS / "overview.webp")
    (DOCS / "models").mkdir(exist_ok=True)
    clean = [
        name for name, preset in measured.items() if not cards.for_video(preset)
    ]  # on compressed: benchmarks.video
    pictures.compare(sorted(clean, key=lambda n: times[f"{n}_int8"])).save(
        DOCS / "models" / "comparison.webp", lossless=True
    )
    for name, preset in measured.items():
        files.write(DOCS / "models" / f"{name}.md", cards.card(preset, times).encode())
        entry = json.dumps(cards.open_model_db(preset), indent=4, ensure_ascii=False)
        files.write(presets.DIR / name / "openmodeldb.json", entry.encode() + b"\n")
    return 0


def readme(text: str, figures: str) -> str:
    """README with `figures` between its markers; ExportError where they are missing."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    if not re.search(pattern, text, re.DOTALL):
        raise ExportError(f"{README} lacks the lines {BEGIN.strip()} and {END}, between which the table goes.")
    return re.sub(pattern, lambda _: BEGIN + figures + END, text, flags=re.DOTALL)


def milliseconds(speed: dict[str, Any]) -> dict[str, float]:
    """Network: milliseconds a frame; of an engine that our own kernels can run, in those, as "auto" has it."""
    times = {name: t["median_ms"] for name, t in speed["networks"].items()}
    own = {name.removesuffix(NATIVE): time for name, time in times.items() if name.endswith(NATIVE)}
    return {name: time for name, time in times.items() if not name.endswith(NATIVE)} | own


def engines(measured: Presets) -> Figures:
    """Quality of every engine. Raises ExportError where engines have not been measured on the same benchmarks."""
    figures = {f"{n}_{p}": found for n, preset in measured.items() for p, found in preset["measured"].items()}
    folders = max(figures.values(), key=len)
    for name, found in figures.items():
        if missing := [f for f in folders if f not in found]:
            raise ExportError(f"{name} has not been measured on {', '.join(missing)}: python -m benchmarks.quality.")
    return figures


def conditions(speed: dict[str, Any], sources: str) -> str:
    """How the times were measured, and where the peers' quality is from."""
    own = ", our int8 in our own kernels" if any(name.endswith(NATIVE) for name in speed["networks"]) else ""
    machine = speed["machine"]
    return (
        f"Y-PSNR in dB / SSIM, 2x. Time: the network alone on OpenVINO{own}, "
        f"{speed['size']} input, {machine['cores']} cores of an {machine['cpu']}, int8 with "
        f"{machine['int8 instructions']}. Peers: their quality is as published, in float ({sources}), their times were "
        "measured with random weights."
    )


def short(figures: Figures, speed: dict[str, Any]) -> str:
    """README's table: int8 engines, and the peers of which all is known, the fastest first."""
    times = milliseconds(speed)
    rows = {n: cell(found["Urban100"]) for n, found in figures.items() if n.endswith("int8") and n in times}
    rows |= {n: PUBLISHED[peer(n)][-1] for n in times if n not in figures and peer(n)}
    lines = ["| network | meant for | Urban100 | ms a frame |", "|---|---|---|---|"]
    for name in sorted(rows, key=lambda n: (times[n], n)):
        meant = cards.MEANT[presets.split(name)[0]] if name in figures else "a peer"
        lines.append(f"| {name} | {meant} | {rows[name]} | {times[name]:.0f} |")
    return "\n".join([*lines, "", conditions(speed, TIMED_SOURCE)]) + "\n"


def page(figures: Figures, speed: dict[str, Any]) -> str:
    """docs/results/quality.md: every engine and peer on every benchmark."""
    times = milliseconds(speed)
    folders = list(max(figures.values(), key=len))
    lines = [
        "# Quality",
        "",
        "`python -m benchmarks.quality --presets --images Set5 --images Set14 ...`: HR is made small by MATLAB's "
        "bicubic and rounded to 8 bits; Y is BT.601's limited range; 2 pixels of border are left out.",
        "",
        f"| network | {' | '.join(folders)} | ms a frame |",
        "|---" * (len(folders) + 2) + "|",
    ]
    rows = {name: [cell(found[f]) for f in folders] for name, found in figures.items()}
    for name in (*(n for n in times if n not in figures and peer(n)), *PUBLISHED):
        if name in times or not any(n.startswith(name) for n in times):
            published: dict[str, str] = dict(zip(BENCHMARKS, PUBLISHED[peer(name)], strict=True))
            rows[name] = [published.get(f, "—") for f in folders]
    for name in sorted(rows, key=lambda n: (n not in figures, times.get(n, math.inf), n)):
        lines.append(f"| {name} | {' | '.join(rows[name])} | {f'{times[name]:.0f}' if name in times else '—'} |")
    return (
        "\n".join([*lines, "", conditions(speed, SOURCES), "", "—: not published, or not timed: fp16 is for cards."])
        + "\n"
    )


def cell(figures: dict[str, float]) -> str:
    """Y-PSNR / SSIM."""
    return f"{figures['psnr']:.2f} / {figures['ssim']:.4f}"


def peer(name: str) -> str:
    """Of which peer a network's name is; empty where it is none of those published."""
    return next((p for p in sorted(PUBLISHED, key=len, reverse=True) if name.startswith(p)), "")


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.report", main))
