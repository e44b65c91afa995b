"""Stochastic depth: whole rows, the right rate at each depth, nothing while validating."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trifecta.models import MODELS
from trifecta.nn import block as block_module
from trifecta.nn.dropout import drop_path

pytestmark = pytest.mark.fast

SIZES = {"d_model": 8, "num_heads": 2, "num_layers": 4, "d_ff": 8, "dropout": 0.0}


def test_whole_rows_go_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    x = torch.ones(20_000, 3, 2)
    dropped = drop_path(x, 0.3)
    rows = dropped.flatten(1)
    assert ((rows == 0).all(1) | (rows == rows[:, :1]).all(1)).all()
    assert float((rows[:, 0] == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("kind", ["gpt", "bert", "t5"])
def test_a_block_is_left_out_by_its_depth(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def watched(x: Tensor, rate: float) -> Tensor:
        rates.append(rate)
        return drop_path(x, rate)

    monkeypatch.setattr(block_module, "drop_path", watched)
    torch.manual_seed(0)
    model = MODELS[kind](20, **SIZES, drop_path=0.4)
    tokens = torch.randint(20, (3, 5))
    given = (tokens, tokens) if kind == "t5" else (tokens,)
    once, again = (model.train().hidden(*given).hidden_BTD for _ in range(2))
    assert not torch.equal(once, again)
    encoder = [rate for rate in (0.1, 0.2, 0.3, 0.4) for _ in range(2)]
    decoder = [rate for rate in (0.1, 0.2, 0.3, 0.4) for _ in range(3)]
    assert rates[: len(rates) // 2] == pytest.approx(encoder + (decoder if kind == "t5" else []))
    rates.clear()
    plain = MODELS[kind](20, **SIZES)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval().hidden(*given).hidden_BTD, plain.eval().hidden(*given).hidden_BTD)
    assert not rates


def test_control_elements_instead_of_rows_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda n, *_, device: rand(n, 3, 2, device=device))
    with pytest.raises(AssertionError):
        test_whole_rows_go_and_the_mean_stays()
