"""The loop over parts of the user's own: the same steps as a plain torch program, exact after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trifecta
from trifecta.errors import CheckpointError, NumericsError, RecipeError

pytestmark = pytest.mark.fast

SAMPLES = [torch.randn(5, generator=torch.Generator().manual_seed(n)) for n in range(22)]


class Line(nn.Module):
    """Squared error of a linear map to the sum, with dropout in between."""

    def __init__(self, rate: float = 0.0, term: str = "squares"):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.dropout, self.last, self.term = nn.Linear(5, 7), nn.Dropout(rate), nn.Linear(7, 1), term

    def forward(self, batch: trifecta.Batch) -> trifecta.LossSum:
        found = self.last(self.dropout(self.first(batch.inputs["x_BF"]).tanh()))[:, 0]
        total = ((found - batch.inputs["x_BF"].sum(1)) ** 2).sum()
        return trifecta.LossSum({self.term: (total, float(len(found)))}, {"off": (total.sqrt(), len(found))})


def collate(samples: list[Any]) -> trifecta.Batch:
    return trifecta.Batch({"x_BF": torch.stack(samples)}, {}, {"squares": float(len(samples))}, len(samples), 5)


def loop(module: nn.Module | None = None, **options: Any) -> trifecta.Loop:
    settings = {"batch_size": 4, "epochs": 2, "learning_rate": 0.05, "device": "cpu"} | options
    return trifecta.Loop(module or Line(), SAMPLES, collate, **settings)


def weights(made: trifecta.Loop) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in made.module.parameters()]


def test_its_steps_are_those_of_a_plain_program() -> None:
    """torch's NAdam over the same batches, in 12 updates of 4 samples (2 at an epoch's end), clipped to 1."""
    made = loop(optimizer=torch.optim.NAdam, schedule=lambda n: 1 / n, shuffle=False)
    losses = [report.loss for report in made]
    plain = Line()
    optimizer = torch.optim.NAdam(plain.parameters(), lr=0.05)
    expected = []
    for number in range(1, 13):
        start = (number - 1) % 6 * 4
        batch = collate(SAMPLES[start : start + 4])
        total, count = plain(batch).terms["squares"]
        expected.append((total / count).item())
        optimizer.zero_grad()
        (total / count).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 0.05 / number
        optimizer.step()
    assert losses == pytest.approx(expected, rel=1e-5)
    assert made.step == made.total_steps == 12


def test_accumulation_is_the_big_batch_also_where_it_is_ragged() -> None:
    parts, whole = loop(gradient_accumulation_steps=3), loop(batch_size=12)
    assert [r.loss for r in parts] == pytest.approx([r.loss for r in whole], rel=1e-5)


@pytest.mark.parametrize("optimizer", [None, torch.optim.RMSprop])
def test_saved_and_resumed_it_goes_on_bit_for_bit(tmp_path: Path, optimizer: Any) -> None:
    whole = loop(Line(0.3), optimizer=optimizer)
    losses = [report.loss for report in whole]
    first = loop(Line(0.3), optimizer=optimizer)
    for report in first:
        if report.step == 5:
            break
    assert first.save(tmp_path).name == "step-00000005"
    second = loop(Line(0.3), optimizer=optimizer)
    assert second.resume(tmp_path) == 5
    assert [report.loss for report in second] == losses[5:]
    assert all(map(torch.equal, weights(second), weights(whole)))


def test_control_an_optimizer_that_begins_anew_is_noticed(tmp_path: Path) -> None:
    whole = loop()
    losses = [report.loss for report in whole]
    first = loop()
    for report in first:
        if report.step == 5:
            break
    first.save(tmp_path)
    second = loop()
    second.resume(tmp_path)
    for part in second.state.optimizers.parts:
        part.state.clear()
    assert [report.loss for report in second] != losses[5:]


def test_stopped_and_iterated_again_it_goes_on() -> None:
    made, whole = loop(), [report.loss for report in loop()]
    found = []
    for report in made:
        found.append(report.loss)
        if report.step == 7:
            break
    assert found + [report.loss for report in made] == whole
    assert not list(made)


def test_evaluation_counts_every_sample_once() -> None:
    made = loop()
    found = made.evaluate(SAMPLES)
    total, count = made.module(collate(SAMPLES)).terms["squares"]
    assert found.loss == pytest.approx(total.item() / count, rel=1e-5)
    assert (found.tokens, made.module.training) == (22, True)


class Unused(Line):
    """With a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(3))


def test_a_parameter_that_nothing_uses_is_no_obstacle(tmp_path: Path) -> None:
    first = loop(Unused())
    next(iter(first))
    first.save(tmp_path)
    assert loop(Unused()).resume(tmp_path) == 1


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"seed": 1}, "seed: 42 -> 1"), ({"shuffle": False}, "shuffle: True -> False"),
     ({"optimizer": torch.optim.NAdam}, "optimizer: .*AdamW -> torch.optim.nadam.NAdam")],
)  # fmt: skip
def test_another_loop_is_refused_by_name(changed: dict[str, Any], named: str, tmp_path: Path) -> None:
    first = loop()
    next(iter(first))
    first.save(tmp_path)
    with pytest.raises(CheckpointError, match=named):
        loop(**changed).resume(tmp_path)
    assert loop(learning_rate=0.1, batch_size=8).resume(tmp_path) == 1


class Gives(Line):
    """What the case says, instead of a LossSum."""

    def __init__(self, given: Any):
        super().__init__()
        self.given = given

    def forward(self, batch: trifecta.Batch) -> Any:
        result = super().forward(batch)
        return self.given(result.terms["squares"][0]) if callable(self.given) else self.given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the module gave a NoneType"),
        (trifecta.LossSum({}), "a LossSum without terms"),
        (lambda total: trifecta.LossSum({"squares": (total.detach(), 4.0)}), "no scalar tensor with a gradient"),
        (lambda total: trifecta.LossSum({"squares": (total[None], 4.0)}), "no scalar tensor with a gradient"),
        (lambda total: trifecta.LossSum({"squares": (total, 0.0)}), "is 0 in the module's LossSum and 4 in its Batch"),
    ],
)
def test_what_a_module_gives_is_looked_at(given: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        next(iter(loop(Gives(given))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size should be"), ({"epochs": -1}, "epochs should be"),
        ({"max_steps": 0}, "max_steps should be"), ({"learning_rate": float("nan")}, "learning_rate should be"),
        ({"gradient_clip_norm": 0.0}, "gradient_clip_norm should be"), ({"precision": "fp16"}, "precision should be"),
        ({"optimizer": "adam"}, "optimizer should be what makes one"), ({"device": "gpu"}, "gpu"),
    ],
)  # fmt: skip
def test_arguments_out_of_bounds(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loop(**options)


def test_a_rate_that_is_no_number_touches_nothing() -> None:
    made = loop(schedule=lambda n: float("nan") if n == 3 else 1.0)
    reports = iter(made)
    next(reports), next(reports)
    before = weights(made)
    with pytest.raises(NumericsError, match="the learning rate of step 3 is nan"):
        next(reports)
    assert all(map(torch.equal, weights(made), before))


def test_mistakes_are_named() -> None:
    with pytest.raises(RecipeError, match="the loss has a term 'cubes', of which its batch has no weight"):
        next(iter(loop(Line(term="cubes"))))
    with pytest.raises(RecipeError, match="the data set is empty"):
        trifecta.Loop(Line(), [], collate)
    with pytest.raises(RecipeError, match="the data set is empty"):
        loop().evaluate([])
    with pytest.raises(RecipeError, match="collate gave a dict"):
        next(iter(trifecta.Loop(Line(), SAMPLES, lambda _: {}, device="cpu")))  # type: ignore[arg-type,return-value]
    frozen = Line()
    frozen.requires_grad_(False)
    with pytest.raises(RecipeError, match="no parameter that is trained"):
        loop(frozen)
