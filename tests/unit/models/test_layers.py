"""Heights above the embeddings, learning-rate ratios, and what freezing freezes."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from trifecta.models import MODELS
from trifecta.models.heads import Headed, Paired
from trifecta.models.layers import freeze, freeze_trained, heights, is_head, learning_rate_ratios

pytestmark = pytest.mark.fast

SMALL: dict[str, Any] = {"d_model": 16, "num_heads": 2, "num_layers": 3, "d_ff": 24}


def model_of(kind: str, **changes: Any) -> nn.Module:
    settings = SMALL | ({"num_decoder_layers": 2} if kind == "t5" else {}) | changes
    return MODELS[kind](19, **settings)


def names_of(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


WANTED = {
    "gpt": {
        "embedding.token.weight": 4, "blocks.0.attention.query.weight": 3, "blocks.1.feedforward.up.bias": 2,
        "blocks.2.attention_norm.weight": 1, "norm.weight": 0,
    },
    "bert": {
        "embedding.token.weight": 4, "embedding.segment.weight": 4, "embedding.norm.weight": 4,
        "blocks.0.attention.query.weight": 3, "blocks.2.feedforward.gate.weight": 1, "norm.weight": 0,
        "head_dense.weight": 0, "head_bias": 0, "pooler.weight": 0,
    },
    "t5": {
        "embedding.token.weight": 4, "encoder.relative.table.weight": 4, "decoder.relative.table.weight": 3,
        "encoder.blocks.0.attention.query.weight": 3, "encoder.blocks.2.attention.query.weight": 1,
        "decoder.blocks.0.cross.key.weight": 2, "decoder.blocks.1.cross.key.weight": 1, "encoder.norm.weight": 0,
    },
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {"gpt": {}, "bert": {"segment_types": 2, "pooler": True}, "t5": {}}


@pytest.mark.parametrize("kind", WANTED)
def test_heights_and_ratios_of_every_kind_of_model(kind: str) -> None:
    """Block i of L is L - i layers below the head, embeddings are L + 1 below it."""
    names = names_of(model_of(kind, **CHANGES[kind]))
    found = heights(names)
    assert found.keys() == set(names)
    assert {name: found[name] for name in WANTED[kind]} == WANTED[kind]
    ratios = learning_rate_ratios(names, 0.5)
    assert {name: ratios[name] for name in WANTED[kind]} == {name: 0.5**h for name, h in WANTED[kind].items()}
    assert set(learning_rate_ratios(names, 1.0).values()) == {1.0}


def test_a_body_below_another_head_has_the_heights_that_it_has_by_itself() -> None:
    alone = heights(names_of(model_of("bert")))
    found = heights(names_of(Headed(model_of("bert"), 2)))
    for name, height in found.items():
        assert height == (0 if name.startswith("head.") else alone[name.removeprefix("body.")]), name
    assert found["body.embedding.token.weight"] == 4


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_frozen_layers_are_the_embeddings_and_the_first_blocks_of_each_stack(kind: str, layers: int) -> None:
    model = model_of(kind)
    freeze(model, layers=layers)
    for name, parameter in model.named_parameters():
        block = name.partition("blocks.")[2].partition(".")[0]
        low = name.startswith("embedding.") or ".relative." in name
        assert parameter.requires_grad is not (int(block) < layers if block else low), name


def test_a_frozen_body_leaves_the_heads() -> None:
    headed = Headed(model_of("bert", pooler=True), 2)
    freeze(headed, body=True)
    assert trained(headed) == {"head.weight", "head.bias", "body.pooler.weight", "body.pooler.bias"}
    untied = model_of("gpt", tie_embeddings=False)
    freeze(untied, body=True)
    assert trained(untied) == {"head.weight"}
    masked = model_of("bert")
    freeze(masked, body=True)
    assert trained(masked) == {"head_dense.weight", "head_norm.weight", "head_norm.bias", "head_bias"}


def test_lora_leaves_the_heads_of_tasks_alone() -> None:
    for model in (headed := Headed(model_of("gpt"), 2), paired := Paired(model_of("bert")), bare := model_of("bert")):
        freeze_trained(model)
    assert trained(headed) == {"head.weight", "head.bias"}
    assert trained(paired) == {name for name in names_of(paired) if is_head(name)}
    assert trained(bare) == set()
    unused = Headed(model_of("bert", pooler=True), 2)
    unused.body.pooler.requires_grad_(False)
    freeze_trained(unused)
    assert trained(unused) == {"head.weight", "head.bias"}, "what was frozen stays frozen"


def test_nothing_is_frozen_unless_asked() -> None:
    model = model_of("t5")
    freeze(model)
    assert trained(model) == set(names_of(model))
