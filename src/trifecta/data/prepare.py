"""Sources to token stores: split, tokenizer, tokens, all kept under the hash of what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from trifecta.data.cache import build_beside, default_cache_dir, explain_disk_errors, read_summed, summed
from trifecta.data.near_documents import documents_apart
from trifecta.data.pieces import Piece, training_texts
from trifecta.data.sources import FORMAT_VERSION, Progress, Scan, Sources
from trifecta.data.split import Part, Split, choose_split
from trifecta.data.store import Corpora, Int64, PartWriter, TokenStore
from trifecta.errors import DataError

_PIECES_AT_ONCE = 16
_SAME_TEXT = "validation documents have the same text as a training document"
_PARTS: tuple[Part, Part] = ("train", "validation")
_SEEN: dict[str, tuple[Part, ...]] = {"all": _PARTS, "training": ("train",), "none": ()}
"""What a tokenizer may see -> parts."""


class Encoder(Protocol):
    """What preparing needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_id(self) -> int: ...
    @property
    def unk_id(self) -> int | None: ...
    def encode_batch(self, texts: Sequence[str]) -> list[Int64]: ...
    def to_json(self) -> str: ...


T = TypeVar("T", bound=Encoder)


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """Text ready for training.

    scan: of the sources, without separate validation sources. fingerprint: of the text, how it is read and split, not
    of the tokenizer. notes: what the user should know. duplicates: validation documents whose text is also trained on.
    """

    train: TokenStore | Corpora
    validation: TokenStore | Corpora
    tokenizer: T
    scan: Scan
    fingerprint: str
    notes: list[str]
    duplicates: int


class _Text:
    """Training and validation text as pieces, as often as asked for."""

    def __init__(self, sources: Sources, validation_sources: Sources | None, split: Split | None):
        self._sources, self._validation_sources, self._split = sources, validation_sources, split

    def pieces(self) -> Iterator[tuple[Part, Piece]]:
        if self._split is not None:
            yield from self._split.divide(self._sources.pieces())
        else:
            assert self._validation_sources is not None
            yield from (("train", piece) for piece in self._sources.pieces())
            yield from (("validation", piece) for piece in self._validation_sources.pieces())


@dataclass(frozen=True)
class _TokenizerText:
    """The text that a tokenizer is trained on; each iteration reads it anew."""

    text: _Text
    parts: tuple[Part, ...]

    def __iter__(self) -> Iterator[str]:
        return training_texts(piece.text for part, piece in self.text.pieces() if part in self.parts)


def prepare(
    sources: Sources,
    validation_sources: Sources | None = None,
    *,
    make_tokenizer: Callable[[Iterable[str]], T],
    load_tokenizer: Callable[[str], T],
    tokenizer_key: str,
    tokenizer_text: Literal["all", "training", "none"] = "training",
    validation_split: float,
    near_duplicates: float | None = None,
    seed: int,
    sequence_length: int,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
    together: Iterable[str] | None = None,
) -> Prepared[T]:
    """Splits and tokenizes, or finds it done in the cache.

    Args:
        make_tokenizer: gets texts of about 2,000 characters, which it may read several times.
        load_tokenizer: the tokenizer of a to_json().
        tokenizer_key: the same for tokenizers that would be trained alike.
        tokenizer_text: what the tokenizer may see: only the training part, or all, which an alphabet should.
        validation_split: share of the text, when there are no validation_sources. near_duplicates: documents that have
            this much in common go to the same part; with validation_sources they are only counted.
        together: what the tokenizer is trained on instead; tokenizer_key then names it too.

    Raises:
        DataError: no text, or a part shorter than one sequence. ResourceError: the cache can't be written.
    """
    scan = sources.scan(progress)
    other = validation_sources.scan(progress) if validation_sources else None
    split = None if other else choose_split(
        scan.documents, scan.characters, validation_split=validation_split, seed=seed
    )  # fmt: skip
    near_notes: list[str] = []
    if near_duplicates is not None:
        folder = Path(cache_dir or default_cache_dir()) / "near"
        split, near_notes = documents_apart(sources, validation_sources, split, scan, near_duplicates, folder, progress)
    fingerprint = _hash([FORMAT_VERSION, scan.fingerprint, other and other.fingerprint, repr(split)])
    entry = Path(cache_dir or default_cache_dir()) / "tokens" / _hash([fingerprint, tokenizer_key, tokenizer_text])
    text = _Text(sources, validation_sources, split)
    found = _open(entry, load_tokenizer)
    if found is None:
        with explain_disk_errors(entry.parent), build_beside(entry) as folder:
            characters = scan.characters + (other.characters if other else 0)
            single = scan.documents == 1 and (other is None or other.documents == 1)
            if progress:
                progress("making the tokenizer", None)
            tokenizer = make_tokenizer(_TokenizerText(text, _SEEN[tokenizer_text]) if together is None else together)
            _build(folder, text, tokenizer, single_document=single, characters=characters, progress=progress)
        found = _open(entry, load_tokenizer)
        if found is None:
            raise DataError("the cache was damaged while it was built", where=str(entry), fix="try again")
    stores, tokenizer, meta = found
    train, validation = stores
    _require_length(train, validation, sequence_length, validation_split, separate=other is not None)
    notes = [*sources.notes, *(validation_sources.notes if validation_sources else []), *near_notes, *meta["notes"]]
    return Prepared(train, validation, tokenizer, scan, fingerprint, notes, int(meta["duplicates"]))


def prepare_corpora(
    corpora: Sequence[Sources],
    validation_sources: Sources | None = None,
    *,
    make_tokenizer: Callable[[Iterable[str]], T],
    tokenizer_key: str,
    tokenizer_text: Literal["all", "training", "none"],
    validation_split: float,
    seed: int,
    **preparing: Any,
) -> Prepared[T]:
    """Several texts, each split and tokenized by itself, with one tokenizer that has seen them all.

    Validation text is everybody's, or the sources of its own. Arguments and errors as of `prepare`.
    """
    scans = [sources.scan() for sources in corpora]
    texts = []
    for sources, scan in zip(corpora, scans, strict=True):
        split = None if validation_sources else choose_split(
            scan.documents, scan.characters, validation_split=validation_split, seed=seed
        )  # fmt: skip
        texts.append(_TokenizerText(_Text(sources, validation_sources, split), _SEEN[tokenizer_text]))
    made: list[T] = []

    def make_once(texts: Iterable[str]) -> T:
        made[:] = made or [make_tokenizer(texts)]
        return made[0]

    key = _hash([tokenizer_key, *(scan.fingerprint for scan in scans)])
    parts = [
        prepare(
            sources, validation_sources, make_tokenizer=make_once, tokenizer_key=key, tokenizer_text=tokenizer_text,
            validation_split=validation_split, seed=seed, together=_Chained(tuple(texts)), **preparing,
        )
        for sources in corpora
    ]  # fmt: skip
    held_out = parts[:1] if validation_sources else parts
    train = Corpora(tuple(store for part in parts for store in part.train.stores))
    validation = Corpora(tuple(store for part in held_out for store in part.validation.stores))
    shared, whole = _shared_documents(train, validation)
    notes = [note for part in parts for note in part.notes if not note.endswith(_SAME_TEXT)]
    notes += [f"{shared} of {whole} {_SAME_TEXT}"] if shared else []
    fingerprint = _hash([part.fingerprint for part in parts])
    return Prepared(train, validation, parts[0].tokenizer, _sum(scans), fingerprint, list(dict.fromkeys(notes)), shared)


def _shared_documents(train: Corpora, validation: Corpora) -> tuple[int, int]:
    """Documents of all validation parts that are in any training part too, and all of the former."""
    held_out = [document for store in validation.stores for document in _documents(store)]
    wanted = set(held_out)
    found = {document for store in train.stores for document in _documents(store) if document in wanted}
    return sum(document in found for document in held_out), len(held_out)


def _documents(store: TokenStore) -> Iterator[bytes]:
    """A digest of each document's tokens."""
    ends = [*store.documents[1:].tolist(), len(store.tokens)]
    for start, stop in zip(store.documents.tolist(), ends, strict=True):
        yield hashlib.blake2b(store.tokens[start:stop].astype("<u4").tobytes(), digest_size=8).digest()


@dataclass(frozen=True)
class _Chained:
    """Texts one after the other, as often as asked for."""

    texts: tuple[_TokenizerText, ...]

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            yield from text


def _sum(scans: Sequence[Scan]) -> Scan:
    return Scan(
        _hash([scan.fingerprint for scan in scans]), sum(scan.documents for scan in scans),
        sum(scan.characters for scan in scans), sum(scan.bytes for scan in scans),
    )  # fmt: skip


def _build(
    folder: Path, text: _Text, tokenizer: Encoder, *, single_document: bool, characters: int, progress: Progress | None
) -> None:
    """Writes an entry of the cache: both parts, tokenizer.json and, last, meta.json."""
    writers = {
        part: PartWriter(
            folder, part, vocab_size=tokenizer.vocab_size, unknown=tokenizer.unk_id,
            end_of_text=None if single_document else tokenizer.eos_id,
        )
        for part in _PARTS
    }  # fmt: skip
    try:
        pieces = text.pieces()
        while batch := list(islice(pieces, _PIECES_AT_ONCE)):
            encoded = tokenizer.encode_batch([piece.text for _, piece in batch])
            for (part, piece), ids in zip(batch, encoded, strict=True):
                writers[part].add(ids, piece.text, ends_document=piece.ends_document)
            if progress:
                done = sum(writer.characters for writer in writers.values())
                progress("tokenizing", min(1.0, done / characters))
    finally:
        for writer in writers.values():
            writer.close()
    if characters != (read := sum(writer.characters for writer in writers.values())):
        raise DataError(
            f"the text changed while it was read: {characters:,} characters at first, then {read:,}",
            fix="run again when nothing writes to it",
        )
    duplicates = _count_duplicates(writers["train"], writers["validation"])
    saved = tokenizer.to_json()
    (folder / "tokenizer.json").write_text(saved, encoding="utf-8", newline="")
    meta = {
        "version": FORMAT_VERSION,
        "tokenizer": _hash(saved),
        "parts": {part: writers[part].finish() for part in _PARTS},
        "duplicates": duplicates,
        "notes": _notes(writers, duplicates),
    }
    (folder / "meta.json").write_bytes(summed(meta))


def _open(entry: Path, load_tokenizer: Callable[[str], T]) -> tuple[list[TokenStore], T, dict[str, Any]] | None:
    """The entry of the cache, or None when it is missing or damaged."""
    try:
        meta = read_summed(entry / "meta.json")
        tokenizer_json = (entry / "tokenizer.json").read_text(encoding="utf-8")
        if meta["tokenizer"] != _hash(tokenizer_json):
            return None
        parts = meta["parts"]
        stores = [TokenStore(entry, part, parts[part], f"{entry.name}/{part}") for part in _PARTS]
        return stores, load_tokenizer(tokenizer_json), meta
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _count_duplicates(train: PartWriter, validation: PartWriter) -> int:
    return int(np.isin(np.array(validation.document_hashes), np.array(train.document_hashes)).sum())


def _notes(writers: dict[Part, PartWriter], duplicates: int) -> list[str]:
    notes = []
    if duplicates:
        whole = len(writers["validation"].document_hashes)
        notes.append(f"{duplicates} of {whole} {_SAME_TEXT}")
    if unknown := sum(writer.unknowns for writer in writers.values()):
        notes.append(f"{unknown:,} tokens of the text are <unk>: the vocabulary doesn't have what stood there")
    return notes


def _require_length(
    train: TokenStore, validation: TokenStore, sequence_length: int, validation_split: float, *, separate: bool
) -> None:
    """Each part must hold one whole sequence and its last target."""
    needed = sequence_length + 1
    for name, store in (("training", train), ("validation", validation)):
        if len(store) >= needed:
            continue
        shortest = min(len(train), len(validation)) - 1
        choices = ["give more text"]
        if shortest > 0:
            choices.append(f"set data.sequence_length to {shortest} or less")
        # Raising the share helps only where the training part can spare what validation lacks.
        if name == "validation" and not separate and len(train) + len(validation) >= 2 * needed:
            choices.append(f"raise training.validation_split above {validation_split:g}")
        raise DataError(
            f"the {name} part has {len(store)} tokens, but one sequence needs {needed} "
            f"(data.sequence_length {sequence_length} and one more)",
            fix=", or ".join(choices),
        )


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=asdict).encode()).hexdigest()
