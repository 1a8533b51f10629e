"""Train with neosr's library alone, which its registry wheel is: python wheel_session.py OUT -opt CONFIG.toml

Builds data sets and model from the configuration, trains, validates and saves; then loads the saved state into a
second model, as resuming does, and goes on for one step.
"""

import itertools
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import fake_cuda  # pyright: ignore[reportMissingImports]


def main() -> None:
    """One session; raises where anything fails."""
    out = sys.argv.pop(1)
    fake_cuda.install()
    import torch
    from neosr.data import build_dataloader, build_dataset
    from neosr.models import build_model
    from neosr.utils import make_exp_dirs
    from neosr.utils.options import parse_options

    from training.neosr import register

    register()
    register()  # as where the file has been copied in, too
    opt, _ = parse_options(out, is_train=True)
    opt["root_path"] = out
    make_exp_dirs(opt)
    loaders = {}
    for phase, section in opt["datasets"].items():
        dataset: Any = build_dataset(section)
        loaders[phase] = build_dataloader(dataset, section, num_gpu=1, dist=False, sampler=None, seed=1)
    model: Any = build_model(opt)
    total = opt["logger"]["total_iter"]
    batches = itertools.chain.from_iterable(itertools.repeat(loaders["train"]))
    for iteration, batch in enumerate(itertools.islice(batches, total), 1):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        model.update_learning_rate(iteration)
        loss = float(model.get_current_log()["l_g_pix"])
        assert math.isfinite(loss)
        print(f"iteration {iteration}: {loss:.4f}")
        if iteration == total // 2:
            model.validation(loaders["val"], iteration, None, True)  # eval, inference_mode and back
    model.save(0, total)
    model.validation(loaders["val"], total, None, True)

    opt, _ = parse_options(out, is_train=True)  # neosr takes entries out of the first one
    opt["root_path"] = out
    opt["path"]["pretrain_network_g"] = str(Path(opt["path"]["models"]) / f"net_g_{total}.pth")
    resumed: Any = build_model(opt)
    state = torch.load(Path(opt["path"]["training_states"]) / f"{total}.state", weights_only=True)
    resumed.resume_training(state)
    torch.testing.assert_close(resumed.net_g.state_dict(), model.net_g_ema.module.state_dict(), rtol=0, atol=0)
    resumed.feed_data(next(iter(loaders["train"])))
    resumed.optimize_parameters(total + 1)
    print(f"resumed at {state['iter']}")


if __name__ == "__main__":
    main()
