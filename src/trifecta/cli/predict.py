"""`trifecta predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer

from trifecta.cli import options
from trifecta.errors import RecipeError

_WRITING = "Runs that write"
_SHOWN = 60
"""Characters of a text that a line repeats."""


def predict(
    run: options.Run,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|TEXT]...", show_default=False,
            help="Texts, files (.txt: one on each line; .csv, .tsv, .jsonl: columns as in training, labels not needed; "
            "SQuAD's .json; images), or - for lines of standard input.",
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What a question is about; for a run that learned from pairs, each text's second one.",
            callback=options.not_empty,
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Candidates for each gap. Default: 5.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Texts in one forward pass.")] = 32,
    beams: Annotated[
        int | None,
        typer.Option("--beams", "--num-beams", metavar="N", rich_help_panel=_WRITING,
                     help="Texts written side by side; the best is kept. Default: 1."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Most tokens of a text. Default: as in training.",
                                 rich_help_panel=_WRITING)
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(metavar="X", help="With beams: above 0 favours long texts. Default: 1.",
                                   rich_help_panel=_WRITING)
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(metavar="N", help="Write no N tokens in a row twice. Default: no such rule.",
                                 rich_help_panel=_WRITING)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="Default: 0, which takes the likeliest token.",
                                   rich_help_panel=_WRITING)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="With a temperature: the same seed draws the same text.",
                                 rich_help_panel=_WRITING)
    ] = None,
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object for each text, in order.")] = False,
) -> None:  # fmt: skip
    """Ask a trained model about texts: classes, entities, answers, what fills their gaps, translations.

    Example: trifecta predict runs/reviews "A fine film." --json
    """
    arguments = texts or ([] if sys.stdin.isatty() else ["-"])
    if not arguments:
        raise typer.BadParameter("give a text, a file, or - for standard input")
    asked = {
        "num_beams": beams, "max_tokens": max_tokens, "length_penalty": length_penalty,
        "no_repeat_ngram": no_repeat_ngram, "temperature": temperature, "seed": seed,
    }  # fmt: skip
    writing = {name: value for name, value in asked.items() if value is not None}
    from trifecta import run as runner
    from trifecta.tracking.journal import to_json

    _require_effect(length_penalty is not None and (beams or 1) == 1, "--length-penalty", "there are no --beams")
    _require_effect(seed is not None and not temperature, "--seed", "nothing is drawn without a --temperature")
    trained = runner.load(run)
    fills = trained.recipe.objective.type == "masked"
    _require_effect(top_k is not None and not fills, "--top-k", "only what fills gaps has candidates")
    records = runner.texts_of(trained, arguments, context)
    with options.progress_line() as progress:
        found = runner.predict_texts(
            trained, records, context=context, batch_size=batch_size, top_k=top_k or 5, progress=progress, **writing
        )
    for record, prediction in zip(records, found, strict=True):
        what = runner.name_of(record)
        if json:
            print(to_json({**what, **prediction}))
        else:
            for line in lines_of(list(what.values())[-1], prediction):
                print(_safe(line))


def _require_effect(idle: bool, option: str, because: str) -> None:
    """No option is decoration.

    Raises:
        RecipeError: this one does nothing here.
    """
    if idle:
        raise RecipeError(f"it can't take effect: {because}", where=option, fix="leave it out")


def lines_of(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    """What a reader sees of one prediction."""
    shown = next((show for name, show in SHOWN.items() if name in prediction), None)
    yield from shown(_short(text), prediction) if shown else (str(value) for value in prediction.values())
    if prediction.get("cut"):
        yield f"  ({prediction['cut']} tokens of this text were left out: it is too long)"


def _class(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    yield f"{prediction['label']}  {prediction['probability']:.1%}  {text}"


def _classes(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    chosen = ", ".join(f"{name} {prediction['probabilities'][name]:.1%}" for name in prediction["labels"])
    yield f"{chosen or '(none)'}  {text}"


def _number(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    yield f"{prediction['value']:.4g}  {text}"


def _entities(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    yield text
    for entity in prediction["entities"]:
        place = f"{entity['start']}-{entity['end']}"
        yield f"  {place:>9}  {entity['label']}  {entity['text']}  {entity['score']:.1%}"


def _answer(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    place = f", characters {prediction['start']}-{prediction['end']}" if prediction["answer"] else ""
    yield f"{text}\n  {prediction['answer'] or '(no answer)'}  ({prediction['score']:.1%}{place})"


def _gaps(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    yield text
    for number, candidates in enumerate(prediction["gaps"], 1):
        for candidate in candidates:
            token, whole = candidate["token"].strip(), _short(candidate["text"])
            yield f"  {number}  {candidate['probability']:6.1%}  {token}  {whole}"


def _spans(text: str, prediction: Mapping[str, Any]) -> Iterator[str]:
    del text
    yield prediction["filled"]
    yield from (f"  {number}  {span!r}" for number, span in enumerate(prediction["spans"]))


SHOWN: dict[str, Callable[[str, Mapping[str, Any]], Iterator[str]]] = {
    "label": _class, "labels": _classes, "value": _number, "entities": _entities, "answer": _answer, "gaps": _gaps,
    "spans": _spans,
}  # fmt: skip
"""A prediction's first telling name -> its lines."""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _safe(line: str) -> str:
    """Into a file or a pipe exactly; onto a terminal with control characters made visible."""
    from trifecta.tracking.terminal import visible

    return "\n".join(map(visible, line.split("\n"))) if sys.stdout.isatty() else line
