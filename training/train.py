"""Train one model: python -m training.train CONFIG.toml --data DIR --out DIR [--stage float|qat] [--max-minutes N]

From top to bottom, the same on two CPU cores and on one GPU. The float stage trains the network with
its re-parameterised branches; the qat stage fuses the float result, fake-quantises the fused graph and
fine-tunes it with the float network as teacher. State is saved every `save_every` steps in files of a few MB,
under a name that appears only when complete; run the same command again to go on. On a GPU everything lies there,
and a step is one CUDA graph (see training.accelerate).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import arch
from arch.checkpoint import weights_sha256
from export import quantizer
from export.quality import score
from presets.command import run_command
from presets.files import sha256
from training import accelerate, curve
from training.config import DEGRADATIONS, read_config
from training.data import Batches, Pair, validation_set
from training.errors import TrainingError
from training.images import read_answers, read_images
from training.loss import distance, mean_of_flips, spectral, target
from training.optimizer import GRAPHED, has_bf16, make_optimizer, set_rate
from training.resume import find_state, load_state, read_facts, save_state
from training.start import build_network, fake_quantise, find_teacher, refuse_unfinished, trained_ranges


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description="Train one model.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of images or .tar shards of them")
    parser.add_argument("--val", type=Path, help="folder of validation images (HR)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the state, curves and checkpoints")
    parser.add_argument("--stage", choices=("float", "qat"), default="float")
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="stop then, to go on another time")
    parser.add_argument(
        "--fit-minutes", type=float, metavar="N", help="end the schedule after N minutes, whatever `steps` says"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, choices=range(1, 1025), metavar="N", help="CPU threads")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="torch.compile the network's passes; default: on a GPU, where it can be used",
    )
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.max_minutes >= 0:
        parser.error(f"--max-minutes is {args.max_minutes}; it must be a number from 0.")
    if args.fit_minutes is not None and not 0 < args.fit_minutes < math.inf:
        parser.error(f"--fit-minutes is {args.fit_minutes}; it must be a number above 0.")
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {args.device} cannot be used: {str(error).splitlines()[0]}")
    given, args.on_gpu = args.compile, torch.device(args.device).type == "cuda"
    args.compile = args.on_gpu if given is None else given
    if args.compile:
        try:  # the compilers that torch needs, a C++ one or Triton, are not part of it
            torch.compile(torch.sin)(torch.ones(1, device=args.device))
        except Exception as error:  # of many kinds, according to what is missing
            reason = f"--compile cannot be used here: {str(error).strip().splitlines()[0]}"
            if given:
                parser.error(reason)
            accelerate.say(reason)
            args.compile = False
    return run_command("training.train", lambda: train(args))


def train(args: argparse.Namespace) -> None:
    """Run or resume one stage until its steps or the time are used up."""
    started = time.monotonic()
    config, stage = read_config(args.config, args.stage)
    device, qat = args.device, args.stage == "qat"
    state = args.out / f"state_{args.stage}"
    result = args.out / ("qat.pth" if qat else "notfused.pth")
    curve_path = args.out / f"curve_{args.stage}.csv"
    start = args.out / "notfused.pth" if qat else Path(stage.init) if stage.init else None
    origin = None
    if qat:
        refuse_unfinished(args.out / "state_float")
    elif "model" in config and (found := find_state(state)):
        start, origin = None, read_facts(found).get("origin")  # init was read when the run began
    network = build_network(config, start, grow=not qat)
    if start and not qat and stage.anneal[1] > 0:
        network.clear_cropped()  # leftovers of an annealed kernel would otherwise come back with the window
    if start:
        origin = sha256(start)
    teacher = find_teacher(network, start, stage).to(device) if qat or stage.teacher else None
    if stage.teacher:  # kept in the state, so that a run that goes on with another says so
        config["float"]["teacher_sha256"] = sha256(Path(stage.teacher))
    scale = network.scale

    degrade = DEGRADATIONS[stage.degradation]
    video = degrade(scale, stage.patch, device) if degrade else None
    images, skipped = read_images(args.data, video.side if video else stage.patch * scale)
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    megapixels = sum(i.size for i in images.values()) / 3e6
    print(f"{len(images)} images, {megapixels:.0f} Mpx, {len(skipped)} skipped", flush=True)
    options: dict[str, Any] = {"seed": stage.seed, "flat": stage.flat, "bilevel": stage.bilevel, "shares": stage.shares}
    options |= {"device": device, "video": video}
    options["answers"] = read_answers(Path(stage.answers), images) if stage.answers else None
    data = Batches(images, scale, stage.patch, stage.batch, **options)
    del images, options  # the pixels are on the device now
    pairs = validation_set(args.val, scale, degrade) if args.val else []

    model: nn.Module = network
    if teacher is not None and qat:
        # steps that training never reaches: calibration sees other crops
        batches = [data.batch(10**9 + i).lr for i in range(stage.calibration_batches)]
        model = trained_ranges(teacher, stage) if stage.init else fake_quantise(teacher, stage, batches)
    if stage.answers:
        teacher = None
    model = model.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    optimizer = make_optimizer(model, stage.optimizer, stage.lr)
    args.out.mkdir(parents=True, exist_ok=True)
    resumed = load_state(state, config, args.stage, model, ema, optimizer, origin)
    if resumed is None and result.exists():
        raise TrainingError(f"{result} is there, but not the state that it came from; give another --out, or move it.")
    step = resumed or 0

    bf16 = not qat and stage.float32_from > 0 and has_bf16(device)
    if not bf16 and not qat and stage.float32_from > 0:
        print(
            "torch knows of no bf16 on this processor, and emulated it is ten times slower: float32 throughout",
            flush=True,
        )
    forward: Any = model
    if args.on_gpu:
        torch.set_float32_matmul_precision("high")  # TF32 where it is not bf16
        if count := accelerate.use_depthwise(model, device):
            accelerate.say(f"depthwise convolution: Triton's, in {count} layers")
        if args.compile:
            accelerate.say(f"torch.compile: {accelerate.compile_blocks(model)} blocks")
    elif args.compile:
        forward = torch.compile(model)

    half = False
    parameters = list(model.parameters())
    averaged, averages = averaging(model, ema)
    total, keep = torch.zeros((), device=device), torch.zeros((), device=device)
    sound = torch.ones((), dtype=torch.bool, device=device)

    def one_step() -> None:
        """A step on the batch that `data` has loaded, at the rate that is set; it asks the host for nothing."""
        lr, hr, answer = data.crops()
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=half):
            sr = forward(lr)
        if teacher is not None:
            answer = mean_of_flips(teacher, lr, max(stage.ensemble, 1))
        error = sr.float() - target(stage, hr, answer)
        loss = distance(error, stage.luma) + stage.fft_weight * spectral(error)
        if stage.target == "both" and answer is not hr:
            loss = loss + distance(sr.float() - answer, stage.luma)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        sound.logical_and_(norm.isfinite())
        optimizer.step()
        total.add_(loss.detach())
        accelerate.moving_average(averages, averaged, keep)

    capture = args.on_gpu and video is None and stage.optimizer in GRAPHED
    if args.on_gpu and not capture:
        accelerate.say("CUDA graph: none; this degradation or optimizer works on the host")
    run = accelerate.Replayed(one_step, device, capture=capture)
    windowed = not qat and bool(network.windows)
    begin, clock, logged, outer, mode = step / max(stage.steps, 1), time.monotonic(), step, math.nan, None

    def progress() -> float:
        """The share of the schedule that is done."""
        if args.fit_minutes is None:
            return step / stage.steps
        return begin + (1 - begin) * min(1.0, (time.monotonic() - started) / 60 / args.fit_minutes)

    def save() -> None:
        """Save the state, validate, and write a line of the curve."""
        nonlocal clock, logged, mode
        if not sound:
            span = f"steps {logged + 1} to {step}"
            raise TrainingError(f"{span}: a gradient is not finite; the last state saved is good.")
        if args.fit_minutes is not None:  # where the schedule ends as things stand
            config[args.stage]["steps"] = max(step, 1) if done >= 1 else max(round(step / max(done, 1e-6)), step + 1)
        save_state(state, config, args.stage, step, model, ema, optimizer, origin)
        seconds = (time.monotonic() - clock) / max(step - logged, 1)
        loss = float(total) / (step - logged) if step > logged else math.nan
        if curve.last_step(curve_path) != step:
            curve.add(curve_path, step, loss, validate(model, released(ema), pairs, device), seconds)
        total.zero_()
        clock, logged, mode = time.monotonic(), step, None

    while (done := progress()) < 1 and (time.monotonic() - started) / 60 < args.max_minutes:
        if windowed:
            low, high = stage.anneal
            if outer != (outer := min(1.0, max(0.0, (high - done) / max(high - low, 1e-9)))):
                network.anneal(outer)
        # bf16 rounding is noise that the last, finest steps should not have
        half = bf16 and done < stage.float32_from
        now = (half, outer == 0.0, qat and done >= stage.freeze_ranges, done >= stage.freeze_norm)
        if now != mode:
            mode = now
            model.train()
            if now[2]:
                quantizer.freeze_ranges(model)
            if now[3]:
                freeze_norm(model, ema)
        warm = min(1.0, (step + 1) / stage.warmup)
        cosine = stage.final_lr + (1 - stage.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
        set_rate(optimizer, stage.lr * warm * cosine)
        keep.fill_(min(stage.ema, (step + 2) / (step + 11)))
        torch.manual_seed(stage.seed + step)  # drop path, the same after resuming
        data.load(step)
        run(now)
        step += 1
        if step % stage.save_every == 0:
            save()

    done = progress()
    if args.fit_minutes is not None and step == (resumed or 0) and begin < 1:
        raise TrainingError(f"--fit-minutes {args.fit_minutes:g} were over before the first step; nothing was written.")
    if step != logged or step == 0 or args.fit_minutes is not None:
        save()
    # what a quantised network began with is compared when engines are made of both
    first = weights_sha256(arch.read_checkpoint(start)) if qat and start else None
    arch.write_checkpoint(released(ema), result, origin=first)
    print(f"{result}: step {step} of {config[args.stage]['steps']}", flush=True)


def released(ema: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights as they are validated and written: inside their ranges, if they are fake-quantised."""
    copies = {key: value.clone() for key, value in ema.items()}
    quantizer.cover_weights(copies)
    return copies


def freeze_norm(model: nn.Module, ema: dict[str, Tensor]) -> None:
    """Put every batch norm into its deployed form: the averaged statistics instead of the batch's own."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            for key, value in module.named_buffers():
                value.copy_(ema[f"{name}.{key}"])


def averaging(model: nn.Module, ema: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The weights and batch-norm statistics of a model, and their moving averages in `ema`.

    The model's other buffers, constants of its form, are put into `ema` themselves.
    """
    parameters = {k for k, _ in model.named_parameters()}
    state = model.state_dict()
    averaged = [key for key in state if key in parameters or ".running_" in key]
    for key in state.keys() - averaged:
        ema[key] = state[key]
    return [state[key] for key in averaged], [ema[key] for key in averaged]


@torch.no_grad()
def validate(model: nn.Module, ema: dict[str, Tensor], pairs: list[Pair], device: str) -> float:
    """Mean Y-PSNR of the averaged weights, in dB; nan without validation images."""
    if not pairs:
        return math.nan
    current, averages = ({k: v.clone() for k, v in state.items()} for state in (model.state_dict(), ema))
    model.load_state_dict(averages)
    model.eval()

    def run(lr: NDArray[np.float32]) -> NDArray[np.float32]:
        return model(torch.from_numpy(lr).to(device, memory_format=torch.channels_last)).float().cpu().numpy()

    # compiled blocks would be compiled anew for this size
    with torch.compiler.set_stance("force_eager") if device != "cpu" else contextlib.nullcontext():
        psnr = score(run, ((lr.numpy(), hr) for lr, hr in pairs), ssim=False)["psnr"]
    model.load_state_dict(current)
    model.train()
    return psnr


if __name__ == "__main__":
    sys.exit(main())
