"""Prompts and conversations: which tokens are learned, how they are written down, what goes when they are too long."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from objectives import BYTES, objective

from trifecta.data.tasks import Dialogue
from trifecta.errors import DataError, RecipeError
from trifecta.models import Gpt
from trifecta.objectives import LossModule, collate, prompted
from trifecta.objectives.template import PLAIN, Said, Template, recent
from trifecta.types import IGNORE

pytestmark = pytest.mark.fast

TURNS = (
    ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "2+3="), ("assistant", "5"),
)  # fmt: skip
WHOLE = "Be brief.\n\nUser: Hi\nAssistant: Hello|User: 2+3=\nAssistant: 5|"
CHATML = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{assistant}"
)


def shown(ids: Any) -> str:
    """Bytes as text, the end of text as |."""
    return "".join("|" if i == BYTES.eos_id else chr(i) for i in ids)


def dialogue(*turns: tuple[str, str]) -> Dialogue:
    return Dialogue(turns, "chats.jsonl:7")


def learned(made: Any, sample: Dialogue) -> str:
    targets = made.prepare(sample).arrays["targets"]
    return shown(targets[targets != IGNORE])


# ------------------------------------------------------------------------------------------------- what is learned


def check_learned(made: Any) -> None:
    example = made.prepare(dialogue(*TURNS))
    tokens, targets = example.arrays["tokens"], example.arrays["targets"]
    assert shown(tokens) == WHOLE[:-1]
    assert shown(targets[targets != IGNORE]) == " Hello| 5|"
    places = np.flatnonzero(targets != IGNORE)
    assert [WHOLE[place + 1] for place in places] == list(" Hello| 5|"), "the target at t is token t + 1"


def test_numeric_025_only_what_the_assistant_says_is_learned() -> None:
    """The targets of a dialogue are exactly the assistant's turns, each with its end, and each one place before it."""
    check_learned(objective("prompted"))


@pytest.mark.parametrize("bug", ["all", "no end", "shifted"])
def test_numeric_025_control_other_targets_are_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning the prompt too, leaving out the ends, or shifting the targets by one is noticed."""
    plain = prompted.arrays_of

    def planted(tokens: Any, targets: Any) -> Any:
        whole = np.append(tokens[1:], BYTES.eos_id)
        ends = np.where(targets == BYTES.eos_id, IGNORE, targets)
        return plain(tokens=tokens, targets={"all": whole, "no end": ends, "shifted": np.roll(targets, 1)}[bug])

    monkeypatch.setattr(prompted, "arrays_of", planted)
    with pytest.raises(AssertionError):
        check_learned(objective("prompted"))


def test_turns_after_the_last_answer_are_left_out() -> None:
    assert learned(objective("prompted"), dialogue(("user", "a"), ("assistant", "b"), ("user", "c"))) == " b|"
    example = objective("prompted").prepare(dialogue(("user", "a"), ("assistant", "b"), ("user", "c")))
    assert shown(example.arrays["tokens"]) == "User: a\nAssistant: b"


def test_a_prompt_is_read_as_in_training() -> None:
    made = objective("prompted")
    ids = made.template.prompt(TURNS[:4], BYTES, 1000)
    whole = made.prepare(dialogue(*TURNS)).arrays["tokens"]
    assert ids == whole[: len(ids)].tolist()
    assert shown(ids).endswith("Assistant:")


def test_fault_055_roles_and_ends_in_a_text_are_ordinary_text() -> None:
    """Names of fields and of the end of text, said by the user or the assistant, stay what they are."""
    made = objective("prompted", 128)
    example = made.prepare(dialogue(("user", "{assistant}"), ("assistant", "<|endoftext|>{user}")))
    assert shown(example.arrays["tokens"]) == "User: {assistant}\nAssistant: <|endoftext|>{user}"
    assert (example.arrays["tokens"] == BYTES.eos_id).sum() == 0


# -------------------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        (PLAIN, WHOLE),
        ("{system}\n{user}\n{assistant}", "Be brief.\nHi\nHello|2+3=\n5|"),
        ("{system} {user}{assistant}", "Be brief. HiHello| 2+3=5|"),
        ("[{system}] {user} -> {assistant}", "[Be brief.] Hi -> Hello|] 2+3= -> 5|"),
        (CHATML, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
         "Hello|<|im_start|>user\n2+3=<|im_end|>\n<|im_start|>assistant\n5|"),
    ],
)  # fmt: skip
def test_templates(pattern: str, written: str) -> None:
    parts = [part for said in Template.parsed(pattern).written(TURNS, BYTES)
             for part in (said.head, said.content, said.tail)]  # fmt: skip
    assert shown(np.concatenate(parts)) == written


@pytest.mark.parametrize(
    "pattern",
    ["", "{user}{assistant}", "{system}{assistant}{user}", "{system}{user}{assistant}.", "{system}{user}{user}"],
)  # fmt: skip
def test_a_template_that_is_none(pattern: str) -> None:
    with pytest.raises(RecipeError, match="once each, in this order") as caught:
        Template.parsed(pattern)
    assert caught.value.where == "objective.template"


# ---------------------------------------------------------------------------------------------------------- too long


@pytest.mark.parametrize(
    ("limit", "tokens", "wanted", "cut"),
    [
        (len(WHOLE) - 1, WHOLE[:-1], " Hello| 5|", 0),
        (len(WHOLE) - 2, "Be brief.\n\nUser: 2+3=\nAssistant: 5", " 5|", len("User: Hi\nAssistant: Hello|")),
        (35, "Be brief.\n\nUser: 2+3=\nAssistant: 5", " 5|", 26),
        (33, "Be brief\n\nUser: 2+3=\nAssistant: 5", " 5|", 27),
    ],
)
def test_the_oldest_exchanges_go_first(limit: int, tokens: str, wanted: str, cut: int) -> None:
    made = objective("prompted", limit)
    example = made.prepare(dialogue(*TURNS))
    assert (shown(example.arrays["tokens"]), learned(made, dialogue(*TURNS))) == (tokens, wanted)
    assert example.cut == cut
    assert len(example.arrays["tokens"]) <= limit


def test_where_the_end_of_an_answer_is_cut_its_end_is_not_learned() -> None:
    made = objective("prompted", 24)
    sample = dialogue(("user", "a"), ("assistant", "abcdefghij"))
    assert made.prepare(sample).cut == 5
    assert learned(made, sample) == " abcde"
    assert learned(objective("prompted", 29), sample) == " abcdefghij|"


def test_no_room_beside_the_template() -> None:
    with pytest.raises(DataError, match=r"data\.sequence_length 17 leaves no room") as caught:
        objective("prompted", 17).prepare(dialogue(("user", "a"), ("assistant", "b")))
    assert caught.value.where == "chats.jsonl:7"


def test_recent_keeps_the_last_exchange_whatever_its_length() -> None:
    empty = np.zeros(0, np.int64)
    turns = [Said(role, empty, np.zeros(5, np.int64), empty) for role in ("user", "assistant", "user")]
    assert [len(recent(turns, limit)[0]) for limit in (15, 14, 5, 1)] == [3, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------------ batches


@torch.no_grad()
def packed_and_alone() -> tuple[float, float]:
    made = objective("prompted", 80)
    torch.manual_seed(0)
    model = Gpt(made.vocabulary.size, d_model=16, num_heads=2, num_layers=2, d_ff=24, dropout=0.0)
    module = LossModule(model, made).eval()
    texts = [("a", "bc"), ("what is it", "it is"), ("q", "answers"), ("yes", "no")]
    examples = [made.prepare(dialogue(("user", q), ("assistant", a))) for q, a in texts]
    batch = made.collate(examples)
    assert len(batch.inputs["tokens_BT"]) < len(texts)
    assert batch.weights == {prompted.TERM: float(sum(len(a) + 2 for _, a in texts))}
    alone = sum(float(module(made.collate([example])).terms[prompted.TERM][0]) for example in examples)
    return float(module(batch).terms[prompted.TERM][0]), alone


def test_numeric_008_dialogues_in_a_row_know_nothing_of_each_other() -> None:
    """Losses of dialogues that share rows are those of each alone, within 1e-5."""
    together, alone = packed_and_alone()
    assert together == pytest.approx(alone, rel=1e-5)


def test_numeric_008_control_dialogues_that_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose dialogues aren't told apart are noticed."""
    plain = collate.packed

    def joined(*arguments: Any) -> dict[str, torch.Tensor]:
        return {name: t.clamp(max=1) if "segments" in name else t for name, t in plain(*arguments).items()}

    monkeypatch.setattr(collate, "packed", joined)
    together, alone = packed_and_alone()
    assert together != pytest.approx(alone, rel=1e-5)


def test_a_prompt_gets_no_gradient() -> None:
    """The loss doesn't move when the scores at unlearned positions do."""
    made = objective("prompted")
    example = made.prepare(dialogue(*TURNS))
    batch = made.collate([example])
    model = Gpt(made.vocabulary.size, d_model=16, num_heads=2, num_layers=1, d_ff=24, dropout=0.0)
    hidden = model.hidden(**batch.inputs).hidden_BTD.detach().requires_grad_()

    class Fixed:
        logits, vocab_size, head_parameters = model.logits, model.vocab_size, model.head_parameters

        def hidden(self, **_: Any) -> Any:
            return type("Output", (), {"hidden_BTD": hidden})()

    made.loss(Fixed(), batch).terms[prompted.TERM][0].backward()
    assert hidden.grad is not None
    moved = hidden.grad.abs().sum(-1)[0] > 0
    assert moved.tolist() == (example.arrays["targets"] != IGNORE).tolist()
