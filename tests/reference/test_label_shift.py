"""A model trained on a cycle writes the cycle."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import torch
from objectives import causal

from trifecta.inference.generate import generate
from trifecta.models import MODELS, Gpt, roles
from trifecta.objectives import LossModule
from trifecta.optim import OPTIMIZERS, Trainable
from trifecta.optim.gradients import clip_norm
from trifecta.training.step import update

CYCLE = [3, 1, 4, 0, 5, 2, 6]


def trained(shift: int) -> tuple[Gpt, float]:
    """A small GPT after 60 steps on the cycle; a shift of 2 is the planted bug: targets two positions on."""
    torch.manual_seed(0)
    model = MODELS["gpt"](7, d_model=32, num_heads=2, num_layers=2, d_ff=64, dropout=0.0)
    objective = causal()
    module = LossModule(model, objective)
    optimizers = OPTIMIZERS["adamw"](
        Trainable(dict(model.named_parameters()), roles(model)), 3e-3,
        beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0,
    )  # fmt: skip
    loss = float("nan")
    for step in range(1, 61):
        windows: list[npt.NDArray[np.int64]] = [
            np.array([CYCLE[(start + i) % 7] for i in range(15)], dtype=np.int64) for start in range(7)
        ]
        examples = [objective.prepare(w) for w in windows]
        if shift == 2:
            examples = [type(e)({"tokens": w[:-2], "targets": w[2:]}) for e, w in zip(examples, windows, strict=True)]
        loss = update(
            module, optimizers, [objective.collate(examples)], number=step, learning_rate=3e-3,
            transforms=[clip_norm(1.0)], seed=0, device=torch.device("cpu"), autocast=nullcontext,
        ).loss  # fmt: skip
    return model, loss


def test_numeric_022_greedy_generation_reproduces_the_cycle() -> None:
    """Trained on a cycle of seven tokens, greedy generation writes the cycle exactly."""
    model, loss = trained(1)
    assert loss < 0.1
    assert list(generate(model, [3, 1], max_tokens=14, temperature=0.0)) == [4, 0, 5, 2, 6, 3, 1] * 2


def test_numeric_022_control_double_shift_falls_too_but_writes_something_else() -> None:
    """With targets shifted twice the loss falls too, but something else is written."""
    model, loss = trained(2)
    assert loss < 0.1, "its loss alone can't tell"
    assert list(generate(model, [3, 1], max_tokens=14, temperature=0.0)) != [4, 0, 5, 2, 6, 3, 1] * 2
