"""What `trifecta ablate --toggle` can switch on by name: each technique, its keys, and its page in docs/techniques."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trifecta.errors import RecipeError, did_you_mean

_LITERAL = re.compile(r"[A-Za-z_]\w*(\.\w+)+=")
_PLUS = re.compile(r"\+(?=[A-Za-z_])")
"""A plus that isn't part of a number."""


@dataclass(frozen=True)
class Technique:
    """Keys with the values that switch it on, and the page (without .md) that explains it."""

    page: str
    settings: Mapping[str, Any]


def _adversary(name: str) -> Technique:
    return Technique("adversarial-training", {"training.adversary.type": name})


def _optimizer(name: str, rate: float | str = "auto") -> Technique:
    """With a learning rate that suits it: one rate for all would judge the rate."""
    return Technique("optimizers", {"training.optimizer.type": name, "training.learning_rate": rate})


def _schedule(name: str, **settings: Any) -> Technique:
    keys = {f"training.scheduler.{key}": value for key, value in settings.items()}
    return Technique("schedules", {"training.scheduler.type": name} | keys)


def _init(name: str) -> Technique:
    return Technique("initialisation", {"model.init": name})


def _edits(**settings: float | str) -> Technique:
    return Technique("text-augmentation", {f"data.augment.{key}": value for key, value in settings.items()})


_SHORT_FIRST = [{"steps": 150, "sequence_length": 16, "batch_size": 64}, {"steps": 150}]
"""Half of docs/techniques/text.yaml's steps with as many tokens in shorter windows."""

TECHNIQUES: Mapping[str, Technique] = {
    "adamw": _optimizer("adamw"),
    "adam": _optimizer("adam"),
    "sgd": _optimizer("sgd", 0.1),
    "adafactor": _optimizer("adafactor"),
    "lion": _optimizer("lion"),
    "muon": _optimizer("muon"),
    "constant": _schedule("constant"),
    "linear": _schedule("linear"),
    "cosine": _schedule("cosine"),
    "inverse_sqrt": _schedule("inverse_sqrt"),
    "one_cycle": _schedule("one_cycle"),
    "wsd": _schedule("wsd"),
    "exponential": _schedule("exponential", decay_steps=50, decay_rate=0.5),
    "exponential_decay": _schedule("exponential_decay", decay_steps=50, decay_rate=0.5),
    "cosine_decay": _schedule("cosine_decay", decay_steps=150),
    "piecewise": _schedule("piecewise", boundaries=[75, 113], factors=[1.0, 0.5, 0.25]),
    "piecewise_constant_decay": _schedule("piecewise_constant_decay", boundaries=[75, 113], factors=[1.0, 0.5, 0.25]),
    "learning_rate_auto": Technique("learning-rate-auto", {"training.learning_rate": "auto"}),
    "label_smoothing": Technique("label-smoothing", {"training.label_smoothing": 0.1}),
    "z_loss": Technique("z-loss", {"training.z_loss": 1e-4}),
    "no_clip": Technique("gradient-clipping", {"training.gradient_clip_norm": None}),
    "clip_norm": Technique("gradient-clipping", {"training.gradient_clip_norm": 1.0}),
    "clip_value": Technique("gradient-clipping", {"training.gradient_clip_value": 0.01}),
    "clip_adaptive": Technique("gradient-clipping", {"training.gradient_clip_ratio": 0.01}),
    "gradient_noise": Technique("gradient-noise", {"training.gradient_noise": 1e-6}),
    "skip_spikes": Technique("loss-spikes", {"training.spikes.type": "skip"}),
    "roll_back": Technique("loss-spikes", {"training.spikes.type": "rollback"}),
    "ema": Technique("weight-averaging", {"training.ema_decay": 0.999}),
    "dropout": Technique("dropout", {"model.dropout": 0.1}),
    "no_dropout": Technique("dropout", {"model.dropout": 0.0}),
    "drop_path": Technique("drop-path", {"model.drop_path": 0.1}),
    "fgm": _adversary("fgm"),
    "pgd": _adversary("pgd"),
    "freelb": _adversary("freelb"),
    "pre_norm": Technique("norm-position", {"model.norm_position": "pre"}),
    "post_norm": Technique("norm-position", {"model.norm_position": "post"}),
    "xavier": _init("xavier"),
    "he_normal": _init("he_normal"),
    "orthogonal": _init("orthogonal"),
    "depth_scaled": _init("depth_scaled"),
    "zero_residual": _init("zero_residual"),
    "checkpointing": Technique("gradient-checkpointing", {"execution.gradient_checkpointing": True}),
    "selective_checkpointing": Technique(
        "gradient-checkpointing",
        {"execution.gradient_checkpointing": True, "execution.checkpoint_policy": "selective"},
    ),
    "explicit_attention": Technique("attention-kernels", {"execution.attention": "explicit"}),
    "math_attention": Technique("attention-kernels", {"execution.attention": "math"}),
    "flash_attention": Technique("attention-kernels", {"execution.attention": "flash"}),
    "compile": Technique("compile", {"execution.compile": True}),
    "batch_size_auto": Technique("batch-size-auto", {"execution.fit_batch": True}),
    "tf32": Technique("tf32-and-cudnn", {"execution.tf32": True}),
    "cudnn_benchmark": Technique("tf32-and-cudnn", {"execution.cudnn_benchmark": True}),
    "fp32": Technique("mixed-precision", {"execution.precision": "fp32"}),
    "bf16": Technique("mixed-precision", {"execution.precision": "bf16"}),
    "fp16": Technique("loss-scaling", {"execution.precision": "fp16"}),
    "lora": Technique("lora", {"training.lora_rank": 8}),
    "layer_decay": Technique("layer-decay", {"training.layer_decay": 0.8}),
    "freeze_embeddings": Technique("freezing", {"training.freeze_layers": 0}),
    "freeze_body": Technique("freezing", {"training.freeze_body": True}),
    "crop": Technique("image-augmentation", {"objective.crop_padding": 1}),
    "flip": Technique("image-augmentation", {"objective.flip": 0.5}),
    "colours": Technique("image-augmentation", {"objective.brightness": 0.3, "objective.contrast": 0.3}),
    "erase": Technique("image-augmentation", {"objective.erase": 0.25}),
    "mixup": Technique("mixup-and-cutmix", {"objective.mixup": 0.2}),
    "cutmix": Technique("mixup-and-cutmix", {"objective.cutmix": 1.0}),
    "delete_words": _edits(delete=0.1),
    "swap_words": _edits(swap=0.1),
    "insert_words": _edits(insert=0.1, synonyms="mythes"),
    "synonyms": _edits(replace=0.1, synonyms="mythes"),
    "eda": _edits(replace=0.1, insert=0.1, swap=0.1, delete=0.1, synonyms="mythes"),
    "mask_tokens": _edits(mask_tokens=0.1),
    "drop_tokens": _edits(drop_tokens=0.1),
    "text_mixup": Technique("text-mixup", {"objective.mixup_alpha": 0.2}),
    "short_texts_first": Technique("curriculum", {"data.curriculum.type": "length"}),
    "common_words_first": Technique("curriculum", {"data.curriculum.type": "rarity"}),
    "short_windows_first": Technique("phases", {"training.max_steps": None, "training.phases": _SHORT_FIRST}),
    "corpus_weights": Technique("mixing-corpora", {"data.weights": [3, 1]}),
    "near_duplicates": Technique("near-duplicates", {"data.near_duplicates": 0.5}),
    "accumulation": Technique("gradient-accumulation", {"training.gradient_accumulation_steps": 4}),
}  # fmt: skip
"""Name -> technique. A row here and a page in docs/techniques are all that a new one needs."""


@dataclass(frozen=True)
class Toggle:
    """What is compared with the recipe as it is. settings: of techniques. overrides: `key=value` as they were written.

    name: as the user wrote it.
    """

    name: str
    settings: Mapping[str, Any]
    overrides: tuple[str, ...] = ()

    @property
    def keys(self) -> list[str]:
        """What it sets."""
        return [*self.settings, *(text.partition("=")[0] for text in self.overrides)]


def parse(texts: Iterable[str]) -> list[Toggle]:
    """Toggles by name or as key=value, parted by commas; `ema+label_smoothing` is both at once.

    Raises:
        RecipeError: no such technique; none at all; one of them twice.
    """
    names = [name.strip() for text in texts for name in _parted(text) if name.strip()]
    if not names:
        raise RecipeError("nothing to compare with the recipe", where="--toggle",
                          fix=f"use key=value, or one of: {', '.join(TECHNIQUES)}")  # fmt: skip
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise RecipeError(f"{twice[0]} is given twice", where="--toggle", fix="keep one of them")
    return [_toggle(name) for name in names]


def _parted(text: str) -> list[str]:
    """What stands between commas that aren't within brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[{(") - (sign in ")}]")
        if sign == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _toggle(name: str) -> Toggle:
    settings: dict[str, Any] = {}
    overrides: list[str] = []
    parts = _PLUS.split(name)
    if twice := [part for number, part in enumerate(parts) if part in parts[:number]]:
        raise RecipeError(f"{name} has {twice[0]} twice", where="--toggle", fix="keep one of them")
    for part in parts:
        if _LITERAL.match(part):
            overrides.append(part)
        elif part in TECHNIQUES:
            settings |= TECHNIQUES[part].settings
        else:
            what = f"no technique {part!r}; {did_you_mean(part, TECHNIQUES)}".rstrip("; ")
            raise RecipeError(what, where="--toggle", fix=f"use key=value, or one of: {', '.join(TECHNIQUES)}")
    return Toggle(name, settings, tuple(overrides))
