"""The running average of weights: its formula, where it is applied, what isn't averaged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trifecta.optim.ema import Ema

pytestmark = pytest.mark.fast


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    made[0].bias.requires_grad_(False)
    return made


def test_the_average_is_that_of_the_formula() -> None:
    network = model()
    ema = Ema(network, 0.9)
    wanted = {name: p.detach().clone() for name, p in network.named_parameters()}
    for number in range(1, 200):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn_like(p))
        decay = min(0.9, (1 + number) / (10 + number))
        for name, p in network.named_parameters():
            wanted[name] = decay * wanted[name] + (1 - decay) * p.detach()
        ema.update(number)
    assert ema.averages.keys() == {"0.weight", "1.weight", "1.bias"}, "neither buffers nor what is frozen"
    for name, average in ema.averages.items():
        assert torch.allclose(average, wanted[name], atol=1e-5)
    assert not torch.allclose(ema.averages["0.weight"], network[0].weight, atol=0.1)  # type: ignore[index]


def test_inside_the_model_has_the_averages_and_afterwards_its_weights() -> None:
    network = model()
    ema = Ema(network, 0.5)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    with torch.no_grad():
        for average in ema.averages.values():
            average.add_(1)

    def look() -> None:
        with ema.applied():
            for name, p in network.named_parameters():
                assert torch.equal(p.detach(), before[name] + (1 if name in ema.averages else 0))
            raise KeyError

    with pytest.raises(KeyError):
        look()
    for name, p in network.named_parameters():
        assert torch.equal(p.detach(), before[name])
        if name in ema.averages:
            assert torch.equal(ema.averages[name], before[name] + 1)


def test_what_is_loaded_must_fit() -> None:
    ema, other = Ema(model(), 0.5), Ema(model(1), 0.5)
    ema.load(other.averages)
    assert all(torch.equal(ema.averages[name], other.averages[name]) for name in ema.averages)
    with pytest.raises(KeyError, match=r"0\.weight"):
        ema.load({name: average for name, average in other.averages.items() if name != "0.weight"})
    with pytest.raises(KeyError, match=r"1\.bias"):
        ema.load(other.averages | {"1.bias": torch.zeros(5)})
