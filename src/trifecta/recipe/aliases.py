"""Every accepted spelling of a key, as data, and the renaming of one source to the canonical spelling.

Spellings come from the documents that trifecta follows: flat training keys (`step_size`), Go struct names
(`HiddenDim`), and the arguments of the layer language (`dff`, `clipnorm`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from trifecta.errors import RecipeError
from trifecta.recipe.keys import components, sections
from trifecta.recipe.objects import NAMED_NULLS, OPTIMIZER_NAMES, SCHEDULE_NAMES, Leaf, lowered
from trifecta.recipe.tree import Node, Path, Scalar, branches, clip, describe, empty, leaves, plain

Convert = Callable[[Scalar], Scalar]


@dataclass(frozen=True)
class Alias:
    """A canonical key, and what the spelled value becomes there (a text for true and for false)."""

    key: str
    meaning: Mapping[bool, str] | None = None


SECTIONS: Mapping[str, str] = {
    "train": "training",
    "optimizer": "training.optimizer",
    "TransformerConfig": "model",
    "TokenizerConfig": "tokenizer",
}
"""Other names of sections at the top level."""

_OPTIMIZER_KEYS = ("beta_1", "beta_2", "epsilon", "weight_decay", "momentum", "nesterov")
_PRECISION = Alias("execution.precision", {True: "bf16", False: "fp32"})

# Where each Go name may stand: at the top level, in the section that it belongs to, and under `model`, since there it
# is one flat struct. UseRoPE: false is a learned table, which is what a GPT without rotary positions has.
_GO_NAMES: Mapping[str, Alias] = {
    "VocabSize": Alias("tokenizer.vocab_size"),
    "HiddenDim": Alias("model.d_model"),
    "NumLayers": Alias("model.num_layers"),
    "NumHeads": Alias("model.num_heads"),
    "FFNDim": Alias("model.d_ff"),
    "MaxSeqLen": Alias("data.sequence_length"),
    "DropoutRate": Alias("model.dropout"),
    "LearningRate": Alias("training.learning_rate"),
    "UseRoPE": Alias("model.position", {True: "rope", False: "learned"}),
    "UseSwiGLU": Alias("model.activation", {True: "swiglu", False: "gelu"}),
    "UseRMSNorm": Alias("model.norm", {True: "rmsnorm", False: "layernorm"}),
    "UseExplicitMask": Alias("model.attention", {True: "explicit", False: "fused"}),
    "SpanLength": Alias("objective.mean_span_length"),
    "CorruptRate": Alias("objective.rate"),
    "SentinelStartID": Alias("objective.sentinel_start_id"),
    "LossScale": Alias("execution.loss_scale"),
    "CheckpointEveryN": Alias("execution.checkpoint_every_n_layers"),
    "ScaleGrowthRate": Alias("execution.loss_scale_growth"),
    "ScaleBackoffRate": Alias("execution.loss_scale_backoff"),
}

ALIASES: Mapping[str, Alias] = {
    **{f"{home}{name}": alias for name, alias in _GO_NAMES.items()
       for home in ("", "model.", f"{alias.key.partition('.')[0]}.")},
    "tokenizer.Type": Alias("tokenizer.type"),
    "model.dff": Alias("model.d_ff"),
    "model.dropout_rate": Alias("model.dropout"),
    "training.min_lr_ratio": Alias("training.scheduler.min_lr_ratio"),
    "training.step_size": Alias("training.scheduler.step_size"),
    "training.gamma": Alias("training.scheduler.gamma"),
    **{f"training.{name}": Alias(f"training.optimizer.{name}") for name in _OPTIMIZER_KEYS},
    **{f"{home}{name}": Alias(f"training.optimizer.{canonical}")
       for name, canonical in {"beta1": "beta_1", "beta2": "beta_2"}.items()
       for home in ("training.", "training.optimizer.")},
    **{f"{home}{name}": Alias("training.gradient_clip_norm")
       for name in ("clipnorm", "global_clipnorm", "max_grad_norm") for home in ("training.", "training.optimizer.")},
    "training.optimizer.learning_rate": Alias("training.learning_rate"),
    "training.optimizer.class": Alias("training.optimizer.class_name"),
    **{f"{home}label_smoothing": Alias("training.label_smoothing") for home in ("", "objective.", "model.")},
    "training.clipvalue": Alias("training.gradient_clip_value"),
    "training.optimizer.clipvalue": Alias("training.gradient_clip_value"),
    "training.lr": Alias("training.learning_rate"),
    "training.num_workers": Alias("data.num_workers"),
    "training.sequence_length": Alias("data.sequence_length"),
    "training.device": Alias("execution.device"),
    **{f"{home}{name}": _PRECISION
       for name in ("use_mixed_precision", "mixed_precision") for home in ("training.", "execution.")},
}  # fmt: skip
"""Spelled path -> canonical key."""

TYPE_NAMES: Mapping[str, Mapping[str, str]] = {
    "training.optimizer": OPTIMIZER_NAMES,
    "training.scheduler": SCHEDULE_NAMES,
}
"""Other names of a component's types."""

VALUE_NAMES: Mapping[str, Mapping[str, str | None]] = {
    **{key: {name: None} for key, name in NAMED_NULLS.items()},
    "model.init": {
        "xavier_uniform": "xavier", "glorot": "xavier", "glorot_uniform": "xavier", "glorot_normal": "xavier_normal",
        "he": "he_uniform", "kaiming": "he_uniform", "kaiming_uniform": "he_uniform", "kaiming_normal": "he_normal",
    },
}  # fmt: skip
"""Other spellings of a key's values."""

NOT_YET: frozenset[str] = frozenset({
    "strategy", "search_method", "num_trials", "loss", "metrics", "input", "layers",
    "network", "BlockSize", "CausalMask",
    "MultiHead",
})  # fmt: skip
"""Names of keys and types that people know from elsewhere and that trifecta doesn't have yet."""


def canonical(source: Node) -> tuple[Node, list[RecipeError]]:
    """One source with canonical keys, and an error for each key that it spells twice.

    A bare text where a component stands names its type; null where a section or a component stands is an empty one.
    """
    root = empty(source.origin)
    spelled: dict[str, str] = {}
    errors: list[RecipeError] = []
    sections_at = {_sections_renamed(path): node for path, node in branches(source)}
    for spelling, path, leaf in _written(source, errors):
        target, node, error = _rename(path, leaf)
        if error is not None:
            errors.append(error)
        elif target:
            clash = _put(root, target, node, sections_at)
            if clash is not None:
                errors.append(_written_twice(".".join(target), clash, node, spelled, spelling))
        spelled.setdefault(".".join(target), spelling)
    return root, errors


def _written(source: Node, errors: list[RecipeError]) -> Iterator[Leaf]:
    """Every leaf of a source, with objects taken apart; those that can't be read go to `errors`."""
    for path, leaf in leaves(source) if source.mapping else ():
        key = ".".join(_sections_renamed(path))
        try:
            yield from list(lowered(ALIASES[key].key if key in ALIASES else key, path, leaf))
        except RecipeError as error:
            errors.append(error)


def _rename(path: Path, leaf: Node) -> tuple[Path, Node, RecipeError | None]:
    key = ".".join(_sections_renamed(path))
    if key in components() and isinstance(leaf.value, str):
        key = f"{key}.type"
    elif (key in components() or key in sections()) and leaf.value is None:
        leaf = replace(leaf, value={})
    alias = ALIASES.get(key)
    if alias is not None:
        key = alias.key
        if alias.meaning is not None:
            if not isinstance(leaf.value, bool):
                return (), leaf, _not_a_switch(".".join(path), alias, leaf)
            leaf = replace(leaf, value=alias.meaning[leaf.value])
    if key in NAMED_NULLS and leaf.value is None:
        return (), leaf, _no_value(key, leaf)
    section, _, name = key.rpartition(".")
    if name == "type" and isinstance(leaf.value, str):
        leaf = replace(leaf, value=TYPE_NAMES.get(section, {}).get(leaf.value, leaf.value))
    elif isinstance(leaf.value, str) and leaf.value in VALUE_NAMES.get(key, {}):
        leaf = replace(leaf, value=VALUE_NAMES[key][leaf.value])
    return tuple(key.split(".")), leaf, None


def _sections_renamed(path: Path) -> Path:
    """The path with its dotted keys taken apart and a canonical section."""
    first, *others = ".".join(path).split(".")
    return (*SECTIONS.get(first, first).split("."), *others)


def _put(root: Node, path: Path, leaf: Node, sections_at: Mapping[Path, Node]) -> Node | None:
    """Adds a leaf, and the sections above it at the places where they are written; the node in its way, if one is."""
    for depth, name in enumerate(path[:-1]):
        entries = root.mapping
        if entries is None:
            return root
        if name not in entries:
            entries[name] = replace(sections_at.get(path[: depth + 1], empty(leaf.key_origin)), value={})
        root = entries[name]
    entries = root.mapping
    if entries is None:
        return root
    there = entries.get(path[-1])
    if there is None:
        entries[path[-1]] = leaf
    elif there.mapping is None or leaf.mapping is None:
        return there
    return None


def _written_twice(key: str, first: Node, second: Node, spelled: Mapping[str, str], spelling: str) -> RecipeError:
    origin = second.key_origin
    return RecipeError(
        f"{key} is written twice: as {clip(spelled.get(key, key))} {first.key_origin.short}, and as {clip(spelling)} "
        f"{origin.short}",
        where=origin.where, excerpt=origin.excerpt, fix="keep one of them",
    )  # fmt: skip


def _no_value(key: str, leaf: Node) -> RecipeError:
    return RecipeError(f"{key}: should be a number or {NAMED_NULLS[key]}, found null", where=leaf.origin.where,
                       excerpt=leaf.origin.excerpt, fix="write one, or remove the key")  # fmt: skip


def _not_a_switch(spelling: str, alias: Alias, leaf: Node) -> RecipeError:
    assert alias.meaning is not None
    meanings = " or ".join(alias.meaning.values())
    return RecipeError(
        f"{spelling}: should be true or false, found {describe(plain(leaf))}",
        where=leaf.origin.where, excerpt=leaf.origin.excerpt,
        fix=f"write true or false, or use {alias.key} ({meanings})",
    )  # fmt: skip
