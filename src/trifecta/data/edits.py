"""Labelled records with other words: the label stays right, since what it is about is fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from trifecta.data.tasks import Labelled, Pair, Question, Tagged
from trifecta.data.words import Span, Unit, text_of, units_of, word_spans

Edit = Callable[[Sequence[Unit]], Sequence[Unit]]
"""Changes units that aren't fixed; fixed ones keep their order, their text and their origin."""


def edited(record: Any, edit: Edit) -> Any:
    """The record with its texts edited.

    Of a text to be classified both texts; of a pair the source; of a question the context without its answers, whose
    places are found anew; of a tagged text what is no entity. A new word is O.
    """
    if isinstance(record, Tagged):
        return _tagged(record, edit)
    if isinstance(record, Question):
        return _question(record, edit)
    if isinstance(record, Pair):
        return replace(record, source=plain(record.source, edit))
    assert isinstance(record, Labelled), record
    pair = None if record.pair is None else plain(record.pair, edit)
    return replace(record, text=plain(record.text, edit), pair=pair)


def plain(text: str, edit: Edit) -> str:
    """A text without anything fixed."""
    units, tail = units_of(text, word_spans(text))
    return text_of(edit(units), tail)[0] if units else text


def words_of(records: Iterable[Any]) -> set[str]:
    """Every word that could be edited, in small letters."""
    found: set[str] = set()

    def collect(units: Sequence[Unit]) -> Sequence[Unit]:
        found.update(unit.text.casefold() for unit in units if not unit.fixed)
        return units

    for record in records:
        edited(record, collect)
    return found


def _tagged(record: Tagged, edit: Edit) -> Tagged:
    """Entities are one unit each, so that nothing gets between their words; what has no letter or digit stays."""
    spans: list[Span] = []
    members: list[list[int]] = []
    for number, ((start, stop), tag) in enumerate(zip(record.words, record.tags, strict=True)):
        if tag.startswith("I-") and spans:
            spans[-1] = (spans[-1][0], stop, True)
            members[-1].append(number)
        else:
            spans.append((start, stop, tag != "O" or not any(map(str.isalnum, record.text[start:stop]))))
            members.append([number])
    units, tail = units_of(record.text, spans)
    made = edit(units)
    text, starts = text_of(made, tail)
    words: list[tuple[int, int]] = []
    tags: list[str] = []
    for unit, at in zip(made, starts, strict=True):
        if unit.origin is None or not unit.fixed:
            words.append((at, at + len(unit.text)))
            tags.append("O")
            continue
        shift = at - spans[unit.origin][0]
        words += [(record.words[n][0] + shift, record.words[n][1] + shift) for n in members[unit.origin]]
        tags += [record.tags[n] for n in members[unit.origin]]
    return replace(record, text=text, words=tuple(words), tags=tuple(tags))


def _question(record: Question, edit: Edit) -> Question:
    spans = word_spans(record.context, [(start, start + len(text)) for text, start in record.answers])
    units, tail = units_of(record.context, spans)
    made = edit(units)
    context, starts = text_of(made, tail)
    shifts = {unit.origin: at for unit, at in zip(made, starts, strict=True) if unit.fixed}
    answers = []
    for text, start in record.answers:
        number = next(n for n, (first, stop, _) in enumerate(spans) if first <= start < stop)
        answers.append((text, shifts[number] + start - spans[number][0]))
    return replace(record, context=context, answers=tuple(answers))
