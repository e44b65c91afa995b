"""Rows of batches whose samples differ in length, and what is estimated from them."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from trifecta.inspection.estimate import Speed, _saved_bytes, estimate
from trifecta.inspection.rows import enough, measure_rows
from trifecta.models import T5, Gpt
from trifecta.types import IGNORE, Batch

pytestmark = pytest.mark.fast

GPT = partial(Gpt, 100, d_model=32, num_heads=2, num_layers=2, d_ff=64, dropout=0.0)
PRODUCTS = Speed(1e9, 0.0)


def batch(rows: int, length: int, tokens: int, scored: int, written: int | None = None) -> Batch:
    inputs = {"tokens_BT": torch.zeros(rows, length, dtype=torch.int64)}
    name = "targets_BT"
    if written is not None:
        inputs["decoder_tokens_BU"], name = torch.zeros(rows, written, dtype=torch.int64), "targets_BU"
    targets = torch.full((rows, length if written is None else written), IGNORE)
    targets.view(-1)[:scored] = 0
    return Batch(inputs, {name: targets, "labels_N": torch.zeros(rows)}, {}, samples=4, tokens=tokens)


def test_the_largest_batch_and_the_mean_of_all() -> None:
    rows = measure_rows([batch(2, 10, 15, 7), batch(3, 20, 45, 9), batch(1, 10, 10, 3)])
    assert (rows.rows, rows.length, rows.decoder_length, rows.scored, rows.batches) == (3, 20, None, 9, 3)
    assert (rows.positions, rows.tokens) == (30, 70 / 12)
    assert rows.padding == pytest.approx(1 - 70 / 90)
    assert rows.typical == 0.5


def test_what_is_written_counts_too() -> None:
    rows = measure_rows([batch(2, 10, 24, 7, written=5)])
    assert (rows.decoder_length, rows.scored, rows.positions, rows.typical) == (5, 7, 30, 1.0)


def test_a_task_with_a_head_of_its_own_scores_no_tokens() -> None:
    made = batch(2, 10, 15, 7)
    assert measure_rows([Batch(made.inputs, {"labels_NC": torch.zeros(2, 1)}, {}, 2, 15)]).scored == 0


def test_enough_samples_whatever_the_batch_size() -> None:
    assert [enough(size) for size in (1, 16, 1024)] == [1024, 64, 8]


def test_only_scored_positions_cost_logits() -> None:
    def found(scored: int | None) -> tuple[int, int, float]:
        made = estimate(GPT, batch_size=2, sequence_length=16, scored=scored, speed=PRODUCTS, device="cuda")
        return made.logit_bytes, made.flops_per_step, made.seconds_per_step

    everything, none, some = found(None), found(0), found(8)
    assert everything == found(32)
    assert (none[0], some[0]) == (0, 12 * 8 * 100)
    assert everything[1] - none[1] == 6 * 100 * 32 * 32
    assert some[1] - none[1] == 6 * 100 * 32 * 8


def test_a_decoder_costs_what_it_writes() -> None:
    build = partial(T5, 100, d_model=32, num_heads=2, num_layers=2, d_ff=64, dropout=0.0, activation="relu")
    short, equal = (
        estimate(build, batch_size=3, sequence_length=16, decoder_length=n, speed=PRODUCTS, device="cuda")
        for n in (4, 16)
    )
    assert short.activation_bytes == pytest.approx(_saved_bytes(build(), 3, 16, None, 4), rel=0.05)
    of_block = 4 * 32 * 32 + 2 * 32 * 32 + 2 * 32 * 64
    # attention to what is written; query and output of that to what is read; feed-forward
    assert equal.flops_per_step - short.flops_per_step == 6 * 2 * of_block * 3 * 12
