"""Choose a network and an optimizer by measured quality and time, a group of candidates with the same budget.

    python -m benchmarks.search train --data DIR --val DIR [--group NAME] [--out runs/search] [--threads N]
    python -m benchmarks.search time [--group NAME] [--out runs/search] [--docs docs/results]

`train` runs training.train's float stage for each candidate of candidates.toml; killed, it goes on where it stopped.
`time` measures the networks' int8 on OpenVINO beside Compact's, a group in one run (nothing else should run then), and
writes search.json, search.md and search.webp to docs/results. Groups that are not asked for stay as they were measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch.utils.flop_counter import FlopCounterMode

import arch
from benchmarks import peers, speed
from presets import files
from presets.command import run_command
from training.errors import PlotError
from training.plot import read_curves

CANDIDATES = Path(__file__).with_name("candidates.toml")
PEER = "compact_16x64_int8"
TITLES = {
    "networks": "aether_tiny: channels x convolutions",
    "options": "aether_small: the released form, and others with one option changed",
    "optimizers": "Optimizers and learning rates, aether_tiny 32x8",
}
LIMITS = {"networks": 0.25, "options": 3.0}  # of Compact's int8 time; the groups that are timed
Config = dict[str, Any]


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "time"))
    parser.add_argument("--data", type=Path, help="as for training.train")
    parser.add_argument("--val", type=Path, help="as for training.train")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--out", type=Path, default=Path("runs/search"), help="folder of the candidates' runs")
    parser.add_argument("--size", default="480x270", help="size of the frames that are timed, WxH")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    parser.add_argument("--group", choices=tuple(TITLES), help="this group alone; all by default")
    args = parser.parse_args()
    groups = candidates(tomllib.loads(CANDIDATES.read_text()))
    runs = folders(groups, args.out)
    chosen = {name: entries for name, entries in groups.items() if args.group in (None, name)}
    if args.step == "train":
        if not args.data or not args.val:
            parser.error("train needs --data and --val.")
        return train(chosen, runs, args)
    path = args.docs / "search.json"
    result = json.loads(path.read_text()) if args.group and path.exists() else {}
    result |= {group: measure(group, entries, runs, args) for group, entries in chosen.items()}
    files.write(path, json.dumps(result, indent=1).encode() + b"\n")
    files.write(args.docs / "search.md", table(result).encode())
    plot(result, args.docs / "search.webp")
    print(table(result))
    return 0


def candidates(spec: Config) -> dict[str, dict[str, Config]]:
    """Group: name: the configuration of training.train."""

    def merged(base: Config, changes: Config) -> Config:
        config = copy.deepcopy(base)
        for section, entries in changes.items():
            config[section] |= entries
        return config

    return {
        group: {name: merged(variant["base"], changes) for name, changes in entries.items()}
        for variant in spec.values()
        for group, entries in variant.items()
        if group != "base"
    }


def folders(groups: dict[str, dict[str, Config]], out: Path) -> dict[str, Path]:
    """Name: its run. Equal configurations of two groups are one run."""
    runs: dict[str, Path] = {}
    seen: dict[str, Path] = {}
    for group, entries in groups.items():
        for name, config in entries.items():
            path = out / f"{group}_{name}".replace(" ", "_")
            runs[name] = seen.setdefault(json.dumps(config, sort_keys=True), path)
    return runs


def train(groups: dict[str, dict[str, Config]], runs: dict[str, Path], args: argparse.Namespace) -> int:
    """Train every candidate; the exit code of the first that fails."""
    for name, config in {n: c for entries in groups.values() for n, c in entries.items()}.items():
        run = runs[name]
        run.mkdir(parents=True, exist_ok=True)
        path = run / "config.toml"
        path.write_text(tomli_w.dumps(config))
        command = [sys.executable, "-m", "training.train", path, "--data", args.data, "--val", args.val, "--out", run]
        print(f"{name}: {run}", flush=True)
        if code := subprocess.run([*map(str, command), "--threads", args.threads], check=False).returncode:
            return code
    return 0


def measure(group: str, entries: dict[str, Config], runs: dict[str, Path], args: argparse.Namespace) -> Config:
    """Validation PSNR of a group's runs and its networks' int8 times. Raises PlotError where a run is missing."""
    curves = {name: read_curves(runs[name])["float"] for name in entries}
    for name, config in entries.items():
        if (last := curves[name]["step"][-1]) != (steps := config["float"]["steps"]):
            raise PlotError(f"{runs[name]} ends at step {last:.0f} of {steps}; train on.")
    schedule = next(iter(entries.values()))["float"]
    result: Config = {
        "machine": speed.machine(),
        "budget": {key: schedule[key] for key in ("steps", "batch", "patch")},
        "psnr_y": {name: curve["psnr_y"][-1] for name, curve in curves.items()},
    }
    if group in LIMITS:
        networks = {name: network(config) for name, config in entries.items()}
        width, height = map(int, args.size.split("x"))
        times = speed.in_process(network_times, list(networks.items()), width, height, args.rounds)
        macs_per_pixel = {name: macs(model) for name, model in networks.items()}
        result |= {"size": args.size, "rounds": args.rounds, "macs_per_pixel": macs_per_pixel, "times": times}
    return result


def network(config: Config) -> arch.Upscaler:
    """The candidate's network as it is deployed, of random weights."""
    torch.manual_seed(0)
    model = getattr(arch, config["variant"])(**config["model"]).eval()
    if config["model"].get("deployed_kernel"):
        model.anneal(0.0)
    fused = arch.fuse(model)
    assert isinstance(fused, arch.Upscaler)
    return fused


def macs(model: arch.Upscaler) -> int:
    """Multiplications a pixel of the input, without those of the border that pictures are continued by."""
    side, border = 64, model.config.border
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side - 2 * border, side - 2 * border))
    return round(counter.get_total_flops() / 2 / side**2)


def network_times(networks: list[tuple[str, arch.Upscaler]], width: int, height: int, rounds: int) -> speed.Times:
    """Milliseconds a frame of the networks' int8 forms and of Compact's."""
    with tempfile.TemporaryDirectory() as folder:
        files = {PEER: peers.write_onnx("compact_16x64", Path(folder), int8=True)}
        for number, (name, model) in enumerate(networks):
            files[name] = peers.write_network(model, Path(folder) / f"{number}.onnx", int8=True)
        return speed.time_files(files, width, height, rounds)


def table(result: Config) -> str:
    """The Markdown page."""
    lines = [
        "# Search",
        "",
        "`python -m benchmarks.search`: within a table all candidates were trained for the same steps and timed in one "
        "run, with Compact 16x64. PSNR is the float network's Y-PSNR on the validation images; a short training says "
        "which is better, not how good it gets.",
    ]
    for group in sorted(result, key=list(TITLES).index):
        measured = result[group]
        budget, machine, scores = measured["budget"], measured["machine"], measured["psnr_y"]
        pixels = budget["steps"] * budget["batch"] * budget["patch"] ** 2 / 1e6
        trained = f"{budget['steps']} steps of {budget['batch']} crops of {budget['patch']} px ({pixels:.1f} Mpx)"
        lines += ["", f"## {TITLES[group]}", ""]
        if group not in LIMITS:
            lines += [f"Trained {trained}.", "", "| candidate | validation dB |", "|---|---|"]
            lines += [f"| {name} | {psnr:.3f} |" for name, psnr in scores.items()]
            continue
        times = measured["times"]
        peer = times[PEER]["median_ms"]
        lines += [
            f"Trained {trained}; timed on {machine['cpu']}, {machine['cores']} cores, OpenVINO {machine['openvino']}, "
            f"{measured['size']}, where Compact took {peer:.1f} ms in int8.",
            "",
            "| candidate | K MAC/px | int8 ms | against Compact int8 | validation dB |",
            "|---|---|---|---|---|",
        ]
        for name, psnr in scores.items():
            ms, thousands = times[name]["median_ms"], measured["macs_per_pixel"][name] / 1e3
            lines.append(f"| {name} | {thousands:.0f} | {ms:.1f} | {ms / peer:.2f} | {psnr:.3f} |")
    return "\n".join([*lines, "", "![search](search.webp)"]) + "\n"


def plot(result: Config, path: Path) -> None:
    """PSNR against int8 time, a panel for each group that is timed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 8), layout="constrained")
    timed = {group: share for group, share in LIMITS.items() if group in result}
    for (group, share), axes in zip(timed.items(), figure.subplots(len(timed), squeeze=False)[:, 0], strict=True):
        times = result[group]["times"]
        for name, psnr in result[group]["psnr_y"].items():
            ms = times[name]["median_ms"]
            axes.plot(ms, psnr, "o", color="tab:orange")
            axes.annotate(name, (ms, psnr), textcoords="offset points", xytext=(6, -4))
        limit = times[PEER]["median_ms"] * share
        axes.axvline(limit, color="tab:gray", linestyle="--", label=f"{share:g} of Compact 16x64 int8")
        axes.set(title=TITLES[group], ylabel="validation Y-PSNR / dB, float")
        axes.set_xlabel(f"int8 ms a frame, {result[group]['size']}")
        axes.margins(x=0.12)  # room for the names
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=110, pil_kwargs={"lossless": True})


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.search", main))
