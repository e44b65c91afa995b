"""Losses of tags and answers against those of Hugging Face's models with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from objectives import objective
from tiny_hf import bert
from torch import Tensor, nn

from trifecta.data.tasks import Question, Tagged
from trifecta.interop import hf
from trifecta.models import Bert
from trifecta.types import IGNORE

LABELS = ("O", "B-X", "I-X")
SIZES = {"vocab_size": 261, "max_position_embeddings": 64}
PAD = 257


def ours_of(theirs: Any, made: Any, head: nn.Linear) -> Any:
    found = hf.from_hf(theirs.config.to_dict(), theirs.bert.state_dict())
    body = Bert(found.vocab_size, **found.fields)
    left_out = body.load_state_dict(found.state, strict=False)
    assert all(name.startswith("head") for name in left_out.missing_keys)
    assert not left_out.unexpected_keys
    model = made.headed(body)
    model.head.load_state_dict(head.state_dict())
    return model.eval()


def padded(rows: list[list[int]], filler: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def inputs_of(examples: list[Any]) -> dict[str, Tensor]:
    """What their models are given: one text in each row."""
    tokens = padded([e.arrays["tokens"].tolist() for e in examples], PAD)
    types = padded([e.arrays["types"].tolist() for e in examples], 0)
    return {"input_ids": tokens, "token_type_ids": types, "attention_mask": (tokens != PAD).long()}


def tags() -> tuple[Any, Any, Any, Tensor]:
    """Their model, our objective, its batch, and their loss times the number of words."""
    made, theirs = objective("tag", labels=LABELS), bert("BertForTokenClassification", num_labels=3, **SIZES)
    texts = ["so Ann ran", "Bob Eve", "it is what it is"]
    records = []
    for text in texts:
        words, start = [], 0
        for word in text.split():
            words.append((start, start + len(word)))
            start += len(word) + 1
        records.append(Tagged(text, tuple(words), tuple(LABELS[word.isupper()] for word in text.split()), "x:1"))
    examples = [made.prepare(window) for window in made.expand(records)]
    labels = [[IGNORE] * len(example.arrays["tokens"]) for example in examples]
    for row, example in zip(labels, examples, strict=True):
        for place, label in zip(example.arrays["places"], example.arrays["labels"], strict=True):
            row[place] = int(label)
    batch = made.collate(examples)
    loss = theirs(**inputs_of(examples), labels=padded(labels, IGNORE)).loss
    return theirs, made, batch, loss * batch.weights["tag"]


def answers() -> tuple[Any, Any, Any, Tensor]:
    """As `tags`. Their choices are all positions; ours are the context's: the others' scores must not count in theirs,
    so they are taken from their logits."""
    made, theirs = objective("answer"), bert("BertForQuestionAnswering", **SIZES)
    texts = [("It was Ann.", "Ann"), ("Nobody.", ""), ("So Eve or Bob", "Eve or")]
    questions = [
        Question(text, "who?", text, ((answer, text.index(answer)),) if answer else (), "x") for text, answer in texts
    ]
    examples = [made.prepare(window) for window in made.expand(questions)]
    inputs = inputs_of(examples)
    choice = padded([e.arrays["choice"].tolist() for e in examples], 0) == 1
    output = theirs(**inputs)
    places = [e.arrays["choice"].nonzero()[0][e.arrays["answer"]] for e in examples]
    truths_N2 = torch.tensor([[int(a), int(b)] for a, b in places])
    total = torch.zeros(())
    for side, logits in enumerate((output.start_logits, output.end_logits)):
        logs = logits.masked_fill(~choice, -torch.inf).log_softmax(1)
        total = total - logs.gather(1, truths_N2[:, side, None]).sum()
    return theirs, made, made.collate(examples), total


def differences(theirs: Any, made: Any, batch: Any, their_total: Tensor) -> tuple[float, float]:
    """Of the loss, and the largest of any gradient of the body or the head."""
    head = getattr(theirs, "classifier", None) or theirs.qa_outputs
    ours = ours_of(theirs, made, head)
    total = torch.stack([total for total, _ in made.loss(ours, batch).terms.values()]).sum()
    total.backward()
    their_total.backward()
    gradients = {name: p.grad for name, p in theirs.bert.named_parameters() if p.grad is not None}
    wanted = hf.from_hf_state(gradients, theirs.config.to_dict())
    found = {name: p.grad for name, p in ours.body.named_parameters() if p.grad is not None}
    assert wanted.keys() - found.keys() <= {"pooler.weight", "pooler.bias"}
    gaps = [float((found[name] - wanted[name]).abs().max()) for name in found]
    gaps += [float((ours.head.weight.grad - head.weight.grad).abs().max())]
    return float((total - their_total).abs().detach()), max(gaps)


@pytest.mark.parametrize("task", [tags, answers])
def test_numeric_031_losses_of_tags_and_answers(task: Any) -> None:
    """Loss and every gradient of tags and of answers equal those of BertForTokenClassification and
    BertForQuestionAnswering with the same weights, packed here and padded there, to 1e-4 of a sum over the batch."""
    loss, gradient = differences(*task())
    assert loss < 1e-4
    assert gradient < 1e-4


@pytest.mark.parametrize("task", [tags, answers])
def test_numeric_031_control_types_of_the_other_text_are_noticed(task: Any) -> None:
    """Where first and second text change places in our batch, the loss differs by more than 1e-3."""
    theirs, made, batch, total = task()
    batch.inputs["types_BT"].copy_(1 - batch.inputs["types_BT"])
    assert differences(theirs, made, batch, total)[0] > 1e-3
