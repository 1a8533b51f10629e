"""What trainers wrap a network in: it is found wherever it lies, averaged weights first, and never guessed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arch
from arch.registry import unwrap

from ..nets import later, net, same, tiny

State = dict[str, Any]
AVERAGED = ["params_ema", "model_ema", "state_dict_ema", "ema_state_dict", "net_g_ema", "ema", "netGEma", "EMA", "swa"]
NAMES = ["params_ema", "params-ema", "params", "net_g", "state_dict", "model_state_dict", "model", "ema"]
NAMES += ["generator", "G", "weights", "net", "student"]
PREFIXES = ["", "model.", "module.", "_orig_mod.", "net_g.", "net_g.module.", "model._orig_mod.", "a.b.c."]


@pytest.fixture
def raw(state: State) -> State:
    return {k: torch.zeros_like(v) for k, v in state.items()}


def under(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


@pytest.mark.parametrize("averaged", AVERAGED)
def test_averaged_weights_win_under_any_name(state: State, raw: State, averaged: str) -> None:
    for other in ("params", "net_g", "state_dict", "model", "generator"):
        flat = under(f"{averaged}.", state) | under(f"{other}.", raw)
        for both in ({averaged: state, other: raw}, {other: raw, averaged: state}, flat):
            assert same(unwrap(both), state)
            assert same(unwrap({"state_dict": both, "epoch": 3}), state)
    assert same(unwrap(raw | under(f"{averaged}.", state)), state)
    assert same(unwrap({"state_dict": raw, averaged: under("module.", state)}), state)


@pytest.mark.parametrize("name", NAMES)
def test_any_one_container_and_prefix(state: State, name: str) -> None:
    for prefix in PREFIXES:
        inner = under(prefix, state)
        # what a trainer keeps beside the network
        beside = {"loss.vgg.features.0.weight": torch.zeros(3), "discriminator.conv0.weight": torch.zeros(3)}
        assert same(unwrap(inner), state)
        assert same(unwrap({name: inner, "iter": 5, "optimizer": {"lr": 0.1}}), state)
        assert same(unwrap({name: {"state_dict": {"params": inner}}, "step": torch.tensor(3)}), state)
        assert same(unwrap({name: inner | (beside if prefix not in ("", "_orig_mod.") else {})}), state)


def holds_itself(state: State, raw: State) -> State:
    loop: State = {"params": state, "a": {}}
    loop["self"] = loop["a"]["self"] = loop["a"]["again"] = loop
    return loop


SAVED: dict[str, Callable[[State, State], State]] = {
    "moments by name": lambda state, raw: {
        "model": state,
        "optimizer": {"exp_avg": raw, "state": {0: {"exp_avg": torch.zeros(3)}}},
    },
    "moments beside": lambda state, raw: {"exp": state, "exp_avg": raw, "optim": {"exp_avg": [torch.zeros(3)]}},
    "wrappers inside of keys": lambda state, raw: {
        f"_fsdp_wrapped_module._orig_mod.{k.replace('.0.0.', '.0._orig_mod.0._checkpoint_wrapped_module.')}": v
        for k, v in state.items()
    },
    "compiled and not, by Lightning": lambda state, raw: under("net.", state) | under("compiled._orig_mod.", state),
    "names that lost their dots, by LitEma": lambda state, raw: (
        under("model.", raw)
        | {f"model_ema.{k.replace('.', '')}": v for k, v in state.items()}
        | {"model_ema.decay": torch.tensor(0.99)}
    ),
    "WeightAveraging of Lightning": lambda state, raw: {
        "state_dict": under("model.", state) | {"loss.weight": torch.zeros(1)},
        "current_model_state": under("model.", raw),
        "averaging_state": {"n_averaged": torch.tensor(7)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
    },
    "text and numbers": lambda state, raw: {"version": "1.0", "step": 3, "lr": 1e-4, "note": None, **state},
    "a dict that holds itself": holds_itself,
}


@pytest.mark.parametrize("saved", SAVED)
def test_what_trainers_save(state: State, raw: State, saved: str) -> None:
    assert same(unwrap(SAVED[saved](state, raw)), state)


def test_an_averaged_model_of_torch() -> None:
    model = net().build()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    expected = {k: v.clone() for k, v in averaged.module.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    state, raw = dict(averaged.state_dict()), {"model": model.state_dict()}
    assert "n_averaged" in state
    for saved in (state, raw | {"second": state}, raw | {"second": under("module.", state)}):
        assert same(unwrap(saved), expected)


def test_the_checkpoint_of_ema_pytorch() -> None:
    ema_pytorch = pytest.importorskip("ema_pytorch", reason="ema-pytorch is not installed")
    model = net().build()
    ema = ema_pytorch.EMA(model, beta=0.9, update_after_step=0, update_every=1)
    with torch.no_grad():
        for _ in range(3):
            for parameter in model.parameters():
                parameter.add_(1)
            ema.update()
    expected = ema.ema_model.state_dict()
    assert not torch.equal(expected["conv_first.weight"], model.state_dict()["conv_first.weight"])
    for saved in (ema.state_dict(), {"model": model.state_dict(), "ema": ema.state_dict()}):
        assert same(unwrap(saved), expected)


@pytest.mark.parametrize(
    ("names", "wrap"),
    [
        (("generator_a", "generator_b"), lambda a, b: {"generator_a": a, "generator_b": b}),
        (("params", "net_g"), lambda a, b: {"params": a, "net_g": b}),
        (("ema_0.999", "ema_0.9999"), lambda a, b: {"ema_0.999": a, "params": a, "ema_0.9999": b}),
        (("model.student", "model.teacher"), lambda a, b: {"model": under("student.", a) | under("teacher.", b)}),
        (("the top level", "copy"), lambda a, b: a | under("copy.", b)),
    ],
)
def test_two_networks_that_cannot_be_ranked_are_named(
    state: State, raw: State, names: tuple[str, str], wrap: Callable[[State, State], State], tmp_path: Path
) -> None:
    torch.save(wrap(state, raw), tmp_path / "two.pth")
    with pytest.raises(arch.CheckpointError, match="two networks") as caught:
        arch.load(tmp_path / "two.pth")
    assert all(name in str(caught.value) for name in (*names, "two.pth"))
    assert same(unwrap(wrap(state, copy.deepcopy(state))), state)


def test_averaged_weights_without_names_are_not_passed_over(state: State) -> None:
    saved = {"model": state, "ema": {"decay": 0.99, "shadow_params": [torch.zeros(2)], "num_updates": 3}}
    with pytest.raises(arch.CheckpointError, match=r"ema\.shadow_params"):
        unwrap(saved)


@pytest.mark.parametrize("form", [torch.Tensor.to_sparse, lambda t: t.to("meta")])
def test_tensors_without_dense_numbers_are_named(state: State, form: Callable[[Tensor], Tensor]) -> None:
    for call in (unwrap, arch.inspect):
        with pytest.raises(arch.CheckpointError, match=r"conv_last\.weight"):
            call(state | {"conv_last.weight": form(state["conv_last.weight"])})


def modelopt_state(bits: object, *, disabled: bool = False, **more: object) -> State:
    """What modelopt.torch.opt.save puts beside the weights (0.47)."""
    quantizers = {
        "conv_first.input_quantizer": {"_num_bits": 8, "_disabled": False},
        "conv_last.weight_quantizer": {"_num_bits": bits, "_disabled": disabled, **more},
        "conv_last.output_quantizer": {"_num_bits": 4, "_disabled": True, "_axis": None},
    }
    mode = ("quantize", {"config": {"quant_cfg": {}}, "metadata": {"quantizer_state": quantizers}})
    return {"modelopt_state_dict": [mode], "modelopt_version": "0.47.0"}


@pytest.mark.parametrize(
    ("bits", "more"),
    [(4, {}), ((4, 3), {}), ((2, 1), {}), (16, {}), (8, {"_unsigned": True}), (8, {"_block_sizes": {-1: 32}})],
)
def test_other_formats_of_modelopt_are_refused(state: State, bits: object, more: State, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"modelopt_state": modelopt_state(bits, **more), "model_state_dict": state}, path)
    with pytest.raises(arch.CheckpointError, match=r"conv_last\.weight_quantizer.*num_bits") as caught:
        arch.read_checkpoint(path)
    assert str(bits) in str(caught.value)
    for fine in (modelopt_state(8), modelopt_state(bits, disabled=True, **more)):
        torch.save({"modelopt_state": fine, "model_state_dict": state}, path)
        assert same(arch.read_checkpoint(path), state)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", [net(), later(channel_attention=True), tiny()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("observer", ["observers", "fake quantisers"])
def test_checkpoints_of_torch_ao(config: arch.Config, observer: str, tmp_path: Path) -> None:
    q: Any = pytest.importorskip("torch.ao.quantization", reason="this torch has no torch.ao.quantization")
    model = config.build()
    plain = dict(model.state_dict())
    if observer == "observers":
        model.qconfig = q.QConfig(q.default_histogram_observer, q.default_per_channel_weight_observer)
    else:
        model.qconfig = q.get_default_qat_qconfig("fbgemm")
    prepared = q.prepare_qat(model.train())
    state = dict(prepared.state_dict()) | {"quant.activation_post_process.min_val": torch.tensor(float("inf"))}
    assert any("weight_fake_quant" in k for k in state)
    assert any("activation_post_process" in k for k in state)
    torch.save({"model": state}, tmp_path / "qat.pth")
    assert same(dict(arch.load(tmp_path / "qat.pth").state_dict()), plain)
    weights, ranges = arch.split_ranges(arch.read_checkpoint(tmp_path / "qat.pth"))
    assert same(weights, plain)
    assert len(ranges) == len(state) - len(plain)
    if observer == "fake quantisers":
        torch.save(q.convert(prepared.eval()).state_dict(), tmp_path / "converted.pth")
        with pytest.raises(arch.CheckpointError, match=r"torch\.ao has converted.*before convert"):
            arch.load(tmp_path / "converted.pth")
