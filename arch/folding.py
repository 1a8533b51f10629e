"""How a block of a gated net becomes its deployed form: norms go into the convolutions beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Affine = tuple[Tensor, Tensor]
"""A weight and a bias."""
Statistics = tuple[Tensor, Tensor, Tensor]
"""Of a batch norm, (x - mean) * gain + shift: gain, mean and shift, (dim,) each."""


def fold_batch_norm(conv: Affine, norm: Statistics) -> Affine:
    """A convolution, weight (dim, _, k, k) and bias (dim,), and the batch norm behind it, as one convolution."""
    gain, mean, shift = norm
    return conv[0] * gain.view(-1, 1, 1, 1), (conv[1] - mean) * gain + shift


def channel_norm(prefix: str, norm: nn.Module, *, affine: bool = True) -> dict[str, Tensor]:
    """The tensors of the ChannelNorm that a LayerNorm becomes, with its affine or without."""
    assert isinstance(norm, nn.LayerNorm)
    state = {f"{prefix}eps": torch.tensor(norm.eps)}
    if affine:
        state |= {f"{prefix}weight": norm.weight.view(-1, 1, 1), f"{prefix}bias": norm.bias.view(-1, 1, 1)}
    return state


def fold_block(
    conv: Affine, norm: nn.LayerNorm | Statistics, fc1: Affine, fc2: Affine, *, fold_norms: bool
) -> dict[str, Tensor]:
    """The tensors of a deployed block, under "conv.", "norm." and "ffn." (FusedGatedFFN).

    conv: kernel (dim, 1, k, k) and bias (dim,). fc1, gate first: (2 * hidden, dim) and (2 * hidden,).
    fc2: (dim, hidden) and (dim,). fold_norms: whether a LayerNorm's affine goes into fc1.
    """
    weight, bias = fc1
    out: dict[str, Tensor] = {}
    if isinstance(norm, nn.LayerNorm):
        out = channel_norm("norm.", norm, affine=not fold_norms)
        if fold_norms:  # fc1(normalised * w + b) = (fc1 * w)(normalised) + fc1(b)
            bias = bias + weight @ norm.bias
            weight = weight * norm.weight
    else:
        conv = fold_batch_norm(conv, norm)
    return out | {
        "conv.weight": conv[0],
        "conv.bias": conv[1],
        "ffn.fc1.weight": weight[:, :, None, None],
        "ffn.fc1.bias": bias,
        "ffn.fc2.weight": fc2[0][:, :, None, None],
        "ffn.fc2.bias": fc2[1],
    }
