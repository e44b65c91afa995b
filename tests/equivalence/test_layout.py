"""How samples lie in a batch, in a row, or in an update doesn't change what is computed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from objectives import causal
from torch import Tensor

from trifecta.models import MODELS, roles
from trifecta.objectives import LossModule
from trifecta.optim import OPTIMIZERS, Trainable
from trifecta.training.plan import Plan
from trifecta.training.step import update
from trifecta.types import IGNORE, Batch

pytestmark = pytest.mark.fast
V, T = 31, 12
ADAMW = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}


def small(dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    torch.manual_seed(0)
    fields = {"d_model": 32, "num_heads": 4, "num_layers": 2, "d_ff": 64, "dropout": 0.0, "init_std": 0.1}
    return MODELS["gpt"](V, **(fields | changes)).to(dtype)


# --------------------------------------------------------------------------------------------------------- padding


def padded(pad: int, length: int = T) -> Batch:
    """A row of 7 tokens and one of 5, filled up at the right; what is filled up is no target."""
    rng = np.random.default_rng(0)
    objective = causal()
    batch: Batch = objective.collate([objective.prepare(rng.integers(0, V, n + 1)) for n in (7, 5)])
    more = length - batch.inputs["tokens_BT"].shape[1]
    tokens = torch.nn.functional.pad(batch.inputs["tokens_BT"], (0, more))
    targets = torch.nn.functional.pad(batch.targets["targets_BT"], (0, more), value=IGNORE)
    inputs = {"tokens_BT": torch.where(targets == IGNORE, pad, tokens)}
    return replace(batch, inputs=inputs, targets={"targets_BT": targets})


def outcome(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits where there are targets, and every gradient of the loss, less that of the pad tokens' own rows."""
    model.zero_grad()
    ((total, _),) = LossModule(model, causal())(batch).terms.values()
    total.backward()
    kept = batch.targets["targets_BT"] != IGNORE
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    return model(batch.inputs["tokens_BT"])[kept].detach(), gradients


def padding_error(model: Any) -> tuple[float, float]:
    """Largest change when pads have another content, and when there are more of them."""
    base, other, longer = (outcome(model, padded(*how)) for how in ((0,), (9,), (0, T + 8)))
    content = max(float((a - b).abs().max()) for a, b in zip(base, other, strict=True))
    presence = max(float((a - b).abs().max()) for a, b in zip(base, longer, strict=True))
    return content, presence


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_numeric_007_padding_changes_nothing(position: str) -> None:
    """The content of padding changes logits and gradients by exactly 0; more padding changes them by at most 1e-5."""
    content, presence = padding_error(small(position=position))
    assert content == 0
    assert presence <= 1e-5


def test_numeric_007_control_a_mask_that_lets_pads_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mask padding changes the logits by more than 1e-5."""
    monkeypatch.setattr("trifecta.nn.attention.causal_bias", lambda T, S, like: like.new_zeros(T, S))
    content, presence = padding_error(small(attention="explicit"))
    assert content > 1e-5
    assert presence > 1e-5


# ----------------------------------------------------------------------------------------------------- permutation


def permutation_error(model: Any, bias: Tensor, rotation: Tensor | None) -> float:
    """How far the blocks' output of turned-round vectors is from their turned-round output."""
    torch.manual_seed(1)
    x_BTD, order = torch.randn(2, T, 32), torch.randperm(T)

    def run(x: Tensor) -> Tensor:
        for block in model.blocks:
            x = block(x, rotation=rotation, bias=bias)
        return x

    with torch.no_grad():
        return float((run(x_BTD[:, order]) - run(x_BTD)[:, order]).abs().max())


@pytest.mark.parametrize("kind", ["fused", "explicit"])
def test_numeric_009_without_positions_and_mask_order_does_not_matter(kind: str) -> None:
    """Without positions and causal mask, permuted tokens give permuted outputs, to 1e-5."""
    assert permutation_error(small(position="none", attention=kind), torch.zeros(T, T), None) <= 1e-5


def test_numeric_009_control_positions_and_masks_are_noticed() -> None:
    """With rotary positions, or with a causal mask, the outputs differ by more than 1e-3."""
    from trifecta.nn.position import causal_bias

    model = small(position="rope")
    assert permutation_error(model, torch.zeros(T, T), model.rotary(0, T)) > 1e-3
    assert permutation_error(model, causal_bias(T, T, torch.zeros(1)), None) > 1e-3


# ---------------------------------------------------------------------------------------------- the last of an epoch

LENGTHS = [9, 3, 7, 2, 9, 5, 4]


def gradient(micro: list[Batch], dtype: torch.dtype) -> Tensor:
    """What the optimizer gets to see of one update."""
    model = small(dtype)
    optimizers = OPTIMIZERS["adamw"](Trainable(dict(model.named_parameters()), roles(model)), 1e-3, **ADAMW)
    seen: list[Tensor] = []
    optimizers.step = lambda: seen.append(torch.cat([p.grad.flatten() for p in optimizers.parameters]))
    update(
        LossModule(model, causal()), optimizers, micro, number=1, learning_rate=1e-3,
        transforms=(), seed=1, device=torch.device("cpu"), autocast=nullcontext,
    )  # fmt: skip
    return seen[0]


def last_window(accumulation: int, batch_size: int) -> tuple[list[Batch], list[Batch]]:
    """The last update of an epoch as it is cut into micro-batches, and as one batch."""
    rng = np.random.default_rng(0)
    objective = causal()
    examples = [objective.prepare(rng.integers(0, V, n + 1)) for n in LENGTHS]
    plan = Plan(len(LENGTHS), batch_size, accumulation, epochs=1, max_steps=None)
    start = (plan.steps_per_epoch - 1) * batch_size * accumulation
    cut = plan.update(start)
    assert len(cut) < accumulation or cut[-1].stop - cut[-1].start < batch_size, "a partial window"
    return [objective.collate(examples[m.start : m.stop]) for m in cut], [objective.collate(examples[start:])]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("accumulation", "batch_size"), [(2, 2), (4, 1), (2, 3), (3, 2)])
def test_numeric_011_the_last_partial_window_is_divided_by_what_it_holds(
    dtype: torch.dtype, bound: float, accumulation: int, batch_size: int
) -> None:
    """The gradient of an epoch's last, partial accumulation is that of its samples as one batch, to 1e-5, in fp64 to
    1e-12."""
    cut, whole = last_window(accumulation, batch_size)
    one, other = gradient(cut, dtype), gradient(whole, dtype)
    assert float((one - other).norm() / other.norm()) <= bound


def test_numeric_011_control_division_by_a_full_window_is_noticed() -> None:
    """Division by a full accumulation is off by more than 10 %."""
    cut, whole = last_window(4, 1)
    full = [replace(b, weights={name: w * 4 / len(cut) for name, w in b.weights.items()}) for b in cut]
    one, other = gradient(full, torch.float32), gradient(whole, torch.float32)
    assert float((one - other).norm() / other.norm()) > 0.1
