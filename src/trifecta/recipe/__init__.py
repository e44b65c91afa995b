"""What the user wants: every way in ends in one frozen `Recipe`. No torch here."""

from __future__ import annotations

from trifecta.recipe.changes import Change, changes, refused_hash
from trifecta.recipe.dump import dump
from trifecta.recipe.keys import KnownKey, known_keys
from trifecta.recipe.names import check_run_name
from trifecta.recipe.presets import preset_names, preset_summary, preset_text
from trifecta.recipe.schema import Recipe
from trifecta.recipe.sources import Facts, Resolved, Tree, collect

__all__ = [
    "Change", "Facts", "KnownKey", "Recipe", "Resolved", "Tree", "changes", "check_run_name", "collect", "dump",
    "known_keys", "preset_names", "preset_summary", "preset_text", "refused_hash",
]  # fmt: skip
