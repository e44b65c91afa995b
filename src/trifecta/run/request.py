"""What a user asked for, whichever door he came through, and the recipe that it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trifecta.recipe.sources import Tree, collect


@dataclass(frozen=True)
class Request:
    """Preset or recipe file, `key=value` overrides, flags and data, as given.

    config: a recipe file or a preset's name. flags: canonical key -> (the flag's name, value). base: canonical key ->
    value, below everything that the user wrote, instead of a preset.
    """

    config: str | None = None
    preset: str | None = None
    overrides: tuple[str, ...] = ()
    flags: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    arch: str | None = None
    base: Mapping[str, Any] | None = None

    def tree(self) -> Tree:
        """Everything that was written, merged.

        Raises:
            RecipeErrors: with every error of every source.
        """
        return collect(
            config=self.config, preset=self.preset, overrides=self.overrides, flags=self.all_flags(), base=self.base
        )

    def all_flags(self) -> dict[str, tuple[str, Any]]:
        """Flags with data and architecture among them."""
        flags = dict(self.flags)
        if self.data:
            flags["data.paths"] = ("DATA", list(self.data))
        if self.arch:
            flags["model.type"] = ("--arch", self.arch)
        return flags
