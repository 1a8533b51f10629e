"""Finding the network in what a trainer saved: containers and prefixes are taken off, averaged weights preferred."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError

# Where other networks than ours are looked for, so that the message can name their keys.
CONTAINERS = ("params_ema", "params-ema", "params", "net_g", "state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "net_g.", "netG.")
DEEPEST = 12  # containers within containers
# torch's wrappers of modules, which may stand anywhere in a key
INNER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
Marks = Sequence[tuple[str, str]]  # of each network, what two of its keys begin with (Config.first and Config.body)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
AVERAGED = {"ema", "averaged", "average", "avg", "swa", "shadow", "polyak"}
NOT_AVERAGED = {"online", "current", "raw"}  # even inside of a container of averaged weights: ema.online_model
NOT_WEIGHTS = ({"optimizer"}, {"optimizers"}, {"optim"}, {"momentum"}, {"exp", "avg"})  # an optimiser's moments


@dataclass(frozen=True)
class Found:
    """A network in a checkpoint: where its keys begin, how good its weights are, and its entries by name.

    rank: 2 averaged weights, 1 others, 0 those that are said to be the raw ones beside averaged ones.
    """

    where: str
    rank: int
    state: dict[str, Any]


def unwrap(loaded: object, marks: Marks) -> dict[str, Tensor]:
    """The one network of a loaded object, by the names that its keys have without containers and prefixes.

    Averaged weights win over raw ones, wherever they stand. What is no AetherNet is taken out of its containers too,
    as far as they are known; what is left maps names to tensors.

    Raises CheckpointError where no state dict is found, where several networks are found of which none is clearly the
    one to take, and for weights that cannot be used: of torch.ao's converted networks, sparse ones, other formats than
    int8 by the state that modelopt saves.
    """
    _refuse_other_formats(loaded)
    found = networks(loaded, marks)
    best = [f for f in found if f.rank == max(other.rank for other in found)]
    if not best:
        return _plain(_other(loaded))
    if best[0].rank < 2 and (unnamed := next(_unnamed(loaded), None)):
        raise CheckpointError(
            f"the averaged weights under {unnamed} are a list without names, and those under {_quoted(best[0])} are "
            "the raw ones; copy the averaged weights into the network and save its state_dict()."
        )
    for other in best[1:]:
        if not _equal(best[0].state, other.state):
            raise CheckpointError(
                f"holds two networks, under {_quoted(best[0])} and under {_quoted(other)}, and nothing says which one "
                "to take; save the one alone."
            )
    return usable(best[0].state)


def networks(loaded: object, marks: Marks) -> list[Found]:
    """Every network in a loaded object, in its order: what holds keys that begin with both marks of one.

    Raises CheckpointError where a key stands in it twice, with and without a wrapper of torch's.
    """
    found: list[Found] = []
    for path, mapping in _mappings(loaded):
        if _is_moment(".".join(path)):
            continue
        entries = _entries(mapping)
        firsts = {prefix: first for first, body in marks for prefix in _prefixes(entries, first, body)}
        for prefix, first in firsts.items():
            others = tuple(p for p in firsts if p != prefix and p.startswith(prefix))
            state = {
                key.removeprefix(prefix): value
                for key, value in entries.items()
                if key.startswith(prefix) and not (others and key.startswith(others))
            }
            where = ".".join((*path, prefix))
            counted = prefix.removesuffix("module.") + "n_averaged" in entries  # torch.optim.swa_utils.AveragedModel
            found.append(Found(where, _rank(where, counted), state))
            for run_together, names in _run_together(entries, state, first):
                where = ".".join((*path, run_together))
                found.append(Found(where, _rank(where, False), names))
    return found


def _prefixes(entries: Mapping[str, Any], first: str, body: str) -> dict[str, None]:
    """What stands before the keys of a network's, in order: nothing, or names that end with a dot."""
    anchor = re.compile(rf"(?:^|(?<=\.)){re.escape(first)}")
    prefixes = dict.fromkeys(key[: m.start()] for key in entries if (m := anchor.search(key)))
    return {p: None for p in prefixes if any(key.startswith(p + body) for key in entries)}


def _run_together(
    entries: Mapping[str, Any], state: Mapping[str, Any], first: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of a network's parameters under names without dots (model_ema.conv_firstweight), as LitEma keeps them."""
    name = next(key for key in state if key.startswith(first)).replace(".", "")
    for prefix in [key.removesuffix(name) for key in entries if key.endswith(name)]:
        yield prefix, {key: entries.get(prefix + key.replace(".", ""), value) for key, value in state.items()}


def _mappings(loaded: object) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """A mapping and all those in it, in order, with the names under which they lie; each one once."""
    seen: set[int] = set()  # a pickle's dict may hold itself
    waiting: list[tuple[tuple[str, ...], object]] = [((), loaded)]
    while waiting:
        path, value = waiting.pop()
        if not isinstance(value, Mapping | list | tuple) or id(value) in seen or len(path) > DEEPEST:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            yield path, value
            waiting += [((*path, key), v) for key, v in list(value.items())[::-1] if isinstance(key, str)]
        else:
            waiting += [((*path, str(i)), v) for i, v in list(enumerate(value))[::-1]]


def _entries(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries of a mapping that have names, without torch's wrappers in them."""
    entries: dict[str, Any] = {}
    for key, value in mapping.items():
        if not isinstance(key, str) or isinstance(value, Mapping):
            continue
        name = INNER.sub("", key)
        if name in entries and not _equal({name: entries[name]}, {name: value}):
            raise CheckpointError(f"{name} stands there twice, with different values, once as {key}.")
        entries[name] = value
    return entries


def usable(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a network's entries; strings and numbers that trainers put beside them are left out.

    Raises CheckpointError for tensors whose numbers cannot be taken as they are.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if "_packed_params" in key or (isinstance(value, Tensor) and value.is_quantized):
            raise CheckpointError(
                f"{key} holds the int8 codes of a network that torch.ao has converted, of which the weights cannot be "
                "had back; give the checkpoint saved before convert(), with weight_fake_quant.* keys, or the float one."
            )
        if not isinstance(value, Tensor):
            continue
        if value.layout is not torch.strided or value.is_nested or value.is_meta:
            kind = "without its numbers" if value.is_meta else "no dense tensor"
            raise CheckpointError(f"{key} is {kind} ({value.layout}); save it as one, with to_dense().")
        tensors[key] = value
    return tensors


def _rank(where: str, counted: bool) -> int:
    words = _words(where)
    if words & NOT_AVERAGED:
        return 0
    return 2 if counted or words & AVERAGED else 1


def _words(where: str) -> set[str]:
    return {word.lower() for word in WORD.findall(where)}


def _is_moment(where: str) -> bool:
    return any(words <= _words(where) for words in NOT_WEIGHTS)


def _unnamed(loaded: object) -> Iterator[str]:
    """Where averaged weights lie as a list, as torch_ema keeps them."""
    for path, mapping in _mappings(loaded):
        for key, value in mapping.items():
            where = ".".join((*path, str(key)))
            tensors = isinstance(value, Sequence) and len(value) > 0 and all(isinstance(v, Tensor) for v in value)
            if tensors and _rank(where, False) == 2 and not _is_moment(where):
                yield where


def _other(loaded: object) -> object:
    """What lies in the known containers, which is no AetherNet."""
    for _ in range(DEEPEST):
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[c] for c in CONTAINERS if isinstance(loaded.get(c), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    return loaded


def _plain(loaded: object) -> dict[str, Tensor]:
    """The tensors of a state dict that is no AetherNet's, without the prefixes that all of them have."""
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"holds {type(loaded).__name__} and no state dict; save model.state_dict().")
    for key, value in loaded.items():
        if not isinstance(key, str):
            raise CheckpointError(f"entry {key!r} is a {type(value).__name__}; a name was expected.")
    state = usable(loaded)
    if not state:
        names = ", ".join(repr(str(k)) for k in list(loaded)[:5])
        raise CheckpointError(f"no state dict under any of {', '.join(CONTAINERS)}; it holds {names}.")
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), None):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _refuse_other_formats(loaded: object) -> None:
    """Raise CheckpointError where modelopt's saved state says that quantisers in use have other formats than int8."""
    for path, quantiser in _mappings(loaded):
        if "modelopt_state" not in path or "_num_bits" not in quantiser or quantiser.get("_disabled"):
            continue
        format_ = f"num_bits {quantiser['_num_bits']}"
        format_ += ", unsigned" if quantiser.get("_unsigned") else ""
        format_ += f", block_sizes {blocks}" if (blocks := quantiser.get("_block_sizes")) else ""
        if format_ != "num_bits 8":
            raise CheckpointError(
                f"modelopt trained {path[-1]} for {format_}; only signed int8, num_bits 8 without blocks, "
                "is supported. Train with INT8_DEFAULT_CFG, or give the float checkpoint."
            )


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(value is b[key] or _same(value, b[key]) for key, value in a.items())


def _same(a: object, b: object) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return type(a) is type(b) and isinstance(a, str | int | float | None) and a == b
    if a.dtype != b.dtype or any(t.layout is not torch.strided or t.is_nested or t.is_meta for t in (a, b)):
        return False
    return torch.equal(a, b)


def _quoted(found: Found) -> str:
    return repr(found.where.removesuffix(".")) if found.where.strip(".") else "the top level"
