"""Prepares files with a tokenizer, as a run does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trifecta.data import Prepared, Sources, prepare
from trifecta.tokenizers import TEXT_NEEDED, TOKENIZERS, from_json, tokenizer_key

Prepare = Callable[..., Prepared[Any]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a file and returns its path."""

    def made(name: str, content: str | bytes) -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    return made


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """prepare() of paths or Sources, with a tokenizer by its type."""

    def made(
        paths: list[str] | Sources, type: str = "char", validation: list[str] | None = None,
        fields: dict[str, Any] | None = None, **options: Any,
    ) -> Prepared[Any]:  # fmt: skip
        cache = tmp_path / "cache"
        sources = paths if isinstance(paths, Sources) else Sources(paths, cache_dir=cache)
        other = Sources(validation, cache_dir=cache) if validation else None
        fields = fields or {}
        options = {"validation_split": 0.1, "seed": 1, "sequence_length": 4, "cache_dir": cache} | options
        return prepare(
            sources, other, **({
                "make_tokenizer": lambda texts: TOKENIZERS[type](texts, **fields), "load_tokenizer": from_json,
                "tokenizer_key": tokenizer_key(type, **fields), "tokenizer_text": TEXT_NEEDED[type],
            } | options),
        )  # fmt: skip

    return made
