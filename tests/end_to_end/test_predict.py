"""A tagger, a model that answers, a classifier and one that fills gaps: trained, asked, judged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import trifecta
from trifecta.cli.main import main
from trifecta.errors import CheckpointError, DataError, RecipeError
from trifecta.run import divided, opened

SETTINGS: dict[str, Any] = {
    "model.type": "bert", "model.d_model": 32, "model.num_heads": 2, "model.num_layers": 2, "model.d_ff": 64,
    "model.dropout": 0.0, "tokenizer.type": "byte", "data.sequence_length": 48, "training.batch_size": 16,
    "training.learning_rate": 5e-3, "training.scheduler.type": "linear", "execution.threads": 1,
    "execution.precision": "fp32",
}  # fmt: skip

Trained = tuple[Path, Path]
"""A run, and the file that it was trained on."""


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def tagged(rng: random.Random) -> dict[str, Any]:
    """A word that begins with a capital is a name, and words that begin with a digit go on with it."""
    words = [rng.choice(("ann", "bo", "is", "to", "we")) for _ in range(rng.randint(2, 9))]
    entities, start, before = [], 0, False
    for number, word in enumerate(words):
        if rng.random() < 0.4:
            words[number] = f"2{word}" if before else word.title()
            word = words[number]
            if before:
                entities[-1][1] = start + len(word)
            else:
                entities.append([start, start + len(word), "NAME"])
        before = not word.islower() or word[0] == "2"
        start += len(word) + 1
    return {"text": " ".join(words), "entities": entities}


def asked(rng: random.Random, number: int) -> dict[str, Any]:
    """The digits of a context are the answer; a fourth has none. Most contexts are longer than a row."""
    words = ["".join(rng.choices("abc", k=rng.randint(1, 4))) for _ in range(rng.randint(2, 16))]
    answers: dict[str, list[Any]] = {"text": [], "answer_start": []}
    if rng.random() < 0.75:
        place, digits = rng.randrange(len(words)), "".join(rng.choices("123456789", k=3))
        words[place] = digits
        answers = {"text": [digits], "answer_start": [len(" ".join(words[:place])) + (place > 0)]}
    return {"id": str(number), "question": "how many?", "context": " ".join(words), "answers": answers}


def labelled(rng: random.Random) -> dict[str, Any]:
    text = "".join(rng.choices("abcdz ", weights=[4, 4, 4, 4, 1, 4], k=rng.randint(4, 20))).strip() or "a"
    return {"text": text, "label": "buzz" if "z" in text else "quiet"}


def train(folder: Path, name: str, records: list[dict[str, Any]], steps: int, **settings: Any) -> Trained:
    data, out = write_lines(folder / f"{name}.jsonl", records), folder / name
    more = {"objective.type": name, "training.max_steps": steps} | settings
    trifecta.train(data, out=out, settings=SETTINGS | more)
    return out, data


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def tagger(place: Path) -> Trained:
    rng = random.Random(0)
    return train(place, "tag", [tagged(rng) for _ in range(500)], 150)


@pytest.fixture(scope="module")
def answerer(place: Path) -> Trained:
    rng = random.Random(0)
    return train(place, "answer", [asked(rng, number) for number in range(500)], 450)


@pytest.fixture(scope="module")
def classifier(place: Path) -> Trained:
    rng = random.Random(0)
    return train(place, "classify", [labelled(rng) for _ in range(500)], 200)


@pytest.fixture(scope="module")
def filler(place: Path) -> Path:
    text = place / "text.txt"
    text.write_text("abcabcabc\n" * 200)
    settings = {"objective.type": "masked", "training.max_steps": 30}
    trifecta.train(text, out=place / "masked", settings=SETTINGS | settings)
    return place / "masked"


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def figures(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, "evaluate", *arguments, "--json"))
    return found


def test_a_tagger(tagger: Trained, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = tagger
    rng = random.Random(1)
    fresh = write_lines(place / "fresh-tags.jsonl", [tagged(rng) for _ in range(100)])
    found = figures(capsys, run, "--data", fresh)
    assert (found["records"], found["cut"]) == (100, 0)
    assert found["f1"] > 0.95
    assert found["per_label"]["NAME"]["support"] > 100
    assert figures(capsys, run)["f1"] > 0.95, "the validation part"

    text = "we Ann 2bo to  Is"
    (prediction,) = trifecta.load(run).predict(text)
    assert [(e["start"], e["end"], e["text"]) for e in prediction["entities"]] == [(3, 10, "Ann 2bo"), (15, 17, "Is")]
    lines = said(capsys, "predict", run, text).splitlines()
    assert lines[0] == "we Ann 2bo to Is"
    assert lines[1].split()[:4] == ["3-10", "NAME", "Ann", "2bo"]
    table = said(capsys, "evaluate", run, "--data", data)
    assert "per label  precision" in table
    assert "NAME" in table


def test_answers(answerer: Trained, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = answerer
    rng = random.Random(1)
    fresh = write_lines(place / "fresh-questions.jsonl", [asked(rng, number) for number in range(100)])
    found = figures(capsys, run, "--data", fresh)
    assert found["exact_match"] > 95
    assert found["NoAns_total"] + found["HasAns_total"] == 100
    assert min(found["NoAns_exact"], found["HasAns_exact"]) > 90

    context = "abba ab " * 9 + "789" + " cab" * 12
    trained = trifecta.load(run)
    first, second = trained.predict([("how many?", context), ("how many?", "abba")])
    assert (first["answer"], first["start"], first["end"]) == ("789", 72, 75)
    assert (second["answer"], second["start"]) == ("", None)
    text = said(capsys, "predict", run, "how many?", "--context", context)
    assert "  789  (" in text
    assert "characters 72-75" in text
    lines = said(capsys, "predict", run, fresh, "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(number) for number in range(100)]


def test_a_classifier(classifier: Trained, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = classifier
    rng = random.Random(1)
    records = [labelled(rng) for _ in range(100)]
    fresh = write_lines(place / "fresh-labels.jsonl", records)
    found = figures(capsys, run, "--data", fresh)
    assert found["accuracy"] > 0.95
    assert sum(sum(row.values()) for row in found["confusion"].values()) == 100
    lines = said(capsys, "predict", run, fresh, "--json", "--batch-size", "7").splitlines()
    predictions = [json.loads(line) for line in lines]
    assert [p["text"] for p in predictions] == [r["text"] for r in records]
    right = sum(p["label"] == r["label"] for p, r in zip(predictions, records, strict=True))
    assert right / 100 == found["accuracy"]
    assert all(sum(p["probabilities"].values()) == pytest.approx(1) for p in predictions)
    assert said(capsys, "predict", run, "a z", "bcd").split()[::3][:1] == ["buzz"]
    assert "confusion" in said(capsys, "evaluate", run)
    found = json.loads(said(capsys, "evaluate", run, "--attack", "1", "--json"))
    assert found["robust_loss"] > found["loss"]
    assert found["robust_accuracy"] <= found["accuracy"]
    for idle in (["--top-k", "3"], ["--seed", "1"], ["--length-penalty", "2"]):
        assert main(["predict", str(run), "a z", *idle]) == 2
        assert f"{idle[0]}: it can't take effect" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--attack", "0"]) == 2
    assert "--attack" in capsys.readouterr().err


def test_gaps(filler: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = said(capsys, "predict", filler, "abc[MASK]bc", "--json", "--top-k", "2").splitlines()
    (candidates,) = json.loads(line)["gaps"]
    assert len(candidates) == 2
    assert all(c["text"].startswith("abc") and c["text"].endswith("bc") for c in candidates)
    assert main(["predict", str(filler), "no gap here"]) == 3
    assert "text 1: no gap in this text" in capsys.readouterr().err


def test_a_batch_and_one_by_one_say_the_same(tagger: Trained, classifier: Trained, answerer: Trained) -> None:
    texts = ["we Ann 2bo to Is", "z", "Ann " * 30, "to", "ab zz Bo"]
    for run, _ in (tagger, classifier, answerer):
        trained = trifecta.load(run)
        asked_of: list[Any] = [("how many?", text) for text in texts] if run.name == "answer" else list(texts)
        together = trained.predict(asked_of, batch_size=5)
        alone = [trained.predict([one], batch_size=1)[0] for one in asked_of]
        for one, other in zip(together, alone, strict=True):
            assert rounded(one) == rounded(other)


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


# -------------------------------------------------------------------------------------------------------------- faults


def check_unknown_label(run: Path, path: Path) -> None:
    with pytest.raises(DataError, match=r"fault\.jsonl:2: the label 'B-PLACE' isn't one of: 'O', 'B-NAME'") as caught:
        opened.evaluate(run, (str(path),))
    assert caught.value.exit_code == 3


@pytest.fixture
def unknown(place: Path) -> Path:
    records = [{"text": "we", "entities": [[0, 2, "NAME"]]}, {"text": "to", "entities": [[0, 2, "PLACE"]]}]
    return write_lines(place / "fault.jsonl", records)


def test_fault_051_unknown_tag_when_a_run_is_judged(tagger: Trained, unknown: Path) -> None:
    """A tag that the training data didn't have is refused with the line and the known tags (3)."""
    check_unknown_label(tagger[0], unknown)


def test_fault_051_control_an_unknown_tag_that_nobody_looks_for(
    tagger: Trained, unknown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where tags aren't looked at first, an unknown one is an internal error, which the test notices."""
    monkeypatch.setattr("trifecta.run.judging.require_known_tags", lambda *_: None)
    with pytest.raises(KeyError):
        check_unknown_label(tagger[0], unknown)


def test_fault_051_unknown_label_of_a_class(classifier: Trained, place: Path) -> None:
    """A class that the training data didn't have is refused with the line and the known classes (3)."""
    path = write_lines(place / "classes.jsonl", [{"text": "a", "label": "quiet"}, {"text": "b", "label": "quite"}])
    with pytest.raises(DataError, match=r"classes\.jsonl:2: the label 'quite' isn't one of: 'buzz', 'quiet'.*did you"):
        opened.evaluate(classifier[0], (str(path),))


def test_fault_051_validation_file_with_other_tags(tagger: Trained, unknown: Path, tmp_path: Path) -> None:
    """A tag that only the validation file has is refused before training, with the line (3)."""
    settings = SETTINGS | {"objective.type": "tag", "data.validation_paths": [str(unknown)]}
    with pytest.raises(DataError, match=r"fault\.jsonl:2: the label 'B-PLACE'"):
        trifecta.train(tagger[1], out=tmp_path / "run", settings=settings)


def long_question(folder: Path) -> Path:
    rng = random.Random(2)
    records = [asked(rng, number) for number in range(20)]
    records[6]["question"] = "how many of them " * 3
    return write_lines(folder / "long.jsonl", records)


def check_refused(folder: Path) -> None:
    settings = SETTINGS | {"objective.type": "answer", "data.too_long": "refuse", "training.max_steps": 1}
    with pytest.raises(DataError, match=r"long\.jsonl:7: 39 tokens too long") as caught:
        trifecta.train(long_question(folder), out=folder / "run", settings=settings)
    assert caught.value.exit_code == 3


def test_fault_054_a_question_that_is_too_long(tmp_path: Path) -> None:
    """A question longer than a fourth of a row is cut and counted; with data.too_long=refuse its line is named (3)."""
    notes: list[str] = []
    trifecta.train(
        long_question(tmp_path), out=tmp_path / "cut",
        settings=SETTINGS | {"objective.type": "answer", "training.max_steps": 1},
        hooks=[lambda event: notes.append(event["message"]) if event["event"] == "note" else None],
    )  # fmt: skip
    assert any(note.startswith("1 of ") and "were cut to data.sequence_length 48" in note for note in notes)
    check_refused(tmp_path)


def test_fault_054_control_a_cut_that_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an objective doesn't count what it cuts, the test notices."""
    from trifecta.objectives.answer import Answer

    plain = Answer.prepare
    monkeypatch.setattr(Answer, "prepare", lambda self, sample: type(e := plain(self, sample))(e.arrays))
    with pytest.raises(pytest.fail.Exception):
        check_refused(tmp_path)


# ----------------------------------------------------------------------------------------------------------- bad input


def test_runs_that_write(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = place / "gpt.txt"
    text.write_text("abc " * 400)
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith("model.type")}
    trifecta.train(text, out=place / "gpt", settings=settings | {"training.max_steps": 1})
    assert main(["predict", str(place / "gpt"), "x"]) == 2
    error = capsys.readouterr().err
    assert "objective.type causal goes on with a text" in error
    assert "fix: use trifecta generate" in error
    with pytest.raises(RecipeError):
        trifecta.load(place / "gpt").predict(["x"])


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["no-such.csv"], 3, "no-such.csv: there is no such file"),
        (["  "], 2, "is no text, nor a pair of texts"),
        (["x", "--batch-size", "0"], 2, "--batch-size"),
    ],
)
def test_bad_arguments(
    arguments: list[str], code: int, what: str, classifier: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(classifier[0]), *arguments]) == code
    captured = capsys.readouterr()
    assert what in captured.err
    assert captured.out == ""


def test_a_question_without_a_context(answerer: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(answerer[0]), "how many?"]) == 3
    assert "text 1: a question without a context" in capsys.readouterr().err


def test_questions_about_one_context_only(tmp_path: Path) -> None:
    rng = random.Random(3)
    records = [asked(rng, number) | {"context": "abba", "answers": None} for number in range(5)]
    path = write_lines(tmp_path / "one.jsonl", records)
    with pytest.raises(DataError, match="all questions have the same context"):
        trifecta.train(path, out=tmp_path / "run", settings=SETTINGS | {"objective.type": "answer"})


def test_contexts_stay_in_one_part(place: Path) -> None:
    rng = random.Random(4)
    records = [asked(rng, number) for number in range(30)]
    twice = [*records, *(record | {"id": f"again {record['id']}"} for record in records)]
    path = write_lines(place / "twice.jsonl", twice)
    check_parts(path)


def check_parts(path: Path) -> None:
    from trifecta.run.request import Request
    from trifecta.run.resolution import resolve

    settings = SETTINGS | {"objective.type": "answer"}
    flags = {name: ("settings", value) for name, value in settings.items()}
    parts = resolve(Request(config=None, preset=None, flags=flags, data=(str(path),))).text.divided  # type: ignore[union-attr]
    train_contexts, held_out = ({q.context for q in part} for part in (parts.train, parts.validation))
    assert held_out
    assert not train_contexts & held_out
    assert len(parts.train) + len(parts.validation) == 60


def test_control_questions_divided_one_by_one_are_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trifecta.data.tasks import split_records

    test_contexts_stay_in_one_part(place)
    monkeypatch.setattr(
        divided, "_by_context", lambda questions, recipe, *_: split_records(questions, 0.1, recipe.training.seed)
    )
    with pytest.raises(AssertionError):
        check_parts(place / "twice.jsonl")


def test_data_that_changed_since(place: Path) -> None:
    rng = random.Random(5)
    folder = place / "changed"
    folder.mkdir()
    run, data = train(folder, "classify", [labelled(rng) for _ in range(40)], 1)
    write_lines(data, [labelled(rng) for _ in range(40)])
    with pytest.raises(CheckpointError, match="its validation part is gone"):
        opened.evaluate(run)


# ------------------------------------------------------------------------------------------- texts without what is due


def test_a_text_alone_is_no_labelled_data(classifier: Trained, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a folder that happens to be named like a class too; in a folder of classes it is."""
    for name in ("buzz", "quiet"):
        (place / "classes" / name).mkdir(parents=True)
        (place / "classes" / name / "a.txt").write_text("az" if name == "buzz" else "abc")
    assert main(["evaluate", str(classifier[0]), "--data", str(place / "classes" / "buzz" / "a.txt")]) == 3
    error = capsys.readouterr().err
    assert "a.txt: a .txt file holds texts without labels" in error
    assert "a folder of .txt files for each class" in error
    assert figures(capsys, classifier[0], "--data", place / "classes")["records"] == 2


def test_a_context_is_for_runs_that_learned_from_pairs(
    classifier: Trained, tagger: Trained, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, kind in ((classifier[0], "classify"), (tagger[0], "tag")):
        assert main(["predict", str(run), "abc", "--context", "z"]) == 2
        captured = capsys.readouterr()
        assert f"--context gives each text a second one, and this run with objective.type {kind}" in captured.err
        assert "fix: leave --context out" in captured.err
        assert captured.out == ""
        with pytest.raises(RecipeError, match="a pair of texts is given"):
            trifecta.load(run).predict([("abc", "z")])
    rng = random.Random(6)
    pairs = [labelled(rng) for _ in range(40)]
    pairs = [{"premise": pair["text"], "hypothesis": "abc", "label": pair["label"]} for pair in pairs]
    (place / "pairs").mkdir()
    run, data = train(place / "pairs", "classify", pairs, 1)
    asked_of_both = said(capsys, "predict", run, "abc", "--context", "z", "--json")
    assert asked_of_both != said(capsys, "predict", run, "abc", "--json")
    data.unlink()
    with pytest.warns(UserWarning, match="its data is gone"):
        trifecta.load(run).predict("abc", context="z")


def test_judging_says_how_far_it_is_from_the_first_text_on(tagger: Trained) -> None:
    told: list[tuple[str, float | None]] = []
    opened.evaluate(tagger[0], (str(tagger[1]),), lambda what, share: told.append((what, share)))
    assert list(dict.fromkeys(what for what, _ in told)) == ["tokenizing", "evaluating", "predicting"]
    assert told[0] == ("tokenizing", 0.0)
    assert len([what for what, _ in told if what == "tokenizing"]) == 3, "of 500 texts"
