"""Runs with a head, exported: transformers' classes for tasks say the same of the same texts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_hf import MODERN as MODERN_OF_THEIRS
from tiny_hf import WIDE, V, bert, make
from torch import Tensor, nn

from trifecta.data.tasks import Labelled, Question, Tagged
from trifecta.errors import RecipeError
from trifecta.interop import heads
from trifecta.nn.lora import lora_layers
from trifecta.recipe.schema import Recipe
from trifecta.run import Run, build, folder, load
from trifecta.run.convert import export_run, import_folder
from trifecta.tokenizers import TOKENIZERS
from trifecta.training import checkpoint
from trifecta.training.state import Progress, TrainState

TOLERANCE = 1e-5
TEXTS = ["Ann met Bob in Rome", "so it was", "Eve", "it was Ann and Bob who met Eve in Paris or in Rome at last"]
CONTEXT = "In Rome Ann met Bob and in Paris Eve met nobody at all"
SMALL: dict[str, Any] = {"type": "bert", "d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 24}
CLASSIC = SMALL | {
    "position": "learned", "norm_position": "post", "activation": "gelu", "bias": True, "segment_types": 2,
    "pooler": True, "norm_epsilon": 1e-12,
}  # fmt: skip
BARE = CLASSIC | {"pooler": False, "segment_types": 0, "activation": "relu", "norm_epsilon": 1e-5}
MODERN = SMALL | {"activation": "geglu"}
BIASED = MODERN | {"bias": True, "norm_epsilon": 1e-12, "tie_embeddings": False}
SINGLE = {"type": "classify", "kind": "single", "labels": ["no", "maybe", "yes"]}
MULTI = {"type": "classify", "kind": "multi", "labels": ["art", "food", "sport"]}
NUMBER = {"type": "classify", "kind": "regression", "label_mean": 7.5, "label_scale": 2.5}
MEAN = {"pooling": "mean"}
TAGS = {"type": "tag", "labels": ["B-PER", "I-PER", "B-LOC", "I-LOC", "O"]}
LORA = {"lora_rank": 2, "lora_targets": ["query", "value", "down"], "init_from": "the-base"}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one class": (CLASSIC, SINGLE),
    "several classes": (CLASSIC, MULTI),
    "a number": (CLASSIC, NUMBER),
    "one class, no pooler": (BARE, SINGLE),
    "a number, no pooler": (BARE, NUMBER),
    "one class, modern": (MODERN, SINGLE),
    "one class, modern with biases": (BIASED, SINGLE),
    "a number, modern": (MODERN, NUMBER),
    "several classes, modern, mean": (MODERN, MULTI | MEAN),
    "one class, modern with biases, mean": (BIASED, SINGLE | MEAN),
    "tags": (CLASSIC, TAGS),
    "tags, modern": (MODERN, TAGS),
    "answers": (CLASSIC, {"type": "answer"}),
    "answers, modern": (MODERN, {"type": "answer"}),
}
NAMES = {"classify": "SequenceClassification", "tag": "TokenClassification", "answer": "QuestionAnswering"}


def make_run(place: Path, model: dict[str, Any], objective: dict[str, Any], **training: Any) -> Path:
    """A run whose weights are random and far from where training begins."""
    tokenizer = TOKENIZERS["bpe"]([*TEXTS, CONTEXT] * 5, vocab_size=320, min_frequency=2)
    recipe = Recipe.model_validate({
        "model": model, "objective": objective, "tokenizer": {"type": "bpe", "vocab_size": 320},
        "data": {"sequence_length": 40}, "training": training, "execution": {"precision": "fp32", "threads": 1},
    })  # fmt: skip
    learned = build.objective_of(recipe, tokenizer)
    network = build.adapted(recipe, build.model_of(recipe, learned))
    torch.manual_seed(3 + recipe.training.seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_((1.0 if name == "head.weight" else 0.3) * torch.randn_like(parameter))
    for _, layer in lora_layers(network):
        nn.init.normal_(layer.lora_b, 0.0, 0.3)
    place.mkdir(parents=True)
    texts = folder.write_identity(place, recipe, tokenizer.to_json())
    state = TrainState(network, build.optimizers_of(recipe, network), Progress())
    checkpoint.save(place / "checkpoints", state, texts, reason="test")
    return place


def loaded(made: Path, task: str) -> tuple[Any, Any]:
    """transformers' model, which must find each of its weights in the folder and nothing more; and its tokenizer."""
    auto = getattr(transformers, f"AutoModelFor{NAMES[task]}")
    model, found = auto.from_pretrained(made, output_loading_info=True)
    assert not any(found.values()), found
    return model.eval(), transformers.AutoTokenizer.from_pretrained(made)


def our_scores(run: Run, text: str, pair: str | None) -> tuple[Tensor, list[int]]:
    """What the run says of a text: (C,) of it, or (N, C) of words or of choices; and their places among the tokens."""
    objective, places = run.objective, [0]
    if objective.__class__.__name__ == "Classify":
        number = objective.kind == "regression"
        filler: Any = 0.0 if number else (() if objective.kind == "multi" else objective.labels[0])
        example = objective.prepare(Labelled(text, pair, filler, "x:1"))
    elif pair is None:
        words = tuple((text.index(word), text.index(word) + len(word)) for word in text.split())
        (window,) = objective.expand([Tagged(text, words, ("O",) * len(words), "x:1")])
        example = objective.prepare(window)
        places = example.arrays["places"].tolist()
    else:
        (window,) = objective.windows(Question("1", text, pair, (), "x:1"))
        example = objective.prepare(window)
        places = example.arrays["choice"].nonzero()[0].tolist()
    with torch.no_grad():
        scores = objective.scores(run.model, objective.collate([example]))
    scores = scores if len(places) == 1 else scores.squeeze(0)
    return (scores * objective._scale + objective._mean if hasattr(objective, "_scale") else scores), places


def their_scores(model: Any, tokenizer: Any, task: str, text: str, pair: str | None, places: list[int]) -> Tensor:
    with torch.no_grad():
        output = model(**tokenizer(text, pair, return_tensors="pt"))
    if task == "answer":
        return torch.stack((output.start_logits[0], output.end_logits[0]), 1)[places]
    scores: Tensor = output.logits if task == "classify" else output.logits[0, places]
    return scores


def largest_gap(run: Path, made: Path) -> float:
    """Of any score of any text, theirs less ours; of numbers, in units of their scale."""
    ours = load(run)
    task = ours.recipe.objective.type
    model, tokenizer = loaded(made, task)
    gaps = []
    for text in TEXTS[:1] + TEXTS[2:]:
        for pair in {"classify": (None, CONTEXT), "tag": (None,), "answer": (CONTEXT,)}[task]:
            wanted, places = our_scores(ours, text.replace(" and Bob who met Eve", ""), pair)
            found = their_scores(model, tokenizer, task, text.replace(" and Bob who met Eve", ""), pair, places)
            assert found.shape == wanted.shape
            gaps.append(float((found - wanted).abs().max()))
    return max(gaps) / getattr(ours.objective, "_scale", 1.0)


@pytest.mark.parametrize("name", CASES)
def test_transformers_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    """Through its own tokenizer, for texts and for pairs."""
    run = make_run(tmp_path / "run", *CASES[name])
    made = export_run(run, tmp_path / "hf")
    assert largest_gap(run, made.folder) <= TOLERANCE
    prefix = "Bert" if CASES[name][0]["activation"] != "geglu" else "ModernBert"
    config = transformers.AutoConfig.from_pretrained(made.folder)
    assert config.architectures == [f"{prefix}For{NAMES[CASES[name][1]['type']]}"]


@pytest.mark.parametrize("name", ["one class", "one class, modern"])
def test_long_texts_are_cut_where_the_run_cuts_them(name: str, tmp_path: Path) -> None:
    model, objective = CASES[name]
    run = make_run(tmp_path / "run", model | {"max_sequence_length": 64}, objective)
    theirs, tokenizer = loaded(export_run(run, tmp_path / "hf").folder, "classify")
    text = " ".join(TEXTS) * 4
    batch = tokenizer(text, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (1, 40), "data.sequence_length, not what the model could take"
    with torch.no_grad():
        gap = (theirs(**batch).logits - our_scores(load(run), text, None)[0]).abs().max()
    assert gap <= TOLERANCE


@pytest.mark.parametrize("case", [(CLASSIC, SINGLE), (MODERN, TAGS)])
def test_what_lora_learned_is_merged(case: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *case, **LORA)
    assert largest_gap(run, export_run(run, tmp_path / "hf").folder) <= TOLERANCE


def same_labels(run: Path, made: Path) -> None:
    """What transformers' pipelines say of each text is what `trifecta predict` says."""
    ours = load(run)
    task, kind = ours.recipe.objective.type, getattr(ours.recipe.objective, "kind", "")
    model, tokenizer = loaded(made, task)
    if task == "tag":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Tokenizer does not support real words")
            pipe = transformers.pipeline(
                "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="first", device="cpu"
            )
            said = [pipe(text) for text in TEXTS]
        for text, found, wanted in zip(TEXTS, said, ours.predict(TEXTS), strict=True):
            theirs = [(e["entity_group"], text[e["start"] : e["end"]].strip()) for e in found]
            assert theirs == [(e["label"], e["text"]) for e in wanted["entities"]]
        return
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None)
    for found, wanted in zip(pipe(TEXTS), ours.predict(TEXTS), strict=True):
        scores = {entry["label"]: entry["score"] for entry in found}
        probabilities = {"value": wanted["value"]} if kind == "regression" else wanted["probabilities"]
        assert scores == pytest.approx(probabilities, abs=TOLERANCE)


LABELLED = [name for name in CASES if "answers" not in name]


@pytest.mark.parametrize("name", LABELLED)
def test_pipelines_say_what_the_run_predicts(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *CASES[name])
    same_labels(run, export_run(run, tmp_path / "hf").folder)


@pytest.mark.parametrize("kind", [CLASSIC, MODERN])
def test_an_answer_is_their_best_span(kind: dict[str, Any], tmp_path: Path) -> None:
    """transformers 5 has no pipeline for answers: its scores, over the context and [CLS], give what the run predicts.

    Start and end at [CLS] mean no answer, as for SQuAD 2.0.
    """
    answers = []
    for number, question in enumerate(("Ann met", "so it was", "Eve", "in Rome")):
        run = make_run(tmp_path / f"{number}", kind, {"type": "answer", "max_answer_tokens": 4}, seed=number)
        model, tokenizer = loaded(export_run(run, tmp_path / f"{number}-hf").folder, "answer")
        coded = tokenizer(question, CONTEXT, return_tensors="pt", return_offsets_mapping=True)
        ranges = coded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            output = model(**coded)
        start, end = output.start_logits[0], output.end_logits[0]
        inside = [place for place, of in enumerate(coded.sequence_ids(0)) if of == 1]
        spans = [(float(start[i] + end[j]), i, j) for i in inside for j in inside if i <= j < i + 4]
        score, first, last = max(spans)
        nothing = float(start[0] + end[0]) > score
        answer = "" if nothing else CONTEXT[ranges[first][0] : ranges[last][1]].strip()
        assert load(run).predict([(question, CONTEXT)])[0]["answer"] == answer
        answers.append(answer)
    assert len(set(answers)) > 1


def labels_in_another_order(head: Any, model_type: str) -> dict[str, Any]:
    found = PLAIN_SETTINGS(head, model_type)
    return found | {"id2label": dict(zip(found["id2label"], reversed(found["id2label"].values()), strict=True))}


def with_its_own_activation(head: Any, model_type: str) -> dict[str, Any]:
    return PLAIN_SETTINGS(head, model_type) | {"classifier_activation": "gelu"}


PLAIN_SETTINGS = heads.settings


@pytest.mark.parametrize("name", ["one class", "several classes, modern, mean", "tags", "tags, modern"])
def test_control_labels_in_another_order_are_noticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", *CASES[name])
    monkeypatch.setattr(heads, "settings", labels_in_another_order)
    made = export_run(run, tmp_path / "hf")
    with pytest.raises(AssertionError):
        same_labels(run, made.folder)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("one class, modern", "settings", with_its_own_activation),
        ("one class, modern", "_gain", lambda factor, epsilon: epsilon**0.5 / factor),
        ("several classes, modern, mean", "_MEAN_ERROR", 1e-2),
        ("one class, no pooler", "_SMALL", 2.0**-3),
        ("a number", "Head.linear", lambda head: (head.weight, head.bias)),
    ],
)
def test_control_layers_that_change_something_are_noticed(
    name: str, place: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head's own activation, a wrong gain, factors that aren't small enough, a number in units of its own."""
    run = make_run(tmp_path / "run", *CASES[name])
    monkeypatch.setattr(f"trifecta.interop.heads.{place}", value)
    assert largest_gap(run, export_run(run, tmp_path / "hf").folder) > TOLERANCE


@pytest.mark.parametrize(
    ("model", "objective", "said"),
    [
        (CLASSIC, SINGLE | MEAN, "objective.pooling: mean"),
        (MODERN | {"pooler": True}, SINGLE, "model.pooler: True"),
        (MODERN | {"norm": "rmsnorm"}, TAGS, "model.norm: rmsnorm"),
        (SMALL | {"type": "gpt"}, SINGLE, "set objective.type to causal, or model.type to bert"),
    ],
)
def test_what_their_classes_cannot_express_is_refused_by_name(
    model: dict[str, Any], objective: dict[str, Any], said: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", model, objective)
    with pytest.raises(RecipeError) as caught:
        export_run(run, tmp_path / "hf")
    assert said in str(caught.value)
    assert "fix: " in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["one class", "one class, no pooler", "one class, modern with biases", "tags, modern"])
def test_a_folder_with_a_head_comes_back_as_its_body(name: str, tmp_path: Path) -> None:
    """The head is named and left out; what was made of the layers before it is undone."""
    run = make_run(tmp_path / "run", *CASES[name])
    made = export_run(run, tmp_path / "hf")
    back = import_folder(made.folder, tmp_path / "back")
    assert any("a head for a task isn't taken over: classifier.bias, classifier.weight" in note for note in back.notes)
    again, ours = load(tmp_path / "back").model, load(run).model
    assert hasattr(again, "logits"), "it predicts masked tokens"
    assert (again.pooler is None) == (ours.body.pooler is None or "tags" in name)
    tokens = torch.arange(11)[None]
    wanted = ours.hidden(tokens).hidden_BTD
    torch.testing.assert_close(again.hidden(tokens).hidden_BTD, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("make_theirs", "left_out"),
    [
        (lambda: bert("BertForSequenceClassification", num_labels=3), "classifier.bias, classifier.weight"),
        (lambda: bert("BertForQuestionAnswering"), "qa_outputs.bias, qa_outputs.weight"),
        (
            lambda: make("ModernBertForTokenClassification", transformers.ModernBertConfig, **WIDE, **MODERN_OF_THEIRS),
            "classifier.bias, classifier.weight, head.dense.weight, head.norm.bias, head.norm.weight",
        ),
    ],
)
def test_heads_of_others_are_named_and_left_out(make_theirs: Any, left_out: str, tmp_path: Path) -> None:
    """A dense layer of their own isn't taken for one that changes nothing, nor the pooler."""
    theirs = make_theirs()
    theirs.save_pretrained(tmp_path / "hf")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(V - 5))]
    (tmp_path / "hf/vocab.txt").write_text("\n".join(names) + "\n")
    notes = import_folder(tmp_path / "hf", tmp_path / "run").notes
    assert notes[0] == f"a head for a task isn't taken over: {left_out}"
    again = load(tmp_path / "run").model
    assert (again.pooler is None) == (getattr(theirs.base_model, "pooler", None) is None)
    tokens = torch.arange(11)[None]
    wanted = theirs.base_model(tokens).last_hidden_state
    torch.testing.assert_close(again.hidden(tokens).hidden_BTD, wanted, rtol=0, atol=TOLERANCE)
