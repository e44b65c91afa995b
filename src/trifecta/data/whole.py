"""A whole text as one token store, without a split: what a trained model is evaluated on."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path

from trifecta.data.cache import build_beside, explain_disk_errors, read_summed, summed
from trifecta.data.prepare import Encoder
from trifecta.data.sources import FORMAT_VERSION, Progress, Sources
from trifecta.data.store import PartWriter, TokenStore
from trifecta.errors import DataError

_PIECES_AT_ONCE = 16


def tokenize_whole(
    sources: Sources, tokenizer: Encoder, *, cache_dir: Path, progress: Progress | None = None
) -> TokenStore:
    """Tokenizes everything, or finds it done in the cache.

    Raises:
        DataError: fewer than two tokens, so that nothing can be predicted.
    """
    scan = sources.scan(progress)
    identity = f"{FORMAT_VERSION} {scan.fingerprint} {tokenizer.to_json()}"
    entry = cache_dir / "whole" / hashlib.sha256(identity.encode()).hexdigest()
    store = _open(entry)
    if store is None:
        with explain_disk_errors(entry.parent), build_beside(entry) as folder:
            _build(folder, sources, tokenizer, scan.documents, scan.characters, progress)
        store = _open(entry)
    if store is None or len(store) < 2:
        raise DataError(
            f"the text has {len(store) if store else 0} tokens, too few to predict one from another",
            where=", ".join(sources.paths), fix="give a longer text",
        )  # fmt: skip
    return store


def _build(
    folder: Path, sources: Sources, tokenizer: Encoder, documents: int, characters: int, progress: Progress | None
) -> None:
    end_of_text = tokenizer.eos_id if documents > 1 else None
    writer = PartWriter(
        folder, "validation", vocab_size=tokenizer.vocab_size, end_of_text=end_of_text, unknown=tokenizer.unk_id
    )
    try:
        pieces = sources.pieces()
        while batch := list(islice(pieces, _PIECES_AT_ONCE)):
            for piece, ids in zip(batch, tokenizer.encode_batch([piece.text for piece in batch]), strict=True):
                writer.add(ids, piece.text, ends_document=piece.ends_document)
            if progress:
                progress("tokenizing", min(1.0, writer.characters / characters))
    finally:
        writer.close()
    (folder / "meta.json").write_bytes(summed(writer.finish()))


def _open(entry: Path) -> TokenStore | None:
    try:
        return TokenStore(entry, "validation", read_summed(entry / "meta.json"), entry.name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
