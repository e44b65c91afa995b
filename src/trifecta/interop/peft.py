"""LoRA's matrices as the peft library writes them. Needs no peft."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
HEADS = {"classify": "classifier", "tag": "classifier", "answer": "qa_outputs"}
"""objective.type -> the name of the head of transformers' class for that task."""


def adapter_state(trained: Mapping[str, Tensor], model_type: str, objective: str) -> dict[str, Tensor]:
    """Tensors by our names -> by peft's.

    Args:
        trained: LoRA's matrices, and the parameters of the task's head and pooler if there are.
        model_type: Hugging Face's. objective: objective.type.

    Raises:
        RecipeError: their model has one matrix where ours has several, or no place for such a head.
    """
    gated = any(".feedforward.gate." in name for name in trained)
    rows = {ours: row for row in family_of(model_type, gated=gated).rows for ours in row.ours}
    return {_PREFIX + _theirs(bare(name), rows, model_type, objective): tensor for name, tensor in trained.items()}


def _theirs(name: str, rows: Mapping[str, Row], model_type: str, objective: str) -> str:
    module, _, leaf = name.rpartition(".")
    if module == "head" and model_type == "bert" and objective in HEADS:
        return f"{HEADS[objective]}.{leaf}"
    numbers = re.findall(r"\.(\d+)\.", f".{module}.")
    row = rows.get(re.sub(r"(^|\.)blocks\.\d+\.", r"\1blocks.{i}.", module) + ".weight")
    if row is None or module == "head":  # a task's head, which isn't the one for tokens
        raise RecipeError(f"Hugging Face's {model_type} has no place for {name}", fix="export with --to hf instead")
    if len(row.ours) > 1:
        parts = ", ".join(part.split(".")[-2] for part in row.ours)
        raise RecipeError(
            f"Hugging Face's {model_type} has {parts} as one matrix, so there is no adapter of "
            f"{module.rpartition('.')[2]} alone",
            fix=f"train with training.lora_targets without {parts}, or export the whole model with --to hf",
        )  # fmt: skip
    place = row.theirs.replace("{i}", numbers[0] if numbers else "").removesuffix(".weight")
    return f"{place}.{_LEAVES.get(leaf, leaf)}"


def adapter_config(
    state: Mapping[str, Tensor], model_type: str, objective: str, *, alpha: float, dropout: float, base: str | None
) -> dict[str, Any]:
    """adapter_config.json as a dict.

    Args:
        state: what `adapter_state` gave. base: where the weights lie that it adapts.
    """
    names = [name.removeprefix(_PREFIX) for name in state]
    layers = [name.removesuffix(f".{_LEAVES[A]}") for name in names if name.endswith(_LEAVES[A])]
    heads = {_head_of(name) for name in names if "lora_" not in name}
    rank = next(len(tensor) for name, tensor in state.items() if name.endswith(_LEAVES[A]))
    return {
        "peft_type": "LORA",
        "task_type": TASKS[objective],
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
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
    """The module that peft saves whole: `pooler` of `bert.pooler.dense.weight`."""
    return "pooler" if ".pooler." in name else name.rpartition(".")[0]
