"""Names that become folders."""

from __future__ import annotations

import re

from trifecta.errors import RecipeError
from trifecta.recipe.tree import clip

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


def check_run_name(name: str) -> str:
    """The name itself, if it can only be one folder inside the runs' folder.

    Raises:
        RecipeError: it could lead elsewhere, hide itself or not be a file name (FAULTS 69).
    """
    if not _RUN_NAME.fullmatch(name) or ".." in name:
        raise RecipeError(
            f"{clip(name)!r} can't be a run's name: it must begin with a letter or digit, hold only letters, digits, "
            "'-', '_' and single '.', and have at most 120 characters",
            where="command line", fix="choose another name, or give a folder with -o",
        )  # fmt: skip
    return name


def slug(text: str, width: int = 40) -> str:
    """Lower-case letters, digits and dashes of a text; `recipe` where none is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:width].strip("-") or "recipe"
