"""Clipping by value and by the norms of weights; noise."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from trifecta.optim import gradients
from trifecta.optim.gradients import add_noise, clip_adaptive, clip_value, global_norm

pytestmark = pytest.mark.fast


def parameters(*shapes: tuple[int, ...], gradient: float = 1.0) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    made = [Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for parameter in made:
        parameter.grad = gradient * torch.randn(parameter.shape, generator=generator)
    return made


def grads(found: list[Parameter]) -> list[torch.Tensor]:
    return [p.grad.clone() for p in found if p.grad is not None]


def test_no_element_is_larger_than_the_value() -> None:
    found = parameters((30, 4), (7,))
    before = grads(found)
    clip_value(0.5)(found, 1.0, 1)
    for gradient, old in zip(grads(found), before, strict=True):
        assert torch.equal(gradient, old.clamp(-0.5, 0.5))
        assert (old.abs() > 0.5).any()


def test_a_row_is_clipped_by_the_norm_of_its_weights() -> None:
    matrix, vector, conv = found = parameters((30, 4), (7,), (3, 2, 5))
    with torch.no_grad():
        matrix[3] = 0.0
    before = grads(found)
    clip_adaptive(0.5)(found, 1.0, 1)
    for row in range(30):
        old, most = before[0][row], 0.5 * max(float(matrix[row].detach().norm()), 1e-3)
        wanted = old * min(1.0, most / float(old.norm()))
        assert torch.allclose(matrix.grad[row], wanted, rtol=1e-5)  # type: ignore[index]
    assert float(vector.grad.norm()) <= 0.5 * float(vector.detach().norm()) * (1 + 1e-5)  # type: ignore[union-attr]
    norms = conv.grad.flatten(1).norm(dim=1) / conv.detach().flatten(1).norm(dim=1)  # type: ignore[union-attr]
    assert (norms <= 0.5 * (1 + 1e-5)).all()
    small = parameters((30, 4), gradient=1e-4)
    before = grads(small)
    clip_adaptive(0.5)(small, 1.0, 1)
    assert torch.equal(grads(small)[0], before[0]), "below the limit nothing is touched"


@pytest.mark.parametrize(("number", "variance"), [(1, 0.3 / 2**0.55), (100, 0.3 / 101**0.55)])
def test_noise_has_the_variance_of_the_paper(number: int, variance: float) -> None:
    found = parameters((400, 400), gradient=0.0)
    add_noise(0.3, 0.55, seed=1)(found, 0.0, number)
    (noise,) = grads(found)
    assert float(noise.var()) == pytest.approx(variance, rel=0.02)
    assert abs(float(noise.mean())) < 0.01


def test_noise_follows_from_seed_and_update_alone() -> None:
    def noise(seed: int, number: int, shapes: int = 2) -> list[torch.Tensor]:
        found = parameters(*[(5, 5)] * shapes, gradient=0.0)
        torch.rand(3)
        add_noise(0.3, 0.55, seed)(found, 0.0, number)
        return grads(found)

    one = noise(1, 1)
    assert all(torch.equal(a, b) for a, b in zip(one, noise(1, 1), strict=True))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], noise(2, 1)[0])
    assert not torch.equal(one[0] * 3, noise(1, 2)[0] * 3)


def test_control_a_deviation_taken_for_a_variance_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    normal = torch.Tensor.normal_
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, mean, std, **g: normal(self, mean, std**2, **g))
    with pytest.raises(AssertionError):
        test_noise_has_the_variance_of_the_paper(1, 0.3 / 2**0.55)


def test_control_norms_of_the_whole_matrix_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_unit_norms", torch.linalg.vector_norm)
    with pytest.raises(AssertionError):
        test_a_row_is_clipped_by_the_norm_of_its_weights()


def test_the_norm_is_of_all_gradients() -> None:
    found = parameters((3, 3), (4,))
    assert float(global_norm(found)) == pytest.approx(float(torch.cat([g.flatten() for g in grads(found)]).norm()))
