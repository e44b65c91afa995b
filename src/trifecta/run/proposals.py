"""Texts changed by the user's own models: words that a BERT finds likelier, and translations there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from trifecta.data.edits import edited
from trifecta.data.tasks import Labelled, Pair
from trifecta.data.tasks.unlabelled import Unlabelled
from trifecta.data.words import Unit, cased, text_of
from trifecta.errors import RecipeError
from trifecta.inference.gaps import GAP
from trifecta.inference.judged import Options, Prediction
from trifecta.inference.predict import predict
from trifecta.randomness import numpy_generator
from trifecta.run import build
from trifecta.run.opened import Run, load

Report = Callable[[str, float | None], None]
_CANDIDATES = 12


def _opened(path: str | None, option: str, kind: str) -> Run:
    """A run of this kind.

    Raises:
        RecipeError: none is named, or it is of another kind. CheckpointError: there is no such run.
    """
    if path is None:
        raise RecipeError("this method needs a trained run", where=option, fix=f"give {option} RUN")
    run = load(path)
    if (found := run.recipe.objective.type) != kind:
        raise RecipeError(f"a run with objective.type {kind} is wanted, and this one's is {found}", where=path,
                          fix=f"give {option} another run")  # fmt: skip
    return run


def _predictions(run: Run, texts: Sequence[str], options: Options) -> list[Prediction]:
    with build.autocast_of(run.recipe, run.device)():
        named = [Unlabelled(text, None, place=f"text {number}") for number, text in enumerate(texts, 1)]
        return predict(run.model, run.recipe.objective.type, run.objective, named, options) if named else []


def _options(what: str, batch_size: int, report: Report | None, **writing: Any) -> Options:
    def progress(share: float) -> None:
        if report:
            report(what, share)

    return Options(batch_size=batch_size, top_k=_CANDIDATES, writing=writing, progress=progress)


@dataclass(frozen=True)
class _Gaps:
    """A part of a text, [start, stop) of its units, with gaps for some of them."""

    text: str
    units: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Substitution:
    """Words become others that a masked model proposes for their places (Wu et al., 2019; Kobayashi, 2018).

    Of its likeliest twelve tokens one is drawn by probability, among those that are a word and not the one that was
    there. Fixed units (entities, answers) stay. A text longer than the model reads is read in parts.
    """

    run: Run
    share: float
    seed: int
    batch_size: int
    report: Report | None

    @classmethod
    def by(cls, path: str | None, share: float, seed: int, batch_size: int, report: Report | None) -> Substitution:
        """By a run.

        Raises:
            RecipeError: no run, one that doesn't fill gaps, or one whose tokens are letters. CheckpointError: no such
                run.
        """
        run = _opened(path, "--model", "masked")
        if run.tokenizer.type in ("char", "byte") or int(run.objective.vocabulary.begins_word.sum()) < _CANDIDATES:
            raise RecipeError(
                f"the tokens of this run ({run.tokenizer.type}) are no words", where=path,
                fix="give --model a run with the tokenizer wordpiece, bpe or unigram",
            )  # fmt: skip
        return cls(run, share, seed, batch_size, report)

    def __call__(self, records: Sequence[Any], copy: int) -> list[Any]:
        """A changed record for each. Every text is looked at twice: for its gaps, and to fill them."""
        asked: list[_Gaps] = []
        counts: list[int] = []

        def ask(units: Sequence[Unit]) -> Sequence[Unit]:
            found = list(self._gaps(units, numpy_generator(self.seed, "gaps", copy, len(counts))))
            asked.extend(found)
            counts.append(len(found))
            return units

        for record in records:
            edited(record, ask)
        options = _options(f"copy {copy}: finding words", self.batch_size, self.report)
        answers = iter(zip(asked, _predictions(self.run, [gaps.text for gaps in asked], options), strict=True))
        texts = iter(enumerate(counts))

        def fill(units: Sequence[Unit]) -> Sequence[Unit]:
            number, count = next(texts)
            generator, made = numpy_generator(self.seed, "proposals", copy, number), list(units)
            for _ in range(count):
                gaps, prediction = next(answers)
                for unit, candidates in zip(gaps.units, prediction["gaps"], strict=True):
                    word = self._drawn(candidates, made[unit].text, unit == gaps.start, generator)
                    made[unit] = replace(made[unit], text=word)
            return made

        return [edited(record, fill) for record in records]

    def _gaps(self, units: Sequence[Unit], generator: np.random.Generator) -> Iterator[_Gaps]:
        free = [number for number, unit in enumerate(units) if not unit.fixed]
        count = max(1, int(self.share * len(free) + generator.random()))
        chosen = {free[place] for place in generator.permutation(len(free))[:count].tolist()}
        parts = [(0, len(units))] if chosen else []
        while parts:
            start, stop = parts.pop()
            inside = [number for number in range(start, stop) if number in chosen]
            shown = [
                replace(unit, text=GAP) if start + n in inside else unit for n, unit in enumerate(units[start:stop])
            ]
            text = text_of(shown, "")[0]
            if not inside or text.count(GAP) != len(inside):
                continue
            if len(self.run.tokenizer.encode(text)) <= self.run.objective.window:  # a gap is less than its letters
                yield _Gaps(text, tuple(inside), start)
            elif stop - start > 1:
                middle = (start + stop) // 2
                parts += [(middle, stop), (start, middle)]

    @cached_property
    def _spaced(self) -> bool:
        """Whether a token that begins a word begins with the space before it."""
        table = self.run.tokenizer.token_bytes
        return table is not None and any(token[:1] == b" " and len(token) > 1 for token in table)

    def _drawn(self, candidates: Sequence[Prediction], was: str, first: bool, generator: np.random.Generator) -> str:
        """One of the candidates, or the word that was there where none is fit."""
        fit = []
        for candidate in candidates:
            name = str(candidate["token"])
            word = name.strip()
            whole = first or name[:1] == " " if self._spaced else not name.startswith("##")
            if whole and word.isalpha() and word.casefold() != was.casefold():
                fit.append((word, float(candidate["probability"])))
        if not fit:
            return was
        shares = np.array([share for _, share in fit]) + 1e-12
        return cased(fit[int(generator.choice(len(fit), p=shares / shares.sum()))][0], was)


@dataclass(frozen=True)
class BackTranslation:
    """Texts translated by one model and back by another (Sennrich et al., 2016). Longer ones than they read stay."""

    forward: Run
    backward: Run
    temperature: float
    seed: int
    batch_size: int
    report: Report | None

    @classmethod
    def by(
        cls, forward: str | None, backward: str | None, temperature: float, seed: int, batch_size: int,
        report: Report | None,
    ) -> BackTranslation:  # fmt: skip
        """By two runs.

        Raises:
            RecipeError: one is missing, or doesn't translate. CheckpointError: no such run.
        """
        there, back = _opened(forward, "--forward", "seq2seq"), _opened(backward, "--backward", "seq2seq")
        return cls(there, back, temperature, seed, batch_size, report)

    def __call__(self, records: Sequence[Any], copy: int) -> list[Any]:
        """A changed record for each."""
        texts = list(dict.fromkeys(text for record in records for text in _texts(record)))
        there = self._translated(self.forward, texts, copy, "there")
        known = [text for text in texts if there[text]]
        back = self._translated(self.backward, [there[text] for text in known], copy, "back")
        return [_with_texts(record, {text: back[there[text]] for text in known}) for record in records]

    def _translated(self, run: Run, texts: Sequence[str], copy: int, way: str) -> dict[str, str]:
        """Text -> its translation; empty where it is too long, or nothing was written."""
        writing = {"temperature": self.temperature, "seed": self.seed + copy} if self.temperature else {}
        options = _options(f"copy {copy}: translating {way}", self.batch_size, self.report, **writing)
        distinct = list(dict.fromkeys(texts))
        found = _predictions(run, distinct, options)
        return {
            text: "" if prediction.get("cut") else str(prediction["target"]).strip()
            for text, prediction in zip(distinct, found, strict=True)
        }


def _texts(record: Labelled | Pair) -> list[str]:
    if isinstance(record, Pair):
        return [record.source]
    return [record.text] if record.pair is None else [record.text, record.pair]


def _with_texts(record: Any, found: dict[str, str]) -> Any:
    """The record with what its texts became, where they became anything."""
    if isinstance(record, Pair):
        return replace(record, source=found.get(record.source) or record.source)
    pair = record.pair if record.pair is None else found.get(record.pair) or record.pair
    return replace(record, text=found.get(record.text) or record.text, pair=pair)
