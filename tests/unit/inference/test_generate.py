"""The loop that writes: stops, contexts, batches, seeds, modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trifecta.errors import RecipeError
from trifecta.inference import generate as module
from trifecta.inference.generate import generate, generate_batch
from trifecta.models import Gpt

V = 23


def model_of(**changes: Any) -> Gpt:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 32, "init_std": 0.3, "dropout": 0.5}
    return Gpt(V, **(sizes | changes))


@pytest.mark.fast
def test_numeric_022_a_learned_cycle_is_written_exactly() -> None:
    """Trained with plain torch on a cycle of five tokens, greedy generation writes the cycle exactly."""
    model = model_of(dropout=0.0, init_std=0.02)
    cycle = torch.arange(40)[None] % 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(cycle[:, :-1])[0], cycle[0, 1:]).backward()
        optimizer.step()
    assert list(generate(model, [0, 1, 2], max_tokens=10, temperature=0)) == [3, 4, 0, 1, 2, 3, 4, 0, 1, 2]


def test_same_seed_same_tokens_other_seed_others() -> None:
    model = model_of()
    first, again, other = (list(generate(model, [1], max_tokens=30, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_batch_begins_with_the_single_sample_and_rows_differ() -> None:
    model = model_of()
    samples = generate_batch(model, [1, 2], num_samples=4, max_tokens=20, seed=3)
    assert samples[0] == list(generate(model, [1, 2], max_tokens=20, seed=3))
    assert len({tuple(sample) for sample in samples}) == 4
    assert {len(sample) for sample in samples} == {20}


def test_end_of_text_stops_and_is_not_yielded() -> None:
    model = model_of()
    free = list(generate(model, [1], max_tokens=60, seed=5))
    eos = free[10]
    assert list(generate(model, [1], max_tokens=60, seed=5, eos_id=eos)) == free[: free.index(eos)]
    rows = generate_batch(model, [1], num_samples=6, max_tokens=200, seed=5, eos_id=eos)
    assert len({len(row) for row in rows}) > 1
    assert all(eos not in row for row in rows)


def test_empty_prompt_begins_with_end_of_text() -> None:
    model = model_of()
    assert list(generate(model, [], max_tokens=5, eos_id=0)) == list(generate(model, [0], max_tokens=5, eos_id=0))


@pytest.mark.parametrize("position", ["rope", "learned", "alibi"])
@pytest.mark.parametrize("prompt_length", [1, 7, 8, 9, 50])
def test_longer_than_the_context(position: str, prompt_length: int) -> None:
    model = model_of(position=position, max_sequence_length=8)
    assert len(list(generate(model, [1] * prompt_length, max_tokens=30))) == 30


def test_context_is_cropped_by_quarters(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    right = module._next_logits

    def watched(model: Gpt, rows: list[list[int]], start: int, *rest: Any) -> torch.Tensor:
        seen.append(len(rows[0]) - start)
        return right(model, rows, start, *rest)

    monkeypatch.setattr(module, "_next_logits", watched)
    list(generate(model_of(max_sequence_length=8), [1] * 6, max_tokens=8))
    assert seen == [6, 7, 8, 7, 8, 7, 8, 7]


def test_numeric_040_modes_are_restored_and_the_default_generator_untouched() -> None:
    """Generation leaves every module's mode and torch's random state exactly as they were, also when it is stopped
    midway."""
    model = model_of()
    model.blocks[1].eval()
    modes = [m.training for m in model.modules()]
    state = torch.random.get_rng_state()
    list(generate(model, [1], max_tokens=3))
    assert [m.training for m in model.modules()] == modes
    stream = generate(model, [1], max_tokens=50)
    next(stream)
    assert not model.training
    assert not torch.is_inference_mode_enabled()
    stream.close()
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": -3}, "max_tokens is -3"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"prompt_ids": [V]}, f"token {V} of the prompt"),
        ({"prompt_ids": [-1]}, "token -1 of the prompt"),
        ({"prompt_ids": []}, "prompt is empty"),
    ],
)
def test_fault_063_arguments_out_of_bounds(arguments: dict[str, Any], named: str) -> None:
    """Arguments of generation out of bounds are refused as recipe errors at the call, not at the first token."""
    with pytest.raises(RecipeError, match=named):
        generate(model_of(), **({"prompt_ids": [1]} | arguments))
    with pytest.raises(RecipeError, match=named):
        generate_batch(model_of(), num_samples=2, **({"prompt_ids": [1]} | arguments))
    with pytest.raises(RecipeError, match="num_samples is 0"):
        generate_batch(model_of(), [1], num_samples=0)


@pytest.mark.fast
def test_banned_ids_are_never_written() -> None:
    model = model_of()
    free = list(generate(model, [1, 2], max_tokens=60, temperature=1.0, seed=3))
    banned = sorted(set(free))[: len(set(free)) // 2]
    written = list(generate(model, [1, 2], max_tokens=60, temperature=1.0, seed=3, banned_ids=banned))
    assert len(written) == 60
    assert not set(written) & set(banned)
