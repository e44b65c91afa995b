"""What a user asked for, whichever door he came through, and the recipe that it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """Preset or recipe file, `key=value` overrides, flags and data, as given.

    config: a recipe file or a preset's name. flags: canonical key -> (the flag's name, value).
    """

    config: str | None = None
    preset: str | None = None
    overrides: tuple[str, ...] = ()
    flags: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    arch: str | None = None

    def all_flags(self) -> dict[str, tuple[str, Any]]:
        """Flags with data and architecture among them."""
        flags = dict(self.flags)
        if self.data:
            flags["data.paths"] = ("DATA", list(self.data))
        if self.arch:
            flags["model.type"] = ("--arch", self.arch)
        return flags
