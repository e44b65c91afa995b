"""Windows, their order, and the batches made of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from trifecta.data import Sampler, Windows, load_batches
from trifecta.data.packing import Documents
from trifecta.errors import DataError


def windows(tokens: int, sequence_length: int) -> Windows:
    held = np.arange(tokens, dtype=np.uint16)
    store = SimpleNamespace(tokens=held, read=lambda start, stop: held[start:stop].astype(np.int64))
    return Windows(store, sequence_length + 1, overlap=1)


def target_counts(made: Windows, tokens: int) -> np.ndarray:
    """How often each token is a target: window[1:] is what window[:-1] predicts."""
    counts = np.zeros(tokens, int)
    for index in range(len(made)):
        window = made[index]
        assert (window[1:] == window[:-1] + 1).all()  # the target at t is the token at t + 1
        counts[window[1:]] += 1
    return counts


@pytest.mark.fast
@pytest.mark.parametrize("tokens", [2, 5, 6, 9, 10, 11, 100])
@pytest.mark.parametrize("sequence_length", [1, 4, 5, 128])
def test_numeric_023_every_token_but_the_first_is_a_target_once(tokens: int, sequence_length: int) -> None:
    """Over all windows of a text, every token but the first is a target exactly once."""
    made = windows(tokens, sequence_length)
    assert (target_counts(made, tokens) == [0] + [1] * (tokens - 1)).all()
    assert all(2 <= len(made[i]) <= sequence_length + 1 for i in range(len(made)))
    assert all(len(made[i]) == sequence_length + 1 for i in range(len(made) - 1))
    assert made[0].dtype == np.int64


@pytest.mark.fast
def test_numeric_023_control() -> None:
    """With a stride one too long some tokens are never a target."""

    class Apart(Windows):
        def __getitem__(self, index: int) -> np.ndarray:
            start = index * self.length
            return self.store.tokens[start : start + self.length].astype(np.int64)

    apart = Apart(windows(100, 4).store, 5, overlap=1)
    assert (target_counts(apart, 100)[1:] != 1).any()


@pytest.mark.fast
def test_no_windows() -> None:
    assert len(windows(0, 4)) == len(windows(1, 4)) == 0
    for index in (-1, 25):
        with pytest.raises(IndexError):
            windows(100, 4)[index]


LENGTHS = [1, 7, 2, 30, 8, 9, 1, 16, 5]


def documents(length: int, overlap: int = 0) -> Documents:
    """Documents of these lengths; each token is its own place."""
    held = np.arange(sum(LENGTHS), dtype=np.uint16)
    starts = np.cumsum([0, *LENGTHS[:-1]])
    store = SimpleNamespace(tokens=held, documents=starts, read=lambda start, stop: held[start:stop].astype(np.int64))
    return Documents(store, length, overlap)


def check_documents(made: Documents, length: int, overlap: int) -> None:
    """Every token once (what overlaps twice), none of two documents together, as few samples as can be."""
    samples = [made[index].tolist() for index in range(len(made))]
    ends = np.cumsum(LENGTHS)
    assert sum(max(1, -(-(n - overlap) // (length - overlap))) for n in LENGTHS) == len(made)
    for sample in samples:
        assert 1 <= len(sample) <= length
        assert sample == list(range(sample[0], sample[-1] + 1))
        assert not any(sample[0] < end <= sample[-1] for end in ends), "no sample crosses a document's end"
    fresh = [
        token for before, sample in zip([[], *samples], samples, strict=False)
        for token in (sample[overlap:] if before and before[-1] in sample else sample)
    ]  # fmt: skip
    assert fresh == list(range(sum(LENGTHS))), "every token once"


@pytest.mark.fast
@pytest.mark.parametrize(("length", "overlap"), [(8, 0), (1, 0), (100, 0), (9, 1), (2, 1), (6, 2)])
def test_documents_hold_every_token_once_and_never_two_documents(length: int, overlap: int) -> None:
    check_documents(documents(length, overlap), length, overlap)


@pytest.mark.fast
def test_documents_control_windows_are_noticed() -> None:
    made = documents(8)
    with pytest.raises(AssertionError):
        check_documents(Windows(made.store, 8), 8, 0)  # type: ignore[arg-type]
    late = documents(8)
    late._starts = late._starts + 1
    with pytest.raises(AssertionError):
        check_documents(late, 8, 0)


@pytest.mark.fast
def test_no_documents_beyond_the_last() -> None:
    for index in (-1, len(documents(8))):
        with pytest.raises(IndexError):
            documents(8)[index]


def test_sentences_of_a_real_store(write: object, tmp_path: object) -> None:
    """With a unit of sentences each sentence is a document of the store, and a sample of its own."""
    from pathlib import Path

    from trifecta.data import Sources, prepare
    from trifecta.tokenizers.byte import ByteTokenizer

    path = write("a.txt", "One is here. Two is there!\n\nIs three a question? Yes.\n" * 10)
    cache = Path(str(tmp_path)) / "cache"
    made = prepare(
        Sources([path], cache_dir=cache, unit="sentence"), None, make_tokenizer=lambda _: ByteTokenizer(),
        load_tokenizer=lambda _: ByteTokenizer(), tokenizer_key="byte", tokenizer_text="none", validation_split=0.25,
        seed=1, sequence_length=1, cache_dir=cache,
    )  # fmt: skip
    found = []
    for store in (made.train, made.validation):
        samples = Documents(store, 64)
        found += [bytes(samples[i][:-1].tolist()).decode() for i in range(len(samples))]
        assert all(samples[i][-1] == 256 for i in range(len(samples)))
    wanted = ["One is here.", "Two is there!", "Is three a question?", "Yes."] * 10
    assert sorted(found) == sorted(wanted)


@pytest.mark.fast
@pytest.mark.parametrize("size", [1, 2, 3, 17, 1000])
def test_sampler_is_a_permutation_computed_anywhere(size: int) -> None:
    sampler = Sampler(size, seed=7, shuffle=True)
    whole = sampler.indices(3, 0, size)
    assert whole.dtype == np.int64
    assert sorted(whole) == list(range(size))
    for start, stop in [(0, 1), (size // 3, size // 2), (size - 1, size), (size // 2, size + 10), (size, size + 1)]:
        assert (sampler.indices(3, start, stop) == whole[start:stop]).all()


@pytest.mark.fast
def test_sampler_epochs_and_seeds_differ() -> None:
    orders = [Sampler(100, seed=seed, shuffle=True).indices(epoch, 0, 100) for seed in (1, 2) for epoch in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) == 6
    assert len({tuple(Sampler(100, seed=1, shuffle=True).indices(1, 0, 100)) for _ in range(3)}) == 1


@pytest.mark.fast
def test_sampler_without_shuffle() -> None:
    sampler = Sampler(5, seed=1, shuffle=False)
    assert list(sampler.indices(2, 1, 9)) == [1, 2, 3, 4]
    assert len(sampler) == 5


def make_batch(indices: np.ndarray) -> object:
    import torch

    from trifecta.types import Batch

    if indices[0] == 99:
        raise DataError("row 99 is bad", where="file:99", fix="mend it")
    if indices[0] == 98:
        import os

        os._exit(9)
    inputs = {"tokens_BT": torch.from_numpy(indices)[None]}
    return Batch(inputs, {}, {"next_token": float(len(indices))}, samples=1, tokens=len(indices))


def requests(*starts: int) -> list[np.ndarray]:
    return [np.arange(start, start + 3) for start in starts]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_loader_gives_the_same_batches_with_any_workers(num_workers: int) -> None:
    import torch

    before = torch.random.get_rng_state()
    batches = list(load_batches(requests(*range(0, 30, 3)), make_batch, num_workers))
    assert [batch.inputs["tokens_BT"].tolist() for batch in batches] == [[list(r)] for r in requests(*range(0, 30, 3))]
    assert all(batch.weights == {"next_token": 3.0} for batch in batches)
    assert (torch.random.get_rng_state() == before).all()


def test_loader_global_generator_control() -> None:
    """A plain DataLoader does advance it: the check above does notice."""
    import torch

    before = torch.random.get_rng_state()
    iter(torch.utils.data.DataLoader([1, 2, 3]))
    assert (torch.random.get_rng_state() != before).any()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loader_error_keeps_its_fields(num_workers: int) -> None:
    batches = load_batches(requests(0, 99), make_batch, num_workers)
    assert next(batches).inputs["tokens_BT"].tolist() == [[0, 1, 2]]
    with pytest.raises(DataError) as error:
        list(batches)
    assert (error.value.where, error.value.fix) == ("file:99", "mend it")


def test_loader_says_that_a_worker_died() -> None:
    from trifecta.errors import ResourceError

    with pytest.raises(ResourceError, match="worker died"):
        list(load_batches(requests(98), make_batch, 1))


def test_loader_can_be_left_early() -> None:
    batches = load_batches((np.arange(i, i + 3) for i in range(90)), make_batch, 2)
    assert next(batches).inputs["tokens_BT"][0, 0] == 0
    batches.close()


def test_windows_of_a_real_store(prepared: object, write: object) -> None:
    import pickle

    made = prepared([write("a.txt", "abcdefghij" * 20)], "byte", sequence_length=8)
    store = made.train
    again = pickle.loads(pickle.dumps(Windows(store, 9, overlap=1)))
    assert isinstance(again.store.tokens, np.memmap)
    assert (again[3] == Windows(store, 9, overlap=1)[3]).all()
    assert bytes(again[0].tolist()) == b"abcdefghi"
    with pytest.raises(ValueError, match="read-only"):
        store.tokens[0] = 1
