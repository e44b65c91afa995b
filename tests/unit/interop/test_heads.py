"""Heads as transformers has them: layers that change nothing, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.interop import heads

pytestmark = pytest.mark.fast

D, C = 12, 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head(**fields: Any) -> heads.Head:
    return heads.Head("classify", drawn(C, D, seed=1), drawn(C, seed=2), ("a", "b", "c"), **fields)


def body() -> dict[str, Tensor]:
    norm = {"model.final_norm.weight": 1 + drawn(D, seed=3) / 3, "model.final_norm.bias": drawn(D, seed=4) / 3}
    return {"model.layers.0.attn.Wo.weight": drawn(D, D), **norm}


def config(epsilon: float, *, bias: bool = False) -> dict[str, Any]:
    return {"model_type": "modernbert", "norm_eps": epsilon, "classifier_bias": bias}


def judged(state: dict[str, Tensor], x: Tensor, epsilon: float, *, mean: bool, act: Any = lambda x: x) -> Tensor:
    """What ModernBERT computes, (N, C), of (N, T, D) before its last norm, in fp64."""
    norms = {name: tensor.double() for name, tensor in state.items()}
    z = F.layer_norm(x, (D,), norms["model.final_norm.weight"], norms["model.final_norm.bias"], epsilon)
    inner = act((z.mean(1) if mean else z[:, 0]) @ norms["head.dense.weight"].T)
    scored = F.layer_norm(inner, (D,), norms["head.norm.weight"], norms["head.norm.bias"], epsilon)
    return scored @ norms["classifier.weight"].T + norms["classifier.bias"]


@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
@pytest.mark.parametrize("width", [0.3, 1.0, 30.0])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_modernberts_layers_change_nothing(epsilon: float, width: float, pooling: str) -> None:
    """width: standard deviation before the last norm. Less than fp32's rounding of scores near 10 is 1e-6."""
    x, mean = width * drawn(5, 7, D).double(), pooling == "mean"
    given = body()
    state, notes = heads.with_head(given, head(pooling=pooling), config(epsilon))
    z = F.layer_norm(x, (D,), *(given[f"model.final_norm.{part}"].double() for part in ("weight", "bias")), epsilon)
    wanted = (z.mean(1) if mean else z[:, 0]) @ head().weight.double().T + head().bias.double()
    assert (judged(state, x, epsilon, mean=mean) - wanted).abs().max() < 2e-6
    assert any("float16" in note for note in notes) == mean


@pytest.mark.parametrize("act", ["none", "tanh"])
def test_any_gelu_will_do_for_an_adapter(act: Any) -> None:
    x, given = drawn(5, 1, D).double(), body()
    norm = given["model.final_norm.weight"], given["model.final_norm.bias"]
    state = given | heads.modernbert_head(norm, head(), activation="gelu", epsilon=1e-5, bias=False)
    wanted = F.layer_norm(x[:, 0], (D,), norm[0].double(), norm[1].double(), 1e-5) @ head().weight.double().T
    found = judged(state, x, 1e-5, mean=False, act=lambda inner: F.gelu(inner, approximate=act))
    assert (found - wanted - head().bias).abs().max() < 1e-5


def test_tanh_changes_nothing() -> None:
    x, found = 3 * drawn(5, D), heads.bert_head(head(), {})
    inner = torch.tanh(F.linear(x, found["bert.pooler.dense.weight"], found["bert.pooler.dense.bias"]))
    scores = F.linear(inner, found["classifier.weight"], found["classifier.bias"])
    torch.testing.assert_close(scores, F.linear(x, head().weight, head().bias), rtol=0, atol=5e-6)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_way_back(pooling: str) -> None:
    given, asked = body(), head(pooling=pooling)
    state, _ = heads.with_head(given, asked, config(1e-5, bias=True))
    found = config(1e-5, bias=True) | heads.settings(asked, "modernbert")
    changed, rest, left_out = heads.without_head(found, state)
    assert rest.keys() == given.keys()
    for name, tensor in rest.items():
        torch.testing.assert_close(tensor, given[name], rtol=1e-6, atol=0)
    assert "classifier_activation" not in changed
    assert left_out == tuple(sorted(state.keys() - given.keys()))


def test_other_folders_stay_as_they_are() -> None:
    found = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "tie_word_embeddings": False}
    state = {"bert.pooler.dense.weight": torch.eye(D) * heads._SMALL, "cls.predictions.bias": drawn(9)}
    assert heads.without_head(found, state) == (found, state, ())
