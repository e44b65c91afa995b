"""LoRA's matrices as the peft library writes them. Needs no peft."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import RecipeError
from trifecta.interop.names import Row, family_of
from trifecta.models.layers import bare
from trifecta.nn.lora import A, B

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LEAVES = {A: "lora_A.weight", B: "lora_B.weight"}
TASKS = {
    "causal": "CAUSAL_LM", "prompted": "CAUSAL_LM", "span": "SEQ_2_SEQ_LM", "seq2seq": "SEQ_2_SEQ_LM",
    "classify": "SEQ_CLS", "tag": "TOKEN_CLS", "answer": "QUESTION_ANS", "masked": None,
}  # fmt: skip
"""objective.type -> peft's task_type; it has none for masked tokens."""


def adapter_state(trained: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """Tensors by our names -> by peft's.

    Where their model has one matrix and ours several, A is theirs stacked and B has theirs as blocks, of zeros for one
    that isn't trained: the product is all of the products stacked. Its rank is the sum of theirs.

    Args:
        trained: LoRA's matrices, and parameters of the model's own head if there are. model_type: Hugging Face's.

    Raises:
        RecipeError: their model has no place for one.
    """
    gated = any(".feedforward.gate." in name for name in trained)
    rows = {ours: row for row in family_of(model_type, gated=gated).rows for ours in row.ours}
    state: dict[str, Tensor] = {}
    parts: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, tensor in trained.items():
        place, part, count = _place(bare(name), rows, model_type)
        leaf = name.rpartition(".")[2]
        if leaf in _LEAVES and count > 1:
            parts.setdefault(place, {number: {} for number in range(count)})
            parts[place][part][leaf] = tensor
        else:
            state[f"{place}.{_LEAVES.get(leaf, leaf)}"] = tensor
    for place, matrices in parts.items():
        state |= {f"{place}.{_LEAVES[leaf]}": tensor for leaf, tensor in _fused(list(matrices.values())).items()}
    return with_prefix(state)


def with_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of transformers' model as peft's."""
    return {_PREFIX + name: tensor for name, tensor in state.items()}


def _place(name: str, rows: Mapping[str, Row], model_type: str) -> tuple[str, int, int]:
    """The module's name there, which part of its matrix ours is, and how many parts that has.

    Raises:
        RecipeError: there is none.
    """
    module = name.rpartition(".")[0]
    numbers = re.findall(r"\.(\d+)\.", f".{module}.")
    ours = re.sub(r"(^|\.)blocks\.\d+\.", r"\1blocks.{i}.", module) + ".weight"
    if (row := rows.get(ours)) is None:
        raise RecipeError(f"Hugging Face's {model_type} has no place for {name}", fix="export with --to hf instead")
    place = row.theirs.replace("{i}", numbers[0] if numbers else "").removesuffix(".weight")
    return place, row.ours.index(ours), len(row.ours)


def _fused(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A (sum of ranks, in) and B (sum of outputs, sum of ranks) of matrices that are one; {} for a part without them.

    All parts have equally many outputs, as `names.Row` has it.
    """
    found = next(matrices for matrices in parts if matrices)
    nothing = {A: found[A][:0], B: found[B][:, :0]}
    whole = [matrices or nothing for matrices in parts]
    blocks: Tensor = torch.block_diag(*(matrices[B] for matrices in whole))  # type: ignore[no-untyped-call]
    return {A: torch.cat([matrices[A] for matrices in whole]), B: blocks}


def adapter_config(
    state: Mapping[str, Tensor], model_type: str, objective: str, *, rank: int, alpha: float, dropout: float,
    base: str | None,
) -> dict[str, Any]:  # fmt: skip
    """adapter_config.json as a dict.

    peft scales each product by alpha / rank: a matrix of a larger rank has an alpha that is larger by as much.

    Args:
        state: what `adapter_state` gave. rank: of the run's matrices. base: where the weights lie that it adapts.
    """
    names = [name.removeprefix(_PREFIX) for name in state]
    layers = [name.removesuffix(f".{_LEAVES[A]}") for name in names if name.endswith(_LEAVES[A])]
    heads = {_head_of(name) for name in names if "lora_" not in name}
    ranks = {name.rsplit(".", 3)[1]: len(tensor) for name, tensor in state.items() if name.endswith(_LEAVES[A])}
    larger = {module: own for module, own in ranks.items() if own != rank}
    return {
        "peft_type": "LORA",
        "task_type": TASKS[objective],
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": _number(alpha),
        "rank_pattern": larger,
        "alpha_pattern": {module: _number(alpha * own / rank) for module, own in larger.items()},
        "lora_dropout": dropout,
        "target_modules": layers,
        "modules_to_save": sorted(heads) or None,
        "bias": "none",
        "fan_in_fan_out": model_type == "gpt2",
        "inference_mode": True,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }


def _head_of(name: str) -> str:
    """The module that peft saves whole: `pooler` of `bert.pooler.dense.weight`, `head` of `head.norm.weight`."""
    for module in ("pooler", "final_norm", "head"):
        if f".{module}." in f".{name}":
            return module
    return name.rpartition(".")[0]


def _number(value: float) -> float:
    return int(value) if value == int(value) else value
