"""`trifecta augment`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from trifecta.cli import options
from trifecta.errors import RecipeError

_MODELS = "By your own models"


def augment(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", help="Labelled files, as `trifecta finetune` takes them.", show_default=False,
                       callback=options.not_empty),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="OUT.jsonl", help="Where records and copies are written.",
                          callback=options.not_empty, show_default=False)
    ],
    method: Annotated[
        str,
        typer.Option(metavar="NAME", show_default=False,
                     help="eda (the next four together), synonyms, insert, swap, delete, substitute, back-translate."),
    ],
    task: Annotated[
        str, typer.Option(metavar="NAME", help="What the data is for: classify, tag, answer or translate.")
    ] = "classify",
    copies: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Copies of each record.")] = 1,
    share: Annotated[
        float | None, typer.Option(metavar="X", min=0.001, max=0.999, help="Share of the words changed. Default: 0.1.")
    ] = None,
    synonyms: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="file, mythes, wordnet or embeddings: as data.augment.synonyms.")
    ] = None,
    synonyms_path: Annotated[
        str | None, typer.Option(metavar="PATH", help="The table, the thesaurus, or the run.",
                                 callback=options.not_empty)
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="RUN", help="substitute: a BERT trained on masked tokens.",
                                 rich_help_panel=_MODELS, callback=options.not_empty)
    ] = None,
    forward: Annotated[
        str | None, typer.Option(metavar="RUN", help="back-translate: a T5 that translates your texts.",
                                 rich_help_panel=_MODELS, callback=options.not_empty)
    ] = None,
    backward: Annotated[
        str | None, typer.Option(metavar="RUN", help="back-translate: a T5 that translates them back.",
                                 rich_help_panel=_MODELS, callback=options.not_empty)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="back-translate: above 0 draws tokens. Default: 0.",
                                   rich_help_panel=_MODELS)
    ] = None,
    only_copies: Annotated[
        bool, typer.Option("--only-copies", metavar="", help="Leave the records themselves out.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="All random choices follow from it.")] = 0,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace OUT.jsonl if it is there.")] = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object.")] = False,
) -> None:  # fmt: skip
    """Write labelled data with changed copies of its records; labels, entities and answers stay right.

    Example: trifecta augment reviews.csv -o more.jsonl --method substitute --model runs/bert --copies 2
    """
    from trifecta.run import rewriting
    from trifecta.tracking.journal import to_json
    from trifecta.training.files import replace_text

    started, path = time.perf_counter(), rewriting.require_new_jsonl(out, data, force)
    wanted = rewriting.Wanted(method, share, seed, synonyms, synonyms_path, model, forward, backward, temperature)
    with options.progress_line() as progress:
        made = rewriting.augment_files(data, task, wanted, copies=copies, only_copies=only_copies, report=progress)
    if not made.lines:
        raise RecipeError("no copy differs from its record, so there is nothing to write", where="--method",
                          fix=_WAY_OUT.get(method, "raise --share, or choose another method"))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(f"{line}\n" for line in made.lines))
    if json:
        print(to_json({
            "out": str(path), "method": method, "task": task, "records": made.records, "copies": made.copies,
            "unchanged": made.unchanged, "lines": len(made.lines), "seconds": time.perf_counter() - started,
        }))  # fmt: skip
        return
    why = "that would have been the same, or that the runs left untranslated," if method == "back-translate" else (
        "that would have been the same"
    )  # fmt: skip
    left = f"; {made.unchanged:,} {why} were left out" if made.unchanged else ""
    print(f"{path}: {len(made.lines):,} records, {made.copies:,} of them changed copies{left}")
    if made.copies:
        print("Validate on other files (data.validation_paths): copies of what is trained on would flatter the model.")


_WAY_OUT = {
    "back-translate": "give runs that have learned to translate, and whose data.sequence_length holds these texts: "
    "trifecta predict RUN shows what they write",
    "substitute": "raise --share, or give a run that has learned more",
}
"""Method -> what to do where it changed nothing."""
