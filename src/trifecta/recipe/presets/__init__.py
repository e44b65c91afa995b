"""Recipes that ship with trifecta, each a YAML file that says in its first line what it is."""

from __future__ import annotations

from importlib import resources

from trifecta.errors import RecipeError, did_you_mean

AUTO = "auto"
AUTOS = {"gpt": AUTO, "bert": "auto-bert", "t5": "auto-t5", "vit": "auto-vit"}
"""Architecture -> the preset that is sized to the data and the device."""

_ORDER = (
    AUTO, "small", "medium", "large", "modern", "demo", "tutorial", "gpt-s0",
    "auto-bert", "bert-modern", "bert-base", "bert-s0", "demo-bert", "auto-t5", "t5-modern", "t5-small", "t5-base",
    "t5-s0", "demo-t5", "auto-vit", "vit-tiny", "vit-base", "vit-digits",
)  # fmt: skip


def preset_names() -> tuple[str, ...]:
    """Every preset, the automatic one first."""
    return _ORDER


def preset_text(name: str) -> str:
    """A preset as YAML.

    Raises:
        RecipeError: no such preset; the message names the nearest one.
    """
    if name not in _ORDER:
        raise RecipeError(
            f"unknown preset {name!r}; {did_you_mean(name, _ORDER)}".rstrip("; "),
            where="command line", fix=f"use one of: {', '.join(_ORDER)}",
        )  # fmt: skip
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text("utf-8")


def preset_summary(name: str) -> str:
    """What a preset is, in one line."""
    return preset_text(name).partition("\n")[0].removeprefix("#").strip()
