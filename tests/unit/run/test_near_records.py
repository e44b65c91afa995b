"""Planted near-duplicates never straddle a split, of records or of documents; with the key off they do."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from trifecta.data.near import near_groups, signatures
from trifecta.errors import DataError
from trifecta.recipe import collect
from trifecta.run import build, tasks
from trifecta.run.near_records import compared


def text(seed: int, count: int = 40) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefgh", k=4)) for _ in range(count))


TWINS = [[text(n), f"{text(n)} more", f"And {text(n).upper()}!"] for n in range(20)]
"""Twenty texts in three versions each."""
RECORDS: dict[str, Any] = {
    "classify": lambda t, n: {"text": t, "label": "ab"[n % 2]},
    "tag": lambda t, n: {"text": f"{t} Ann", "entities": [[len(t) + 1, len(t) + 4, "PER"]], "n": n},
    "answer": lambda t, n: {"id": str(n), "question": "?!", "context": t,
                            "answers": {"text": [t[:4]], "answer_start": [0]}},
    "seq2seq": lambda t, n: {"source": t, "target": str(n)},
    "prompted": lambda t, n: {"prompt": t, "response": f"{n} {t[:5]}"},
}  # fmt: skip
MODELS = {"seq2seq": "t5", "prompted": "gpt"}


def recipe_of(task: str, place: Path, *overrides: str) -> Any:
    path = place / f"{task}.jsonl"
    if not path.exists():
        # All first versions, then all second ones, so that neighbours in the file aren't twins.
        texts = [twins[version] for version in range(3) for twins in TWINS]
        path.write_text("".join(json.dumps(RECORDS[task](t, n)) + "\n" for n, t in enumerate(texts)))
    given = [f"model.type={MODELS.get(task, 'bert')}", f"objective.type={task}", "training.validation_split=0.3",
             f"data.paths=[{path}]", *overrides]  # fmt: skip
    return collect(preset="small" if task == "prompted" else None, overrides=given).resolve(None).recipe


def straddling(divided: Any) -> int:
    """Validation records with a near one that is trained on."""
    firsts = near_groups(signatures(map(compared, [*divided.train, *divided.validation])), 0.6).tolist()
    return len([first for first in firsts[len(divided.train) :] if first < len(divided.train)])


@pytest.mark.parametrize("task", RECORDS)
def test_records_never_straddle_and_with_the_key_off_they_do(task: str, tmp_path: Path) -> None:
    apart = tasks.read_task(recipe_of(task, tmp_path, "data.near_duplicates=0.6")).divided
    plain = tasks.read_task(recipe_of(task, tmp_path)).divided
    assert len(apart.train) + len(apart.validation) == 60
    assert 6 <= len(apart.validation) <= 30
    assert straddling(apart) == 0
    leaks = straddling(plain)
    assert leaks > 5, "the control: a plain split has leaks"
    (note,) = apart.notes
    assert "20 groups of 60 records" in note or "20 groups of 59 records" in note
    assert plain.notes == []
    assert tasks.read_task(recipe_of(task, tmp_path, "data.near_duplicates=0.6")).scan().fingerprint != (
        tasks.read_task(recipe_of(task, tmp_path)).scan().fingerprint
    )


def test_leaks_into_files_of_their_own_are_counted(tmp_path: Path) -> None:
    recipe_of("classify", tmp_path)
    other = tmp_path / "other.jsonl"
    rows = [{"text": TWINS[0][1], "label": "a"}, {"text": text(99), "label": "b"}]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [f"data.validation_paths=[{other}]", "data.near_duplicates=0.6"]
    given.append(f"data.paths=[{tmp_path / 'classify.jsonl'}]")
    recipe = collect(overrides=["model.type=bert", "objective.type=classify", *given]).resolve(None).recipe
    (note,) = tasks.read_task(recipe).divided.notes
    assert note.startswith("1 of 2 validation records have a near-duplicate")


def test_what_is_all_alike_cannot_be_divided(tmp_path: Path) -> None:
    (tmp_path / "classify.jsonl").write_text(
        "".join(json.dumps({"text": f"{text(1)} {n}", "label": "ab"[n % 2]}) + "\n" for n in range(20))
    )
    with pytest.raises(DataError, match="too few to divide them"):
        tasks.read_task(recipe_of("classify", tmp_path, "data.near_duplicates=0.6"))


def documents(place: Path) -> Path:
    path = place / "text.jsonl"
    texts = [twins[version] for version in range(3) for twins in TWINS]
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return path


def prepared(place: Path, *overrides: str, paths: str | None = None) -> Any:
    given = ["tokenizer.type=byte", "data.sequence_length=8", f"data.paths=[{paths or documents(place)}]",
             f"data.cache_dir={place / 'cache'}", *overrides]  # fmt: skip
    if not any("validation_paths" in override for override in overrides):
        given.append("training.validation_split=0.3")
    recipe = collect(overrides=given).resolve(None).recipe
    return build.data_of(recipe, build.sources(recipe.data, "byte"))


def documents_of(data: Any, part: str) -> list[str]:
    store = getattr(data, part)
    ids = store.read(0, len(store.tokens)).tolist()
    whole = "".join(chr(i) if i < 256 else "\0" for i in ids)
    return [document for document in whole.split("\0") if document]


def test_documents_never_straddle_and_with_the_key_off_they_do(tmp_path: Path) -> None:
    apart, plain = prepared(tmp_path, "data.near_duplicates=0.6"), prepared(tmp_path)

    def leaks(data: Any) -> int:
        train, validation = documents_of(data, "train"), documents_of(data, "validation")
        assert len(train) + len(validation) == 60
        firsts = near_groups(signatures([*train, *validation]), 0.6).tolist()
        return len([first for first in firsts[len(train) :] if first < len(train)])

    assert leaks(apart) == 0
    assert leaks(plain) > 5
    assert apart.fingerprint != plain.fingerprint
    assert any("groups of 60 documents" in note for note in apart.notes)
    assert (tmp_path / "cache" / "near").is_dir()
    again = prepared(tmp_path, "data.near_duplicates=0.6")
    assert (again.fingerprint, again.notes) == (apart.fingerprint, apart.notes)


def test_leaks_of_documents_are_counted_where_validation_is_given(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": t}) + "\n" for t in (TWINS[3][2], text(77), text(78))))
    data = prepared(tmp_path, "data.near_duplicates=0.6", f"data.validation_paths=[{other}]")
    assert any(note.startswith("1 of 3 validation documents have a near-duplicate") for note in data.notes)


def test_one_text_without_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(text(1, 400))
    with pytest.raises(DataError, match=r"set data\.samples to paragraphs or lines") as caught:
        prepared(tmp_path, "data.near_duplicates=0.6", paths=str(tmp_path / "book.txt"))
    assert "keeps whole documents apart" in caught.value.what
