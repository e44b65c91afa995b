"""Objectives over a tokenizer of bytes, for tests that don't mind which tokens there are."""

from __future__ import annotations

from typing import Any

from trifecta.objectives import OBJECTIVES, Text
from trifecta.tokenizers.byte import ByteTokenizer

SEQUENCE_LENGTH = 64
BYTES = ByteTokenizer()


def objective(name: str, sequence_length: int = SEQUENCE_LENGTH, *, documents: bool = False, **fields: Any) -> Any:
    """An objective by its name in recipes."""
    return OBJECTIVES[name](Text(BYTES, sequence_length, documents), **fields)


def causal(sequence_length: int = SEQUENCE_LENGTH) -> Any:
    """Next-token prediction."""
    return objective("causal", sequence_length)
