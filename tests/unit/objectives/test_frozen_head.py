"""The loss in chunks where parts of the head, or what is below it, are frozen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trifecta.objectives import loss
from trifecta.objectives.loss import cross_entropy_sum

pytestmark = pytest.mark.fast

N, D, V = 12, 5, 7


def gradients(frozen: set[str], chunk_elements: int) -> dict[str, Tensor | None]:
    """Of the hidden states, the head's matrix and its bias."""
    torch.manual_seed(0)
    tensors = {"hidden": torch.randn(1, N, D), "weight": torch.randn(V, D), "bias": torch.randn(V)}
    leaves = {name: tensor.requires_grad_(name not in frozen) for name, tensor in tensors.items()}
    head = [nn.Parameter(leaves[name], requires_grad=name not in frozen) for name in ("weight", "bias")]
    targets = torch.randint(V, (1, N))
    total = cross_entropy_sum(
        leaves["hidden"], targets, lambda h: nn.functional.linear(h, *head), head, vocab_size=V, supervised=N,
        chunk_elements=chunk_elements,
    )  # fmt: skip
    (3.0 * total).backward()
    return {"hidden": leaves["hidden"].grad, "weight": head[0].grad, "bias": head[1].grad}


@pytest.mark.parametrize(
    "frozen",
    [set(), {"weight"}, {"bias"}, {"weight", "bias"}, {"hidden"}, {"hidden", "weight"}],
    ids=lambda names: " and ".join(sorted(names)) or "nothing",
)
def test_chunks_give_the_gradients_of_the_whole(frozen: set[str]) -> None:
    pieces, whole = gradients(frozen, 3 * V), gradients(frozen, N * V)
    for name in pieces:
        assert (pieces[name] is None) == (name in frozen), name
        torch.testing.assert_close(pieces[name], whole[name])


def test_control_asking_for_the_gradient_of_a_frozen_parameter_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loss did once: autograd refuses."""
    plain = torch.autograd.grad

    def of_all(outputs: Tensor, inputs: list[Tensor], **_: bool) -> tuple[Tensor, ...]:
        return plain(outputs, [*inputs, torch.zeros(1)])

    monkeypatch.setattr(loss.torch.autograd, "grad", of_all)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradients({"weight"}, 3 * V)
