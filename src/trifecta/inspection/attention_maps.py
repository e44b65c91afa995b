"""Which positions each head of each layer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trifecta.nn.attention import Attention
from trifecta.nn.position import causal_bias, rotate


def attention_maps(model: nn.Module, inputs: Mapping[str, Tensor] | Tensor) -> dict[str, Tensor]:
    """Attention weights by the layer's name, (B, H, T, S) each; a row sums to 1.

    Args:
        model: of any kind; it is left as it was. inputs: tokens_BT, or what its forward takes by name.
    """
    found: dict[str, Tensor] = {}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
    hooks = [
        layer.register_forward_pre_hook(partial(_note, found, name), with_kwargs=True) for name, layer in layers.items()
    ]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()
            model(inputs) if isinstance(inputs, Tensor) else model(**inputs)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return found


def _note(
    found: dict[str, Tensor], name: str, layer: Attention, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    found[name] = weights(layer, *arguments, **options)


def weights(
    layer: Attention, x_BTD: Tensor, *, rotation: Tensor | None = None, bias: Tensor | None = None, cache: Any = None,
    read: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """softmax(scale * Q K^T + bias) of one layer, (B, H, T, S); arguments as of its forward."""
    assert cache is None, "maps are of whole sequences"
    q_BTHK = layer.query_norm(layer._heads(layer.query(x_BTD)))
    if rotation is not None:
        q_BTHK = rotate(q_BTHK, rotation)
    k_BHSK = (layer.read_from(x_BTD, rotation) if read is None else read)[0]
    q_BHTK = q_BTHK.transpose(1, 2)
    k_BHSK = k_BHSK.repeat_interleave(q_BHTK.shape[1] // k_BHSK.shape[1], 1)
    scale = layer.head_width**-0.5 if layer.scale is None else layer.scale
    scores_BHTS = (q_BHTK * scale) @ k_BHSK.transpose(-2, -1)
    if bias is None and layer.causal:
        bias = causal_bias(scores_BHTS.shape[2], scores_BHTS.shape[3], q_BHTK)
    weights_BHTS: Tensor = (scores_BHTS if bias is None else scores_BHTS + bias).float().softmax(-1)
    return weights_BHTS


def plot_attention(maps: Mapping[str, Tensor], labels: Sequence[str], path: str | Path) -> Path:
    """A picture: a row for each layer, a square for each head, tokens at the axes of the first head of each layer.

    Args:
        maps: of one sequence, (1, H, T, S) each. labels: the tokens' texts.
    """
    from matplotlib.figure import Figure

    layers = list(maps.items())
    heads = max(layer.shape[1] for _, layer in layers)
    figure = Figure(figsize=(2.2 * heads + 0.8, 2.2 * len(layers) + 0.4), layout="constrained")
    squares = figure.subplots(len(layers), heads, squeeze=False)
    for row, (name, layer) in enumerate(layers):
        for head in range(heads):
            axes = squares[row][head]
            if head >= layer.shape[1]:
                axes.set_axis_off()
                continue
            axes.imshow(layer[0, head].cpu().numpy(), cmap="Blues", vmin=0, vmax=1)
            axes.set_title(f"{_short(name)}, head {head}", fontsize=8)
            axes.set_xticks(range(len(labels)), labels if row == len(layers) - 1 else [], rotation=90, fontsize=7)
            axes.set_yticks(range(len(labels)), labels if head == 0 else [], fontsize=7)
    place = Path(path)
    figure.savefig(place, dpi=120)
    return place


def _short(name: str) -> str:
    return name.removesuffix(".attention").replace("blocks.", "layer ")
