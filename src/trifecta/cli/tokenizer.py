"""`trifecta tokenizer train` and `trifecta tokenizer show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifecta.cli import options

if TYPE_CHECKING:
    from trifecta.tokenizers import Tokenizer

FIRST_TOKENS = 20

app = typer.Typer(name="tokenizer")


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Train a tokenizer by itself, or look into one."""
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")


@app.command()
def train(
    data: options.Arguments = None,
    type: Annotated[str, typer.Option(metavar="NAME", help="char, byte, bpe, wordpiece or unigram.")] = "bpe",
    vocab_size: Annotated[
        int | None, typer.Option(metavar="N", help="Number of tokens, special ones included.")
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE", help="A new file.", parser=options.path_of)
    ] = Path("tokenizer.json"),
) -> None:
    """Train a tokenizer on text and save it as tokenizer.json.

    Example: trifecta tokenizer train book.txt --type bpe --vocab-size 2000 -o book.json
    """
    options.refuse_existing(out)
    from trifecta.data.sources import Sources
    from trifecta.recipe.sources import collect
    from trifecta.registry import build
    from trifecta.tokenizers import TOKENIZERS

    recipes, overrides, paths = options.split(data or [])
    flags: dict[str, tuple[str, Any]] = {"tokenizer.type": ("--type", type)}
    if vocab_size is not None:
        flags["tokenizer.vocab_size"] = ("--vocab-size", vocab_size)
    tree = collect(config=recipes[0] if recipes else None, overrides=overrides, flags=flags)
    recipe = tree.resolve().recipe
    reading = recipe.data.model_dump(
        include={"text_field", "invalid_utf8", "remove_control_characters", "collapse_whitespace", "cache_dir"}
    )
    sources = Sources(list(paths), builtin=recipe.data.builtin or (None if paths else "auto"), **reading)
    fields = recipe.tokenizer.model_dump(exclude={"type"})
    texts = (piece.text for piece in sources.pieces())
    trained: Tokenizer = build(TOKENIZERS, recipe.tokenizer.type, "tokenizer", texts, **fields)
    options.write_new(out, trained.to_json())
    for note in sources.notes:
        print(f"note: {note}")
    print(f"{trained.type} tokenizer with {trained.vocab_size:,} tokens: {out}")
    print(f"Use it: trifecta train DATA tokenizer.type=file tokenizer.path={out}")


@app.command()
def show(
    path: Annotated[
        str, typer.Argument(metavar="FILE", help="A tokenizer.json, or a run with one.", show_default=False)
    ],
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Show how this is cut.")] = None,
) -> None:
    """Say what a tokenizer is, and how it cuts a text.

    Example: trifecta tokenizer show runs/book --text "To be, or not to be"
    """
    from trifecta.tokenizers import fingerprint, load_tokenizer

    loaded = load_tokenizer(path)
    print(f"type            {loaded.type}")
    print(f"tokens          {loaded.vocab_size:,}")
    print(f"lossless        {'yes' if loaded.lossless else 'no'}")
    print(f"end of text     {loaded.eos_id}")
    print(f"fingerprint     {fingerprint(loaded)}")
    if text is None:
        first = " ".join(_shown(loaded, token) for token in range(min(FIRST_TOKENS, loaded.vocab_size)))
        print(f"first tokens    {first}")
    else:
        ids = [int(token) for token in loaded.encode(text)]
        print(f"cut             {' '.join(_shown(loaded, token) for token in ids)}")
        print(f"ids             {' '.join(map(str, ids))}")
        print(f"comes back      {'exactly' if loaded.decode(ids) == text else 'changed'}")


def _shown(tokenizer: Tokenizer, token: int) -> str:
    return f"[{tokenizer.token_text(token)}]"
