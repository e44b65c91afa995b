"""What a run says about a user's texts: from arguments and files to predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from trifecta.data.images import LabelledImage
from trifecta.data.tasks.unlabelled import STANDARD_INPUT, Unlabelled, read_unlabelled
from trifecta.errors import RecipeError, TrifectaError
from trifecta.inference.judged import Options, Prediction
from trifecta.inference.predict import PREDICTORS, predict
from trifecta.inference.write import WRITERS
from trifecta.run import build
from trifecta.run.opened import Run
from trifecta.run.pictured import images_of
from trifecta.run.tasks import read_task

_FILES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".conll", ".gz", ".zst", ".zstd")


def predict_texts(
    run: Run,
    texts: Iterable[str | Path | Sequence[str] | Unlabelled | LabelledImage],
    *,
    context: str | None = None,
    batch_size: int = 32,
    top_k: int = 5,
    progress: Callable[[str, float | None], None] | None = None,
    **writing: Any,
) -> list[Prediction]:
    """A prediction for each text, in their order.

    Args:
        texts: texts, or pairs of them: two texts that were learned together, or a question and its context.
        context: of the questions that are given without one.
        batch_size: texts in one forward pass. top_k: candidates for a gap. writing: options of runs that write.

    Raises:
        RecipeError: the run makes no predictions, an option is out of bounds, or pairs for a run that learned from
            single texts. DataError: a text that can't be judged, with its place.
    """
    kind = require_predictor(run)
    made = (_records(kind, text, number, context) for number, text in enumerate(texts, 1))
    records = [record for several in made for record in several]
    if context is not None or any(getattr(record, "pair", None) is not None for record in records):
        _require_pairs(run, kind, context is not None)
    return predict_records(run, records, batch_size=batch_size, top_k=top_k, progress=progress, **writing)


def predict_records(
    run: Run,
    records: Sequence[Any],
    *,
    batch_size: int,
    top_k: int = 5,
    progress: Callable[[str, float | None], None] | None = None,
    **writing: Any,
) -> list[Prediction]:
    """A prediction for each record, single or pairs as they are; otherwise as `predict_texts`."""
    kind = require_predictor(run)
    for name, value in (("batch size", batch_size), ("top_k", top_k)):
        if value < 1:
            raise RecipeError(f"the {name} must be at least 1, not {value}", fix="give a larger one")
    if writing and kind not in WRITERS:
        raise RecipeError(
            f"only runs that write take {', '.join(sorted(writing))}, and objective.type is {kind}",
            fix="leave them out",
        )
    if not records:
        return []
    _warn_of_unknowns(run, records)
    options = Options(
        batch_size=batch_size, top_k=top_k, writing=writing,
        progress=lambda share: progress("predicting", share) if progress else None,
    )  # fmt: skip
    with build.autocast_of(run.recipe, run.device)():
        return predict(run.model, kind, run.objective, records, options)


def _require_pairs(run: Run, kind: str, by_context: bool) -> None:
    """A second text changes what a run says of the first, so it is only for runs that learned from pairs.

    Raises:
        RecipeError: it learned from single texts.
    """
    if kind == "answer":
        return
    learned = _learned_pairs(run) if kind == "classify" else False
    given = "--context gives each text a second one" if by_context else "a pair of texts is given"
    if learned is None:
        warnings.warn(f"{given}; whether this run learned from pairs can't be told, since its data is gone",
                      stacklevel=3)  # fmt: skip
    elif not learned:
        raise RecipeError(
            f"{given}, and this run with objective.type {kind} learned from single texts", where=str(run.folder),
            fix="leave --context out" if by_context else "give single texts",
        )  # fmt: skip


def _learned_pairs(run: Run) -> bool | None:
    """Whether the texts that a classifier learned from were pairs, as its data has them; None where that is gone."""
    if run.recipe.data.pair_field is not None:
        return True
    try:
        records = read_task(run.recipe).divided.train
    except TrifectaError:
        return None
    return any(record.pair is not None for record in records)


def _warn_of_unknowns(run: Run, records: Sequence[Unlabelled]) -> None:
    """What the vocabulary lacks can't be judged rightly, which the user should know."""
    unknown = run.tokenizer.unk_id
    if unknown is None:
        return
    ids = [run.tokenizer.encode(text) for record in records for text in (record.text, record.pair) if text]
    if count := sum(int((row == unknown).sum()) for row in ids):
        warnings.warn(
            f"{count:,} of the texts' {sum(map(len, ids)):,} tokens aren't in this model's vocabulary", stacklevel=2
        )


def require_predictor(run: Run) -> str:
    """The kind of the run's predictions.

    Raises:
        RecipeError: it makes none.
    """
    kind = run.recipe.objective.type
    if kind not in PREDICTORS:
        raise RecipeError(
            f"a run with objective.type {kind} goes on with a text, it predicts nothing about it",
            where=str(run.folder), fix="use trifecta generate",
        )  # fmt: skip
    return kind


def texts_of(run: Run, arguments: Sequence[str], context: str | None = None) -> list[Any]:
    """The texts that arguments mean: files, - for standard input, else the arguments themselves; in order. Or images.

    Raises:
        DataError: broken files or empty texts, with their places. RecipeError: as for `require_predictor`.
    """
    kind, data = require_predictor(run), run.recipe.data
    if kind == "images":
        return [image for argument in arguments for image in images_of(argument)]
    found: list[Any] = []
    for number, argument in enumerate(arguments, 1):
        if _is_file(argument):
            found += read_unlabelled(
                [argument], kind, text_field=getattr(data, "source_field", None) or data.text_field,
                pair_field=data.pair_field, context=context,
            )  # fmt: skip
        else:
            found.append(_record(argument, number, context))
    return found


def _records(
    kind: str, text: str | Path | Sequence[str] | Unlabelled | LabelledImage, number: int, context: str | None
) -> Sequence[Any]:
    """What of an argument of `predict_texts` is judged; a folder of images is many."""
    if isinstance(text, LabelledImage):
        return [text]
    if kind == "images":
        return images_of(str(text))
    return [_record(str(text) if isinstance(text, Path) else text, number, context)]


def name_of(record: Unlabelled | LabelledImage) -> dict[str, str]:
    """What was judged, as it is named beside its prediction."""
    if isinstance(record, LabelledImage):
        return {"image": record.place}
    return ({} if record.id is None else {"id": record.id}) | {"text": record.text}


def _record(text: str | Sequence[str] | Unlabelled, number: int, context: str | None) -> Unlabelled:
    if isinstance(text, Unlabelled):
        return text
    place = f"text {number}"
    parts = [text] if isinstance(text, str) else list(text)
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, str) and part.strip() for part in parts):
        raise RecipeError(f"{str(text)[:60]!r} is no text, nor a pair of texts", where=place, fix="give a text")
    return Unlabelled(parts[0], parts[1] if len(parts) == 2 else context, place=place)


def _is_file(argument: str) -> bool:
    """Whether an argument names a file: it is there, or its name ends as files' names do and has no spaces."""
    if argument == STANDARD_INPUT:
        return True
    if not argument:
        return False
    try:
        if Path(argument).expanduser().exists():
            return True
    except (OSError, ValueError, RuntimeError):
        return False
    return argument.lower().endswith(_FILES) and " " not in argument
