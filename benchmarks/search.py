"""Choose a network and an optimizer by measured quality and time, every candidate with the same budget.

    python -m benchmarks.search train --data DIR --val DIR [--out runs/search] [--threads N]
    python -m benchmarks.search time [--out runs/search] [--docs docs]

`train` runs training.train's float stage for each candidate of candidates.toml; killed, it goes on where it stopped.
`time` measures the networks' int8 on OpenVINO beside Compact's, in one run (nothing else should run then), and writes
docs/search.json, docs/search.md and docs/search.png.
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

from benchmarks import peers, speed
from export.verify import write
from training.plot import PlotError, read_curves

CANDIDATES = Path(__file__).with_name("candidates.toml")
PEER = "compact_16x64_int8"
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
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    groups = candidates(tomllib.loads(CANDIDATES.read_text()))
    if args.step == "train":
        if not args.data or not args.val:
            parser.error("train needs --data and --val.")
        return train(groups, args)
    try:
        result = measure(groups, args)
    except PlotError as error:
        print(f"benchmarks.search: {error}", file=sys.stderr)
        return 1
    write(json.dumps(result, indent=1).encode() + b"\n", args.docs / "search.json")
    write(table(result).encode(), args.docs / "search.md")
    plot(result, args.docs / "search.png")
    print(table(result))
    return 0


def candidates(spec: Config) -> dict[str, dict[str, Config]]:
    """Group: name: the configuration of training.train."""
    base = spec.pop("base")

    def merged(changes: Config) -> Config:
        config = copy.deepcopy(base)
        for section, entries in changes.items():
            config[section] |= entries
        return config

    return {group: {name: merged(c) for name, c in entries.items()} for group, entries in spec.items()}


def folders(groups: dict[str, dict[str, Config]], out: Path) -> dict[str, Path]:
    """Name: its run. Equal configurations of two groups are one run."""
    runs: dict[str, Path] = {}
    seen: dict[str, Path] = {}
    for group, entries in groups.items():
        for name, config in entries.items():
            path = out / f"{group}_{name}".replace(" ", "_")
            runs[name] = seen.setdefault(json.dumps(config, sort_keys=True), path)
    return runs


def train(groups: dict[str, dict[str, Config]], args: argparse.Namespace) -> int:
    """Train every candidate; the exit code of the first that fails."""
    runs = folders(groups, args.out)
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


def measure(groups: dict[str, dict[str, Config]], args: argparse.Namespace) -> Config:
    """Validation PSNR of the runs and the networks' int8 times. Raises PlotError where a run is missing."""
    runs = folders(groups, args.out)
    curves = {name: read_curves(run)["float"] for name, run in runs.items()}
    width, height = map(int, args.size.split("x"))
    times = speed.alone(network_times, list(groups["networks"].items()), width, height, args.rounds)
    config = groups["networks"][next(iter(groups["networks"]))]["float"]
    for name, curve in curves.items():
        if curve["step"][-1] != config["steps"]:
            raise PlotError(f"{runs[name]} ends at step {curve['step'][-1]:.0f} of {config['steps']}; train on.")
    return {
        "machine": speed.machine(),
        "size": args.size,
        "rounds": args.rounds,
        "budget": {key: config[key] for key in ("steps", "batch", "patch")},
        "psnr_y": {g: {n: curves[n]["psnr_y"][-1] for n in entries} for g, entries in groups.items()},
        "macs_per_pixel": {n: macs(c["model"]) for n, c in groups["networks"].items()},
        "times": times,
    }


def macs(model: Config) -> int:
    """Multiplications a pixel of the input: 9 per pair of channels in every convolution."""
    c, image = model["embed_dim"], 3
    return 9 * (image * c + (model["depth"] - 2) * c * c + c * image * model["scale"] ** 2)


def network_times(networks: list[tuple[str, Config]], width: int, height: int, rounds: int) -> speed.Times:
    """Milliseconds a frame of the networks' int8 forms and of Compact's, of random weights."""
    import arch

    with tempfile.TemporaryDirectory() as folder:
        files = {PEER: peers.write_onnx("compact_16x64", Path(folder), int8=True)}
        for name, config in networks:
            model = arch.fuse(getattr(arch, config["variant"])(**config["model"]).eval())
            files[name] = peers.write_network(model, Path(folder) / f"{name}.onnx", int8=True)
        return speed.time_files(files, width, height, rounds)


def table(result: Config) -> str:
    """The Markdown page."""
    budget, times = result["budget"], result["times"]
    pixels = budget["steps"] * budget["batch"] * budget["patch"] ** 2 / 1e6
    lines = [
        "# Search",
        "",
        f"`python -m benchmarks.search`: every candidate trained {budget['steps']} steps of {budget['batch']} crops of "
        f"{budget['patch']} px ({pixels:.0f} Mpx), then timed in one run on {result['machine']['cpu']}, "
        f"{result['machine']['cores']} cores, OpenVINO {result['machine']['openvino']}, {result['size']}. PSNR is the "
        "float network's Y-PSNR on the validation images; a short training says which is better, not how good it gets.",
        "",
        "## Networks (channels x convolutions)",
        "",
        "| network | K MAC/px | int8 ms | against Compact int8 | validation dB |",
        "|---|---|---|---|---|",
    ]
    peer = times[PEER]["median_ms"]
    for name, psnr in result["psnr_y"]["networks"].items():
        ms = times[name]["median_ms"]
        lines.append(
            f"| {name} | {result['macs_per_pixel'][name] / 1e3:.0f} | {ms:.1f} | {ms / peer:.2f} | {psnr:.3f} |"
        )
    lines += ["", f"Compact 16x64 int8: {peer:.1f} ms.", "", "![search](search.png)", ""]
    lines += ["## Optimizers and learning rates", "", "| optimizer, lr | validation dB |", "|---|---|"]
    lines += [f"| {name} | {psnr:.3f} |" for name, psnr in result["psnr_y"]["optimizers"].items()]
    return "\n".join(lines) + "\n"


def plot(result: Config, path: Path) -> None:
    """PSNR against int8 time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, psnr in result["psnr_y"]["networks"].items():
        ms = result["times"][name]["median_ms"]
        axes.plot(ms, psnr, "o", color="tab:orange")
        axes.annotate(name, (ms, psnr), textcoords="offset points", xytext=(6, -4))
    limit = result["times"][PEER]["median_ms"] / 4
    axes.axvline(limit, color="tab:gray", linestyle="--", label="a quarter of Compact 16x64 int8")
    axes.set(xlabel=f"int8 ms a frame, {result['size']}", ylabel="validation Y-PSNR / dB, float")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
