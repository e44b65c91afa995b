"""`trifecta import` and `trifecta export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trifecta.cli import options

if TYPE_CHECKING:
    from trifecta.run.convert import Conversion


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Holds config.json, model.safetensors and tokenizer.json.", show_default=False,
            parser=options.path_of,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="RUN", help="The run's folder. Default: in runs/.", parser=options.path_of),
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", metavar="", help="Read pickled weights too, and nothing else of them.")
    ] = False,
) -> None:  # fmt: skip
    """Make a run of a Hugging Face model: GPT-2, Llama, Qwen3, Starcoder2, four kinds of BERT, T5, ViT.

    Example: trifecta import Downloads/bert-base-uncased -o runs/bert
    """
    from trifecta.run import convert

    made = convert.import_folder(source, out, allow_pickle=allow_pickle)
    _tell(made)
    if made.model_type == "vit":
        print(f"Ask it: trifecta predict {made.folder} IMAGE")
        print(f"Teach it other classes: trifecta finetune {made.folder} FOLDER --task images")
        return
    if made.new_head:
        print("Its head for tokens is new and says nothing yet: train it, or teach it a task with trifecta finetune")
    else:
        print(f"Measure it on your text: trifecta evaluate {made.folder} --data book.txt")
    print(f"Train it on: trifecta train book.txt --config {made.folder}/recipe.yaml --load-weights {made.folder}")


def export(
    run: options.Run,
    out: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False, parser=options.path_of)
    ],
    to: Annotated[
        Literal["hf", "peft"],
        typer.Option(help="hf: a folder that Hugging Face's transformers loads; peft: what LoRA trained, by itself."),
    ] = "hf",
) -> None:
    """Write a trained model for other programs: config.json, model.safetensors, tokenizer.json.

    Example: trifecta export runs/book --to hf book-hf
    """
    from trifecta.run import convert

    if to == "peft":
        from trifecta.run.adapters import export_adapter

        made = export_adapter(run, out)
        _tell(made)
        print(f"Load it: peft.PeftModel.from_pretrained(model, {str(made.folder)!r})")
        return
    made = convert.export_run(run, out)
    _tell(made)
    auto = "AutoImageProcessor" if made.model_type == "vit" else "AutoTokenizer"
    print(f"Load it: transformers.{auto}.from_pretrained({str(made.folder)!r})")


def _tell(made: Conversion) -> None:
    for note in made.notes:
        print(f"note: {note}")
    tokens = f" and {made.vocab_size:,} tokens" if made.vocab_size else ""
    print(f"{made.model_type} with {made.parameters:,} parameters{tokens}: {made.folder}")
