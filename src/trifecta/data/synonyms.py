"""Synonyms from the user's table, a MyThes thesaurus, WordNet, or the neighbours in a table of embeddings.

Only of the words that the data has, so that the result is small wherever it comes from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trifecta.data.files import InputFile
from trifecta.data.tasks.objects import text_of_file
from trifecta.data.tasks.tables import input_files
from trifecta.data.words import Synonyms
from trifecta.errors import DataError

MYTHES_FOLDERS = (
    "/usr/share/mythes", "/usr/share/myspell/dicts", "/usr/lib/libreoffice/share/extensions/dict-en",
    "/opt/homebrew/share/mythes",
)  # fmt: skip
"""Where systems keep thesauri (Debian: mythes-en-us)."""
_REMARK = re.compile(r"\s*\([^)]*\)")
_NEIGHBOURS = 5
_LEAST_COSINE = 0.3
_COMMON = """
a about after all also am an and any are as at be because been before being but by can could did do does each for from
had has have he her here him his how i if in into is it its just may me might more most my no nor not now of on one only
or other our out over own same shall she should so some such than that the their them then there these they this those
to too under up us very was we were what when where which while who whom why will with would you your
"""
COMMON_WORDS = frozenset(_COMMON.split())
"""English words without a meaning of their own: no thesaurus is asked for them (EDA leaves stop words alone)."""

_FIX = "write lines of a word and its synonyms, divided by tabs"


def load_synonyms(
    source: str, path: str | None, words: Collection[str], embeddings: Callable[[str], Synonyms] | None = None
) -> dict[str, tuple[str, ...]]:
    """Synonyms of the words that have any.

    Args:
        source: file, mythes, wordnet or embeddings. path: of the table, of the thesaurus' .dat, or of a run.
        words: in small letters. embeddings: path of a run -> neighbours of its words.

    Raises:
        DataError: the source isn't there, is broken, or knows none of the words.
    """
    if source == "file":
        assert path is not None
        found = dict(read_table_of_synonyms(path))
    elif source == "mythes":
        found = dict(read_mythes(path, frozenset(words) - COMMON_WORDS))
    elif source == "wordnet":
        found = dict(read_wordnet(sorted(set(words) - COMMON_WORDS)))
    else:
        assert path is not None
        assert embeddings is not None
        found = {word: others for word, others in embeddings(path).items() if word not in COMMON_WORDS}
    kept = {word: found[word] for word in sorted(words) if found.get(word)}
    if not kept:
        raise DataError(
            f"none of the {len(words):,} words of the data has a synonym there", where=path or source,
            fix="give a thesaurus of the data's language (data.augment.synonyms, data.augment.synonyms_path)",
        )  # fmt: skip
    return kept


def digest_of(synonyms: Synonyms) -> str:
    """SHA-256 of what a table says."""
    return hashlib.sha256(repr(sorted(synonyms.items())).encode("utf-8", "surrogatepass")).hexdigest()


def read_table_of_synonyms(path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Words with their synonyms, of lines `word<TAB>synonym<TAB>synonym`.

    Raises:
        DataError: no line, a line of one column, or a blank one; with the line.
    """
    (file,) = _one_file(path)
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text_of_file(file).split("\n"), 1):
        if not line.strip():
            continue
        word, *others = (cell.strip() for cell in line.rstrip("\r").split("\t"))
        if not word or not others or not all(others):
            raise DataError(
                "a word without a synonym" if word and not others else "an empty cell", where=f"{file.place}:{number}",
                fix=_FIX,
            )  # fmt: skip
        found[word.casefold()] = _others(word, [*found.get(word.casefold(), ()), *others])
    if not found:
        raise DataError("there are no synonyms: it is empty", where=file.place, fix=_FIX)
    yield from found.items()


def read_mythes(path: str | None, words: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The words of a MyThes thesaurus (.dat; its .idx isn't needed): an encoding, then `word|meanings` and as many
    lines of `(kind)|synonym|synonym (remark)`. Antonyms are left out.

    Raises:
        DataError: there is none, or it is none.
    """
    place = Path(path).expanduser() if path is not None else _system_thesaurus()
    if place.suffix == ".idx":
        place = place.with_suffix(".dat")
    try:
        raw = place.read_bytes()
        encoding, _, rest = raw.partition(b"\n")
        lines = rest.decode(encoding.decode("ascii").strip()).split("\n")
    except (OSError, LookupError, UnicodeError) as error:
        raise DataError(f"no thesaurus can be read: {error}", where=str(place), fix=_MYTHES_FIX) from error
    at = 0
    while at < len(lines) and lines[at].strip():
        word, _, count = lines[at].rstrip("\r").rpartition("|")
        if not word or not count.isdigit():
            raise DataError("`word|number` was wanted", where=f"{place}:{at + 2}", fix=_MYTHES_FIX)
        meanings = lines[at + 1 : at + 1 + int(count)]
        at += 1 + int(count)
        if word.casefold() in words:
            cells = [cell for line in meanings for cell in line.rstrip("\r").split("|")[1:] if "antonym" not in cell]
            yield word.casefold(), _others(word, (_REMARK.sub("", cell).strip() for cell in cells))


_MYTHES_FIX = (
    "install one (Debian: apt install mythes-en-us), or name its .dat file: data.augment.synonyms_path=FILE.dat"
)


def _system_thesaurus() -> Path:
    found = [path for folder in MYTHES_FOLDERS for path in sorted(Path(folder).glob("th_en*.dat"))]
    if not found:
        raise DataError("this system has no MyThes thesaurus", where=", ".join(MYTHES_FOLDERS), fix=_MYTHES_FIX)
    return found[0]


def read_wordnet(words: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Lemmas of the synsets of each word, by NLTK's WordNet, of which nothing is downloaded here.

    Raises:
        DataError: NLTK or its WordNet isn't there.
    """
    try:
        from nltk.corpus import wordnet  # type: ignore[import-untyped]

        for word in words:
            names = (name for synset in wordnet.synsets(word) for name in synset.lemma_names())
            yield word, _others(word, (name.replace("_", " ") for name in names))
    except (ImportError, LookupError) as error:
        raise DataError(
            "NLTK's WordNet isn't there",
            fix="pip install nltk && python -m nltk.downloader wordnet; or set data.augment.synonyms to file or mythes",
        ) from error


def neighbours(vectors_ND: npt.NDArray[Any], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each word the nearest others by cosine, at most five, that are at least a little alike (0.3).

    The mean of all vectors is taken off first: embeddings share a direction that says nothing (Mu and Viswanath, 2018).

    Args:
        vectors_ND: a row for each name.
    """
    centred_ND = vectors_ND.astype(np.float64) - vectors_ND.mean(0)
    centred_ND /= np.maximum(np.linalg.norm(centred_ND, axis=1, keepdims=True), 1e-12)
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(names), 1024):
        cosines = centred_ND[start : start + 1024] @ centred_ND.T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : 2 * _NEIGHBOURS + 1]
        for row, places in enumerate(nearest.tolist()):
            alike = [names[place] for place in places if cosines[row, place] >= _LEAST_COSINE]
            others = _others(names[start + row], alike)[:_NEIGHBOURS]
            if others:
                found.setdefault(names[start + row].casefold(), others)
    return found


def _others(word: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names that aren't the word, each once."""
    known = word.casefold()
    return tuple(name for name in dict.fromkeys(names) if name and name.casefold() != known)


def _one_file(path: str) -> tuple[InputFile]:
    files = input_files([path])
    if len(files) != 1:
        raise DataError(f"one file was wanted, and this means {len(files)}", where=path, fix="name one file")
    return (files[0],)
