"""One exception for each kind of cause, each with its exit code, its place and its fix.

Exit codes: 0 done; 1 internal error; 2 recipe or usage; 3 data; 4 checkpoint; 5 numerical; 6 resources;
7 refused as unsafe; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrifectaError(ValueError):
    """What a user can mend: what was found, where, and how to put it right.

    Args:
        what: what was found and what was wanted, in one sentence.
        where: `file`, `file:line` or `file:line:column`; None when there is no place.
        fix: what to do about it, as an instruction.
        excerpt: the offending line with a caret under it, ready to print.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None, excerpt: str | None = None):
        super().__init__(what)
        self.what, self.where, self.fix, self.excerpt = what, where, fix, excerpt

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.excerpt:
            lines.append(self.excerpt)
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class RecipeError(TrifectaError):
    """The recipe, a flag or an argument is wrong."""

    exit_code = 2


class RecipeErrors(RecipeError):
    """Every error of a recipe at once."""

    def __init__(self, errors: Iterable[RecipeError]):
        self.errors = list(errors)
        super().__init__(f"{len(self.errors)} errors in the recipe")

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class DataError(TrifectaError):
    """The data can't be read, or can't be trained on."""

    exit_code = 3


class CheckpointError(TrifectaError):
    """A run folder or a checkpoint is missing, damaged or doesn't fit."""

    exit_code = 4


class NumericsError(TrifectaError):
    """Losses or gradients stopped being numbers."""

    exit_code = 5


class ResourceError(TrifectaError):
    """Memory, disk, device or permission is lacking."""

    exit_code = 6


class UnsafeError(TrifectaError):
    """Refused because it could run somebody else's code."""

    exit_code = 7


_MEMORY_SIGNS = ("DefaultCPUAllocator", "not enough memory", "out of memory", "could not create a primitive")


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own error, or one of torch's, which are known by their names and texts: torch isn't loaded for this."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or any(sign in str(error) for sign in _MEMORY_SIGNS))
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'cosine'?` for the nearest of the known names, or an empty string.

    Names are compared whole first, then by their last dotted part.
    """
    choices = sorted(set(known))
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if not near:
        by_tail = {choice.rpartition(".")[2]: choice for choice in reversed(choices)}
        tail = difflib.get_close_matches(name.rpartition(".")[2], by_tail, n=1, cutoff=0.6)
        near = [by_tail[tail[0]]] if tail else []
    return f"did you mean {near[0]!r}?" if near else ""
