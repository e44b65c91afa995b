"""The recipes that ship."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from trifecta.errors import RecipeError
from trifecta.recipe import collect, preset_names, preset_summary, preset_text, presets
from trifecta.recipe.components import (
    T5,
    Adam,
    AdamW,
    BpeTokenizer,
    Causal,
    CharTokenizer,
    Constant,
    Cosine,
    Gpt,
    Masked,
    Muon,
    Span,
)
from trifecta.recipe.sources import _tiers


def gpt_parameters(model: Gpt, vocab_size: int) -> int:
    """Real parameter counts, written out by hand: embedding, blocks, norms, head."""
    D, F, bias = model.d_model, model.d_ff, int(model.bias)
    norm = D * (2 if model.norm == "layernorm" else 1)
    gated = model.activation in ("swiglu", "geglu")
    attention = 4 * D * D + bias * 4 * D + (2 * D // model.num_heads if model.qk_norm else 0)
    feedforward = (3 if gated else 2) * D * F + bias * (F * (2 if gated else 1) + D)
    head = 0 if model.tie_embeddings else vocab_size * D
    return vocab_size * D + model.num_layers * (attention + feedforward + 2 * norm) + norm + head


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "sizes", "parameters"),
    [
        ("small", (128, 4, 2, 512), 410_000),
        ("medium", (512, 8, 6, 2048), 18_966_528),
        ("large", (768, 12, 12, 3072), 85_132_800),
    ],
)
def test_s1_presets(name: str, sizes: tuple[int, ...], parameters: int) -> None:
    recipe = collect(preset=name).resolve().recipe
    model, training = recipe.model, recipe.training
    assert (model.d_model, model.num_heads, model.num_layers, model.d_ff) == sizes
    assert (model.dropout, model.norm, model.norm_position, model.activation) == (0.1, "layernorm", "pre", "gelu")
    assert (model.position, model.bias, model.tie_embeddings) == ("rope", True, True)
    assert recipe.tokenizer == CharTokenizer()
    assert recipe.data.sequence_length == 128
    assert (training.batch_size, training.learning_rate, training.epochs, training.seed) == (32, 3e-4, 10, 42)
    assert (training.optimizer, training.scheduler) == (AdamW(weight_decay=0.01), Cosine(min_lr_ratio=0.1))
    assert (training.gradient_clip_norm, training.keep_last_n, training.early_stopping_patience) == (1.0, 3, None)
    assert training.warmup_steps is None  # 100, at most a tenth of all steps
    assert abs(gpt_parameters(model, 100) - parameters) <= 10_000


@pytest.mark.fast
def test_tutorial() -> None:
    recipe = collect(preset="tutorial").resolve().recipe
    assert gpt_parameters(recipe.model, 2000) == 1_044_736
    assert recipe.tokenizer == BpeTokenizer(vocab_size=2000)
    assert (recipe.training.epochs, recipe.training.scheduler) == (3, Cosine(min_lr_ratio=0.0))
    windows = -(-348_614 // recipe.data.sequence_length)
    assert round(windows / recipe.training.batch_size) == 484


def test_gpt_s0() -> None:
    recipe = collect(preset="gpt-s0").resolve().recipe
    model, training = recipe.model, recipe.training
    assert (model.d_model, model.num_layers, model.num_heads, model.d_ff, model.dropout) == (512, 8, 8, 2048, 0.1)
    assert (model.position, model.activation, model.norm, model.attention) == ("rope", "swiglu", "rmsnorm", "fused")
    assert recipe.tokenizer == CharTokenizer(vocab_size=256)
    assert (training.optimizer, training.scheduler, training.learning_rate) == (Adam(), Constant(), 3e-4)
    assert (recipe.data.sequence_length, training.batch_size, training.epochs) == (128, 32, 10)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "rate", "batch_size", "objective"),
    [
        ("gpt-s0", 3e-4, 32, Causal()),
        ("bert-s0", 1e-4, 32, Masked(rate=0.15, masked_ratio=0.8, random_ratio=0.1)),
        ("t5-s0", 1e-4, 16, Span(rate=0.15, mean_span_length=3.0, sentinels=100, sentinel_start_id=256,
                                 sentinel_order="ascending")),
    ],
)  # fmt: skip
def test_group_006_presets_have_the_documents_figures(name: str, rate: float, batch_size: int, objective: Any) -> None:
    """Context, learning rate, batch size, epochs and what is learned of the three architectures."""
    recipe = collect(preset=name).resolve().recipe
    model, training = recipe.model, recipe.training
    assert model.type == name.removesuffix("-s0")
    assert recipe.data.sequence_length == 128
    assert (training.learning_rate, training.batch_size, training.epochs) == (rate, batch_size, 10)
    assert training.gradient_accumulation_steps == 1
    assert recipe.objective == objective
    assert recipe.tokenizer == CharTokenizer(vocab_size=256)
    assert (model.d_model, model.num_heads, model.d_ff, model.dropout) == (512, 8, 2048, 0.1)
    assert model.num_layers == (12 if name == "t5-s0" else 8)
    if isinstance(model, T5):
        assert model.num_decoder_layers in (None, 12)  # None: as many as the encoder has


@pytest.mark.fast
@pytest.mark.parametrize(
    ("task", "objective", "figures"),
    [
        ("classify", "classify", (2e-5, 16, 3)),
        ("tag", "tag", (5e-5, 16, 3)),
        ("answer", "answer", (5e-5, 32, 3)),
        ("translate", "seq2seq", (1e-5, 8, 5)),
        ("summarize", "seq2seq", (1e-5, 8, 5)),
    ],
)
def test_group_006_fine_tuning_has_the_documents_figures(
    task: str, objective: str, figures: tuple[float, int, int]
) -> None:
    """Learning rate at width 768, batch size and epochs. A T5's are S0's; classes have S3's rate with S0's batch size
    and epochs (S0's rate is 1e-5)."""
    from trifecta.run.finetuning import TASKS

    found = TASKS[task]
    assert found.objective == objective
    assert (found.learning_rate, found.batch_size, found.epochs) == figures


def test_modern_and_auto() -> None:
    for name in ("modern", "auto"):
        recipe = collect(preset=name).resolve().recipe
        assert (recipe.model.position, recipe.model.norm, recipe.model.qk_norm) == ("rope", "rmsnorm", True)
        assert isinstance(recipe.training.optimizer, Muon)
    for name, device in itertools.product(presets.AUTOS.values(), ("cpu", "accelerator")):
        limits = [limit for class_, limit, _ in _tiers(name) if class_ == device]
        assert limits == sorted(limits)
        assert limits[-1] == float("inf")


@pytest.mark.fast
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_what_it_is_and_loads(name: str, tmp_path: Path) -> None:
    assert preset_text(name).startswith(f"# {name}: ")
    assert preset_summary(name).startswith(f"{name}: ")
    assert len(preset_summary(name)) < 120
    resolved = collect(preset=name).resolve()
    assert resolved.written == frozenset()
    if name not in presets.AUTOS.values():
        path = tmp_path / f"{name}.yaml"
        path.write_text(preset_text(name))
        written_out = collect(config=path)
        assert written_out.resolve().recipe == resolved.recipe
        assert written_out.preset == name


def test_every_file_is_listed() -> None:
    files = {path.stem for path in Path(presets.__file__).parent.glob("*.yaml")}
    assert files == set(preset_names())
    with pytest.raises(RecipeError, match="unknown preset 'x'"):
        preset_text("x")
