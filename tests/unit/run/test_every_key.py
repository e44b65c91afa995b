"""Every key of a recipe acts: with another value the graph, the data, the updates or the outputs are others.

A key without a row in tests/support/every_key.py fails here.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from every_key import BASES, ROWS, Row
from observed import Observed, differences, observe
from pictures import write_images

from trifecta.recipe.keys import KnownKey, known_keys

Acts = Callable[..., set[str]]


def name_of(key: KnownKey) -> str:
    return f"{key.key}@{key.component}" if key.component else key.key


def row_of(key: KnownKey) -> Row | None:
    return ROWS.get(name_of(key), ROWS.get(key.key))


def base_of(key: KnownKey, row: Row) -> dict[str, Any]:
    """The recipe that the row flips a key of: the row's own, that of the key's component, or the GPT's."""
    base = BASES[row.base or (key.component if key.component in BASES else "gpt")]
    return without_inert({**base, **row.given})


def without_inert(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Schedules with a rise of their own refuse warm-up."""
    own_rise = settings.get("training.scheduler.type") in ("one_cycle", "cosine_decay")
    return {key: value for key, value in settings.items() if not (own_rise and key == "training.warmup_steps")}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of data, two tokenizers, two tables of synonyms and two trained GPTs."""
    place: Path = tmp_path_factory.mktemp("work")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgH", k=rng.randint(2, 6))) for _ in range(40)]

    def sentence(n: int = 6) -> str:
        return " ".join(rng.choices(words, k=n))

    lines = [f"{sentence()}.  {sentence()}\x01." + ("\n" if number % 4 == 3 else "") for number in range(120)]
    (place / "text.txt").write_text("\n".join(lines))
    (place / "short.txt").write_text(sentence(80))
    (place / "broken.txt").write_bytes(sentence(200).encode() + b"\xff" + sentence(50).encode())
    for name, rows in records(sentence, rng).items():
        (place / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_images(place / "images")
    from trifecta.tokenizers import TOKENIZERS

    for name, vocab_size in (("one", 280), ("two", 300)):
        tokenizer = TOKENIZERS["bpe"](lines, vocab_size=vocab_size, min_frequency=2)
        (place / f"{name}.json").write_text(tokenizer.to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for seed, name in enumerate(("gpt", "other")):
            observe(BASES["gpt"] | {"training.seed": seed}, place / f"pretrained-{name}", patch)
    for name, synonym in (("one", "bed"), ("two", "cab")):
        (place / f"{name}.tsv").write_text("".join(f"{word}\t{synonym}\n" for word in words))
    return place


def records(sentence: Callable[..., str], rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Small labelled data of each task."""
    made: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(24):
        text, first = sentence(), rng.choice("abc")
        made["classes.jsonl"].append({"text": text, "other": sentence(), "label": "abcb"[number % 4], "kind": first})
        twin = sentence(20)
        made["twins.jsonl"] += [
            {"text": twin, "label": "ab"[number % 2]},
            {"text": f"{twin} a", "label": "ab"[number % 2]},
        ]
        made["numbers.jsonl"].append({"text": text, "label": number % 3})
        made["pairs.jsonl"].append({"source": text, "target": text[::-1][:9], "other": sentence(2)})
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": first}]
        made["chats.jsonl"].append({"messages": turns})
        made["tags.jsonl"].append({"text": text, "entities": [[0, len(text.split()[0]), "NAME"]]})
        answers = {"text": [text[:9]], "answer_start": [0]} if number % 3 else {"text": [], "answer_start": []}
        made["questions.jsonl"].append(
            {"id": str(number), "question": "what?", "context": text * 2, "answers": answers}
        )
    return made


@pytest.fixture(scope="module")
def known_bases() -> dict[str, Observed]:
    """What bases do, so that each is trained once."""
    return {}


@pytest.fixture
def changed(
    workplace: Path, known_bases: dict[str, Observed], tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Acts:  # fmt: skip
    """What a key's row changes."""

    def changed(key: KnownKey, row: Row, *, remember: bool = True) -> set[str]:
        monkeypatch.chdir(workplace)
        base = base_of(key, row)
        name = json.dumps([base, row.after], sort_keys=True)
        if name not in known_bases or not remember:
            known_bases[name] = observe(base, tmp_path_factory.mktemp("run"), monkeypatch, after=row.after)
        other = observe(
            base, tmp_path_factory.mktemp("run"), monkeypatch, written={key.key: row.value}, after=row.after
        )
        first = known_bases[name] if remember else known_bases.pop(name)
        if row.changes not in ("error", "scaler"):
            assert (first["error"], other["error"]) == (None, None)
        return differences(first, other)

    return changed


@pytest.mark.fast
def test_every_key_has_a_row() -> None:
    assert [name_of(key) for key in known_keys() if row_of(key) is None] == []


@pytest.mark.fast
def test_every_row_has_a_key() -> None:
    known = {key.key for key in known_keys()} | {name_of(key) for key in known_keys()}
    assert sorted(set(ROWS) - known) == []


@pytest.mark.parametrize("key", known_keys(), ids=name_of)
def test_every_key_acts(key: KnownKey, changed: Acts) -> None:
    row = row_of(key)
    assert row is not None
    found = changed(key, row)
    assert row.changes in found, f"{row.changes} is the same; what differs: {found}"


def test_every_key_control_the_same_recipe_twice_is_the_same(changed: Acts) -> None:
    """Nothing that is observed varies by itself."""
    key = next(key for key in known_keys() if key.key == "training.learning_rate")
    for base in ("gpt", "bert", "t5", "vit", "classify"):
        assert changed(key, Row(0.01, base=base)) == set()


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("training.gradient_clip_norm", "transforms_of"),
        ("training.ema_decay", "ema_of"),
        ("training.adversary.type", "passes_of"),
    ],
)
def test_every_key_control_a_key_that_nothing_reads(
    name: str, broken: str, changed: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what reads it planted away, nothing at all changes, and the test above would fail."""
    from trifecta.optim.perturbations import plain
    from trifecta.run import build

    deaf: dict[str, Any] = {"transforms_of": [], "ema_of": None, "passes_of": plain}
    monkeypatch.setattr(build, broken, lambda *_: deaf[broken])
    key = next(key for key in known_keys() if key.key == name)
    row = row_of(key)
    assert row is not None
    assert changed(key, row, remember=False) == set()
