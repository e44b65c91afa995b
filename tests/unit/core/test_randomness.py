"""Random choices are functions of their keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trifecta.randomness import key, numpy_generator, permute, seed_dropout, torch_generator


@pytest.mark.fast
@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 100, 1000, 4097])
def test_permute_is_a_permutation_and_each_position_stands_alone(size: int) -> None:
    whole = permute(np.arange(size), size, 7)
    assert sorted(whole) == list(range(size))
    for position in {0, size // 2, size - 1}:
        assert permute(np.array([position]), size, 7)[0] == whole[position]


@pytest.mark.fast
def test_permute_depends_on_its_key_and_looks_random() -> None:
    one, two = permute(np.arange(1000), 1000, 1), permute(np.arange(1000), 1000, 2)
    assert (one == two).mean() < 0.02
    assert (one == np.arange(1000)).mean() < 0.02
    assert abs(np.corrcoef(one, np.arange(1000))[0, 1]) < 0.1
    firsts = [permute(np.array([0]), 10, key(s, "x"))[0] for s in range(2000)]
    assert np.bincount(firsts, minlength=10).min() > 130


@pytest.mark.fast
def test_permute_far_positions_of_huge_sizes_at_once() -> None:
    size = 10**15
    found = permute(np.array([0, size - 1]), size, 3)
    assert ((found >= 0) & (found < size)).all()


@pytest.mark.fast
def test_numeric_037_same_seed_same_bytes_other_seed_differs() -> None:
    """Random streams follow from seed and purpose: the same give the same bytes, others differ."""
    assert key(1, "a", 2) == 8632851004425999566, "the same on every machine"
    assert len({key(s, p, c) for s in (1, 2) for p in ("a", "b") for c in (1, 2)}) == 8
    assert numpy_generator(1, "a").bytes(8) == numpy_generator(1, "a").bytes(8)
    assert numpy_generator(1, "a").bytes(8) != numpy_generator(2, "a").bytes(8)
    draws = [torch.rand(3, generator=torch_generator(s, "a")) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.fast
def test_dropout_depends_on_step_and_micro_step_only() -> None:
    def draw(*counters: int) -> list[float]:
        seed_dropout(*counters)
        return torch.rand(4).tolist()

    assert draw(1, 5, 0) == draw(1, 5, 0)
    assert len({tuple(draw(*c)) for c in [(1, 5, 0), (1, 5, 1), (1, 6, 0), (2, 5, 0), (1, 5, 0, 1)]}) == 5
