"""Mixtures keep their shares at every moment, curricula begin with what is easy, and every place is computed alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trifecta.data.sampler import PACING, Curriculum, Mixture, Sampler
from trifecta.randomness import numpy_generator

pytestmark = pytest.mark.fast

weights_and_sizes = st.lists(
    st.tuples(st.floats(0.01, 100), st.integers(1, 50)), min_size=2, max_size=5
)  # fmt: skip


def mixture(sizes: list[int], weights: list[float], seed: int = 1, *, shuffle: bool = True) -> Mixture:
    return Mixture(sizes, weights, seed=seed, shuffle=shuffle, purpose="shuffle")


def whole(order: Mixture | Curriculum, epochs: int) -> tuple[list[int], list[int]]:
    visits, indices = zip(*(order.draws(epoch, 0, len(order)) for epoch in range(epochs)), strict=True)
    return np.concatenate(visits).tolist(), np.concatenate(indices).tolist()


def furthest_from_share(corpora: list[int], weights: list[float]) -> float:
    """Largest distance, over all beginnings of a run, between what a corpus gave and its share."""
    counts = np.array([np.cumsum(np.array(corpora) == number) for number in range(len(weights))])
    shares = np.array(weights)[:, None] / sum(weights) * np.arange(1, len(corpora) + 1)
    return float(np.abs(counts - shares).max())


def corpora_of(indices: list[int], sizes: list[int]) -> list[int]:
    return (np.searchsorted(np.cumsum(sizes), indices, side="right")).tolist()


@settings(max_examples=30)
@given(weights_and_sizes)
def test_each_corpus_has_its_share_at_every_moment(drawn: list[tuple[float, int]]) -> None:
    weights, sizes = [w for w, _ in drawn], [s for _, s in drawn]
    _, indices = whole(mixture(sizes, weights), epochs=3)
    # Weights are kept to a millionth of the largest, which over these few samples is nothing.
    assert furthest_from_share(corpora_of(indices, sizes), weights) < len(sizes) + 0.01


def test_control_corpora_drawn_at_random_stray_from_their_shares() -> None:
    generator = numpy_generator(1, "control")
    drawn = (generator.random(3000) < 0.25).astype(int).tolist()
    assert furthest_from_share(drawn, [0.75, 0.25]) > 5


@settings(max_examples=30)
@given(weights_and_sizes)
def test_a_corpus_gives_each_sample_once_before_any_again(drawn: list[tuple[float, int]]) -> None:
    """And each of its rounds is another visit."""
    weights, sizes = [w for w, _ in drawn], [s for _, s in drawn]
    visits, indices = whole(mixture(sizes, weights), epochs=3)
    corpora, first = corpora_of(indices, sizes), np.concatenate([[0], np.cumsum(sizes)])
    for number, size in enumerate(sizes):
        own = [(v, i) for v, i, c in zip(visits, indices, corpora, strict=True) if c == number]
        for turn in range(0, len(own) - size + 1, size):
            here = own[turn : turn + size]
            assert sorted(i for _, i in here) == list(range(first[number], first[number + 1]))
            assert {v for v, _ in here} == {turn // size}


@settings(max_examples=30)
@given(weights_and_sizes, st.data())
def test_any_part_of_an_epoch_is_what_the_whole_epoch_has_there(
    drawn: list[tuple[float, int]], data: st.DataObject
) -> None:
    weights, sizes = [w for w, _ in drawn], [s for _, s in drawn]
    made = mixture(sizes, weights)
    start = data.draw(st.integers(0, len(made)))
    stop = data.draw(st.integers(start, len(made) + 5))
    for part, every in zip(made.draws(2, start, stop), made.draws(2, 0, len(made)), strict=True):
        assert part.tolist() == every[start:stop].tolist()


def test_a_mixture_far_into_a_run_costs_no_replay() -> None:
    made = mixture([10**9, 10**10], [1, 2])
    visits, indices = made.draws(1000, 5 * 10**9, 5 * 10**9 + 6)
    assert sorted(visits.tolist()) == [733, 733, 733, 733, 3668, 3668]
    assert all(0 <= index < 11 * 10**9 for index in indices.tolist())


def curriculum(size: int, pacing: str, start: float = 0.1, epochs: float = 1.0, seed: int = 3) -> Curriculum:
    order = np.arange(size)[::-1].copy()
    return Curriculum(order, partial(PACING[pacing], start), round(epochs * size), after=Sampler(size, seed, True))


@pytest.mark.parametrize("pacing", PACING)
def test_a_curriculum_grows_from_its_start_to_everything(pacing: str) -> None:
    """No draw comes from beyond what may be seen, which grows to all samples; then epochs are whole."""
    made = curriculum(1000, pacing, epochs=1.5)
    allowed = [made.allowed(place) for place in range(1500)]
    assert allowed[0] == pytest.approx(100, abs=1)
    assert allowed == sorted(allowed)
    assert made.allowed(1500) == 1000
    assert allowed[-1] == pytest.approx(1000, abs=5)
    visits, indices = whole(made, epochs=3)
    hardness = [999 - index for index in indices]  # 0 is the easiest
    assert all(hard < most for hard, most in zip(hardness, allowed, strict=False))
    assert max(hardness[:100]) < 400
    assert len(set(visits[:1500])) == 1500, "every draw is another visit"
    assert sorted(indices[2000:]) == list(range(1000))


def test_control_a_plain_order_draws_what_is_not_yet_allowed() -> None:
    made = curriculum(1000, "linear")
    plain = made.after.indices(0, 0, 1000)
    assert any(999 - index >= made.allowed(place) for place, index in enumerate(plain.tolist()))


@pytest.mark.parametrize("pacing", PACING)
def test_any_part_of_a_curriculum_is_what_the_whole_has_there(pacing: str) -> None:
    made = curriculum(100, pacing, epochs=1.3)
    for epoch in range(3):
        for part, every in zip(made.draws(epoch, 20, 45), made.draws(epoch, 0, 100), strict=True):
            assert part.tolist() == every[20:45].tolist()


def test_pacing_at_its_ends_and_in_the_middle() -> None:
    """Platanios et al. (2019): c(t) = min(1, t (1 - c0) / T + c0) and the square root of the same between squares."""
    assert PACING["linear"](0.1, 0.5) == pytest.approx(0.55)
    assert PACING["root"](0.1, 0.5) == pytest.approx(((1 - 0.01) * 0.5 + 0.01) ** 0.5)
    assert PACING["exponential"](0.1, 0.5) == pytest.approx(0.1**0.5)
    assert all(
        pacing(0.1, 0) == pytest.approx(0.1) and pacing(0.1, 1) == pytest.approx(1) for pacing in PACING.values()
    )
