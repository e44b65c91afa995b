"""How a conversation is written down: a form for what each of its three roles says."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trifecta.errors import RecipeError
from trifecta.objectives.base import Int64
from trifecta.tokenizers import Tokenizer

Turn = tuple[str, str]
"""A role (system, user or assistant) and what it says."""

PLAIN = "{system}\n\nUser: {user}\nAssistant: {assistant}"

_FIELDS = ("{system}", "{user}", "{assistant}")
_LINE_ENDS = re.compile(r"\n+")


@dataclass(frozen=True)
class Form:
    """What stands before and after a text. glue: blanks right before it, which most tokenizers join with its first
    word."""

    head: str
    glue: str
    tail: str


@dataclass(frozen=True)
class Said:
    """A turn as ids: what stands before it, what is said, what stands after it (of the assistant: the end of text)."""

    role: str
    head: Int64
    content: Int64
    tail: Int64

    def __len__(self) -> int:
        return len(self.head) + len(self.content) + len(self.tail)


@dataclass(frozen=True)
class Template:
    """A form for each role; after what the assistant says comes the end of text."""

    forms: dict[str, Form]

    @classmethod
    def parsed(cls, pattern: str) -> Template:
        r"""The template of a pattern such as `{system}\n\nUser: {user}\nAssistant: {assistant}`.

        What stands between two fields belongs to the first one up to the first line ends, and else to the second one.

        Raises:
            RecipeError: the three fields aren't there once each, in this order, or something follows the last.
        """
        places = [pattern.find(field) for field in _FIELDS]
        once = all(pattern.count(field) == 1 for field in _FIELDS)
        if not once or places != sorted(places) or not pattern.endswith(_FIELDS[-1]):
            raise RecipeError(
                f"a template wants {{system}}, {{user}} and {{assistant}} once each, in this order, with {{assistant}} "
                f"at its end, but is {pattern!r}",
                where="objective.template", fix=f"write one like {PLAIN!r}",
            )  # fmt: skip
        before, between, last = pattern.split("{system}")[0], *re.split(r"\{user\}", pattern.split("{system}")[1])
        system_tail, user_head = _divided(between)
        user_tail, assistant_head = _divided(last.removesuffix("{assistant}"))
        heads = {"system": before, "user": user_head, "assistant": assistant_head}
        tails = {"system": system_tail, "user": user_tail, "assistant": ""}
        return cls({role: _form(heads[role], tails[role]) for role in heads})

    def written(self, turns: Sequence[Turn], tokenizer: Tokenizer) -> list[Said]:
        """Each turn as ids. What is said is tokenized by itself, so that a prompt's ids are those of training."""
        return [self._said(role, content, tokenizer) for role, content in turns]

    def _said(self, role: str, content: str, tokenizer: Tokenizer) -> Said:
        form = self.forms[role]
        tail = np.array([tokenizer.eos_id]) if role == "assistant" else tokenizer.encode(form.tail)
        return Said(role, tokenizer.encode(form.head), tokenizer.encode(form.glue + content), tail)

    def prompt(self, turns: Sequence[Turn], tokenizer: Tokenizer, limit: int) -> list[int]:
        """Ids of a conversation that the assistant is to go on with, without its oldest turns if it is too long."""
        opening = tokenizer.encode(self.forms["assistant"].head)
        kept, _ = recent(self.written(turns, tokenizer), limit - len(opening))
        parts = [part for said in kept for part in (said.head, said.content, said.tail)]
        return [int(i) for i in np.concatenate([*parts, opening])]

    def jinja(self, end: str) -> str:
        """The same as a chat template of Hugging Face's tokenizers. end: the end of text.

        It writes one text, which is then tokenized as a whole: the ids are ours where no token of the tokenizer reaches
        over what stands between the turns.
        """
        cases = []
        for word, role in zip(("if", "elif", "elif"), self.forms, strict=True):
            form = self.forms[role]
            tail = end if role == "assistant" else form.tail
            said = f"{_literal(form.head + form.glue)} + message['content'] + {_literal(tail)}"
            cases.append(f"{{%- {word} message['role'] == {_literal(role)} %}}{{{{- {said} }}}}")
        opening = _literal(self.forms["assistant"].head)
        return (
            "{%- for message in messages %}" + "".join(cases) + "{%- endif %}{%- endfor %}"
            f"{{%- if add_generation_prompt %}}{{{{- {opening} }}}}{{%- endif %}}"
        )

    def answer(self, text: str) -> str:
        """What the assistant says, of the text that the model wrote."""
        return text.removeprefix(self.forms["assistant"].glue)


def recent(said: Sequence[Said], limit: int) -> tuple[list[Said], int]:
    """The newest exchanges that fit, at least one, after what the system says first; and how many tokens were dropped.

    An exchange begins with a turn of the user.
    """
    first = 1 if said and said[0].role == "system" else 0
    starts = [i for i in range(first, len(said)) if i == first or said[i].role == "user"]
    for start in starts:
        kept = [*said[:first], *said[start:]]
        if sum(map(len, kept)) <= limit or start == starts[-1]:
            return kept, sum(map(len, said[first:start]))
    return list(said), 0


def _divided(text: str) -> tuple[str, str]:
    """Tail of the field before and head of the field after."""
    found = _LINE_ENDS.search(text)
    return (text[: found.end()], text[found.end() :]) if found else ("", text)


def _form(head: str, tail: str) -> Form:
    bare = head.rstrip(" ")
    return Form(bare, head[len(bare) :], tail)


def _literal(text: str) -> str:
    """A text as Jinja writes it."""
    return json.dumps(text, ensure_ascii=False)
