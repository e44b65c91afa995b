"""Masked tokens: how many, which, what becomes of them, and what is counted."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from objectives import BYTES, objective

from trifecta.data import Sampler, Windows
from trifecta.models import Bert
from trifecta.objectives import OBJECTIVES, Text
from trifecta.objectives import masked as masked_module
from trifecta.randomness import numpy_generator
from trifecta.run import feed as feed_module
from trifecta.run.feed import Feed
from trifecta.tokenizers import TOKENIZERS
from trifecta.tokenizers.vocabulary import Vocabulary
from trifecta.types import IGNORE, Example

pytestmark = pytest.mark.fast
EOS = BYTES.eos_id
CHOICES = ["token", "word", "span"]


def model_for(made: Any) -> Bert:
    torch.manual_seed(0)
    return Bert(made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=32, dropout=0.0, init_std=0.2)


def ragged_batch(made: Any, *lengths: int) -> Any:
    rng = np.random.default_rng(0)
    examples = [made.prepare(rng.integers(0, 256, length)) for length in lengths]
    return made.collate([made.corrupt(example, rng) for example in examples])


# ------------------------------------------------------------------------------------------------------ how many, which


def within_three_sigma(count: int, of: int, share: float) -> bool:
    return abs(count - share * of) <= 3 * (of * share * (1 - share)) ** 0.5


def check_shares(made: Any) -> None:
    """100,000 bytes, an end of text in each tenth place: what is chosen, and what becomes of it."""
    rng = np.random.default_rng(0)
    mask = made.vocabulary["[MASK]"]
    ordinary = chosen = masked = changed = 0
    for _ in range(900):
        tokens = np.where(rng.random(126) < 0.1, EOS, rng.integers(0, 256, 126))
        before = made.prepare(tokens).arrays["tokens"]
        after = made.corrupt(Example({"tokens": before}), rng).arrays
        target = after["targets"] != IGNORE
        assert (after["targets"][target] == before[target]).all()
        assert (after["tokens"][~target] == before[~target]).all()
        assert not target[before >= EOS].any(), "special tokens and ends of text are never masked"
        now = after["tokens"][target]
        assert ((now < EOS) | (now == mask)).all(), "nor drawn"
        ordinary, chosen = ordinary + int((before < EOS).sum()), chosen + len(now)
        masked += int((now == mask).sum())
        changed += int(((now != mask) & (now != before[target])).sum())
    assert ordinary > 100_000
    assert within_three_sigma(chosen, ordinary, 0.15)
    assert within_three_sigma(masked, chosen, 0.8)
    assert within_three_sigma(changed, chosen, 0.1 * 255 / 256), "one draw in 256 is the token itself"


def test_numeric_028_how_many_tokens_are_masked_and_what_becomes_of_them() -> None:
    """Of 100,000 tokens 15 % are chosen, of those 80 % masked and 10 % replaced, each within three standard deviations;
    special tokens and ends of text are never chosen and never drawn."""
    check_shares(objective("masked", 128))


@pytest.mark.parametrize("fields", [{"rate": 0.16}, {"masked_ratio": 0.85}, {"random_ratio": 0.15}])
def test_numeric_028_control_other_shares_are_noticed(fields: dict[str, float]) -> None:
    """Shares that differ by one percentage point of the tokens, or by five of those chosen, are noticed."""
    with pytest.raises(AssertionError):
        check_shares(objective("masked", 128, **fields))


@pytest.mark.parametrize(("name", "words"), [("is_special", "never masked"), ("ordinary", "nor drawn")])
def test_numeric_028_control_special_tokens_are_noticed(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Special tokens that are masked, or drawn, are noticed."""
    bugs = {"is_special": lambda self: np.zeros(self.size, np.bool_), "ordinary": lambda self: np.arange(self.size)}
    monkeypatch.setattr(Vocabulary, name, property(bugs[name]))
    with pytest.raises(AssertionError, match=words):
        check_shares(objective("masked", 128))


# --------------------------------------------------------------------------------------------------------------- epochs


def masked_feed(seed: int = 1, part: str = "train") -> Feed:
    held = np.random.default_rng(3).integers(0, 256, 620)
    store: Any = SimpleNamespace(tokens=held, read=lambda start, stop: held[start:stop])
    made = objective("masked", 64)
    windows = Windows(store, made.window, made.overlap)
    return Feed(made, windows, Sampler(len(windows), seed=seed, shuffle=False), seed, part, num_workers=0)


def rows(feed: Feed, epoch: int, *indices: int) -> torch.Tensor:
    batch = feed.batch((np.full(len(indices), epoch), np.array(indices)))
    return torch.stack([batch.inputs["tokens_BT"], batch.targets["targets_BT"]], 1)


def check_epochs() -> None:
    first = rows(masked_feed(), 0, 3, 5)
    assert torch.equal(first, rows(masked_feed(), 0, 3, 5))
    assert torch.equal(first[1:], rows(masked_feed(), 0, 5)), "whatever else is in the batch"
    others = [rows(masked_feed(), 1, 3, 5), rows(masked_feed(seed=2), 0, 3, 5), rows(masked_feed(part="v"), 0, 3, 5)]
    for one, other in itertools.combinations([first, *others], 2):
        assert not torch.equal(one[:, 1], other[:, 1])
    text = Windows(masked_feed().samples.store, 62)[3]
    for one in (first, *others):
        kept = one[0, 1] == IGNORE
        assert (one[0, 0, kept][1:-1].numpy() == text[kept[1:-1].numpy()]).all(), "the same text in each"


def test_gaps_follow_from_seed_part_epoch_and_sample_alone() -> None:
    check_epochs()


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_gaps_control_the_same_in_each_epoch_are_noticed(dropped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps that don't depend on the seed, on the part, or on the epoch."""

    def forgetful(*parts: Any) -> np.random.Generator:
        seed, purpose, *rest = (0 if place == dropped else part for place, part in enumerate(parts))
        return numpy_generator(seed, str(purpose), *rest)

    monkeypatch.setattr(feed_module, "numpy_generator", forgetful)
    with pytest.raises(AssertionError):
        check_epochs()


# ---------------------------------------------------------------------------------------------------------- whole words

SENTENCE = "the naïve señor übernahm a café while somebody unbelievably misunderstood Größenverhältnisse and 12 words"
WORDS = SENTENCE.split()


def check_whole_words(type: str) -> None:
    trained = TOKENIZERS[type]([" ".join(WORDS)] * 2, vocab_size={"bpe": 290, "wordpiece": 80}[type])
    made = OBJECTIVES["masked"](Text(trained, 512), choose="word", masked_ratio=1.0)
    rng = np.random.default_rng(0)
    several = 0
    for _ in range(30):
        pieces = [trained.encode(" " + word if type == "bpe" else word) for word in rng.choice(WORDS, 60)]
        given = made.prepare(np.concatenate(pieces))
        targets = made.corrupt(given, rng).arrays["targets"] != IGNORE
        assert not targets[[0, -1]].any()
        ends = 1 + np.cumsum([len(piece) for piece in pieces])
        inside = [targets[end - len(piece) : end] for piece, end in zip(pieces, ends, strict=True)]
        assert all(word.all() or not word.any() for word in inside), "all of a word or nothing of it"
        wanted, longest = 0.15 * sum(map(len, pieces)), max(map(len, pieces))
        assert wanted - 1 < targets.sum() < wanted + 1 + longest
        several += sum(len(word) > 1 and word.all() for word in inside)
    assert several > 50


@pytest.mark.parametrize("type", ["wordpiece", "bpe"])
def test_whole_words_are_masked_whole(type: str) -> None:
    check_whole_words(type)


@pytest.mark.parametrize("type", ["wordpiece", "bpe"])
def test_whole_words_control_pieces_by_themselves_are_noticed(type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vocabulary, "begins_word", property(lambda self: np.ones(self.size, np.bool_)))
    with pytest.raises(AssertionError, match="all of a word"):
        check_whole_words(type)


# ---------------------------------------------------------------------------------------------------------------- spans


def run_lengths(made: Any) -> list[int]:
    """Lengths of the runs of targets in 40 texts of 10,000 tokens."""
    rng, found = np.random.default_rng(0), []
    for _ in range(40):
        given = made.prepare(rng.integers(0, 256, 10_000))
        targets = made.corrupt(given, rng).arrays["targets"] != IGNORE
        assert abs(targets.sum() - made.rate * 10_000) <= 1
        found += [len(list(run)) for hit, run in itertools.groupby(targets) if hit]
    return found


def test_spans_have_the_mean_length_and_at_most_ten_tokens() -> None:
    """Geometric lengths of mean m, cut at 10, have the mean m (1 - (1 - 1/m) ** 10); at a rate of 1 % few touch."""
    for mean in (2.0, 3.8):
        lengths = run_lengths(objective("masked", 16_384, choose="span", rate=0.01, mean_span_length=mean))
        assert np.mean(lengths) == pytest.approx(mean * (1 - (1 - 1 / mean) ** 10), rel=0.08)
        assert np.mean(np.array(lengths) > 10) < 0.01


def test_spans_control_single_tokens_are_noticed() -> None:
    assert np.mean(run_lengths(objective("masked", 16_384, rate=0.01))) < 1.1


# ------------------------------------------------------------------------------------------------------------- the loss


def empty_outcome(choose: str) -> tuple[torch.Tensor, float, float]:
    """Loss, count and largest gradient of samples that hold nothing but ends of text, and of one with no token."""
    made = objective("masked", 64, choose=choose)
    rng = np.random.default_rng(0)
    examples = [made.corrupt(made.prepare(np.full(n, EOS)), rng) for n in (1, 5, 0)]
    model = model_for(made)
    ((total, count),) = made.loss(model, made.collate(examples)).terms.values()
    total.backward()
    return total.detach(), count, max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("choose", CHOICES)
def test_numeric_026_samples_without_ordinary_tokens_do_no_harm(choose: str) -> None:
    """A batch in which nothing can be masked has a loss and a gradient of exactly 0."""
    assert empty_outcome(choose) == (0.0, 0.0, 0.0)


def test_numeric_026_control_masked_ends_of_text_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ends of text may be masked, there is a loss."""
    monkeypatch.setattr(Vocabulary, "is_special", property(lambda self: np.zeros(self.size, np.bool_)))
    monkeypatch.setattr(masked_module, "_rounded", lambda number, _: int(number + 0.999))
    assert empty_outcome("token") != (0.0, 0.0, 0.0)


def by_hand(model: Any, batch: Any) -> tuple[float, float]:
    """Sum of -log p of the masked tokens and the number guessed, from the logits of all positions."""
    with torch.no_grad():
        logits_BTV = model.logits(model.hidden(**batch.inputs).hidden_BTD)
    places = (batch.targets["targets_BT"] != IGNORE).nonzero().tolist()
    truths = [int(batch.targets["targets_BT"][r, t]) for r, t in places]
    scores = [torch.log_softmax(logits_BTV[r, t].double(), 0) for r, t in places]
    total = -sum(float(score[truth]) for score, truth in zip(scores, truths, strict=True))
    return total, float(sum(int(score.argmax()) == truth for score, truth in zip(scores, truths, strict=True)))


def check_loss(chunk_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = objective("masked", 64, rate=0.4)
    model = model_for(made)
    batch = ragged_batch(made, 60, 5, 17, 30)
    with torch.no_grad():  # so that some guesses are right
        model.head_bias[batch.targets["targets_BT"][batch.targets["targets_BT"] != IGNORE][:9]] += 3
    rows: list[int] = []
    plain = model.logits
    monkeypatch.setattr(model, "logits", lambda hidden: rows.append(len(hidden)) or plain(hidden))
    monkeypatch.setitem(masked_module.cross_entropy_sum.__kwdefaults__, "chunk_elements", chunk_elements)
    result = made.loss(model, batch)
    total, count = result.terms["masked"]
    masked = int((batch.targets["targets_BT"] != IGNORE).sum())
    assert sum(rows) == count == masked, "the head is applied to masked positions alone"
    monkeypatch.undo()
    wanted, right = by_hand(model, batch)
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-5)
    assert 0 < right < count
    accuracy, of = result.metrics["accuracy"]
    assert (float(accuracy), of) == (right, count)


@pytest.mark.parametrize("chunk_elements", [1 << 22, 261 * 7])
def test_numeric_025_the_loss_is_of_masked_tokens_alone(chunk_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and accuracy are sums over the masked tokens (1e-5), their count is the weight, and the head is applied
    to no other position; in chunks too."""
    check_loss(chunk_elements, monkeypatch)


def test_numeric_025_control_a_head_at_every_position_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is applied to every position gives the same loss, but more rows."""
    plain = masked_module.cross_entropy_sum

    def careless(hidden: Any, targets: Any, *rest: Any, supervised: int, **options: Any) -> Any:
        del supervised
        return plain(hidden, targets, *rest, supervised=targets.numel(), **options)

    careless.__kwdefaults__ = {"chunk_elements": 0}
    with monkeypatch.context() as patch:
        patch.setattr(masked_module, "cross_entropy_sum", careless)
        with pytest.raises(AssertionError, match="masked positions alone"):
            check_loss(1 << 22, patch)


def test_numeric_025_control_accuracy_of_all_positions_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accuracy that counts one guess too many is noticed."""
    from trifecta.objectives import loss as loss_module

    plain = loss_module.Right.add

    def generous(right: Any, logits: Any, targets: Any) -> None:
        plain(right, logits, targets)
        right.number += 1

    with monkeypatch.context() as patch:
        patch.setattr(loss_module.Right, "add", generous)
        made = objective("masked", 64, rate=0.4)
        model, batch = model_for(made), ragged_batch(objective("masked", 64, rate=0.4), 60, 5)
        counted = float(made.loss(model, batch).metrics["accuracy"][0])
    assert counted == by_hand(model, batch)[1] + 1
