"""Bytes to text: UTF-8, checked, with the line and byte of whatever is wrong."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Literal

from trifecta.errors import DataError

_UTF8_BOM = b"\xef\xbb\xbf"
# UTF-32's first: UTF-16's little-endian mark is its beginning.
_OTHER_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32LE",
    b"\x00\x00\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
_BINARY = {
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture",
    b"\x7fELF": "a program (ELF)",
    b"PK\x03\x04": "a zip archive (or .docx, .xlsx, .epub)", b"PK\x05\x06": "an empty zip archive",
    b"%PDF-": "a PDF", b"\xfd7zXZ\x00": "xz data", b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"BZh91AY&SY": "bzip2 data",
    b"SQLite format 3\x00": "an SQLite database", b"PAR1": "Parquet (name it .parquet)",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"\x89HDF": "HDF5", b"OggS": "Ogg audio", b"\xca\xfe\xba\xbe": "a program", b"\x00asm": "WebAssembly",
}  # fmt: skip
_SIGNAL_BYTES = bytes(value for value in range(1, 0x20) if value not in b"\t\n\v\f\r\x1b")
_FIRST_BYTES = 65_536
_MANY = 0.1
"""Share of control bytes (NUL, which has a message of its own, not among them) from which on bytes aren't text."""


class TextDecoder:
    """Decodes one file. After reading, `bom_removed` and `replacements` say what was noticed.

    Args:
        place: how messages name the file.
        invalid_utf8: refuse, or replace each invalid sequence by U+FFFD and count it.
        allow_nul: let NUL bytes pass.
        folder: the folder that was given and holds the file; empty when the file itself was.
    """

    def __init__(self, place: str, *, invalid_utf8: Literal["refuse", "replace"], allow_nul: bool, folder: str = ""):
        self._folder = folder
        self.place, self.invalid_utf8, self.allow_nul = place, invalid_utf8, allow_nul
        self.bom_removed = False
        self.replacements = 0
        self._offset = 0  # of the next byte to decode, in the unpacked file
        self._line = 1
        self._waiting = b""  # the beginning of a character whose rest hasn't come

    def decode(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """Text of the bytes.

        Raises:
            DataError: binary data, another encoding, invalid UTF-8 or a NUL byte.
        """
        first = True
        try:
            for chunk in _with_long_first(chunks):
                if first:
                    chunk = self._look_at_start(chunk)
                    first = False
                yield self._decode(chunk, final=False)
            yield self._decode(b"", final=True)
        except DataError as error:
            if self._folder:
                only_texts = f"{self._folder.rstrip('/')}/**/*.txt"
                error.fix = f"{error.fix}; or name only the texts of the folder, such as '{only_texts}'"
            raise

    def _look_at_start(self, start: bytes) -> bytes:
        for mark, name in _OTHER_BOMS.items():
            if start.startswith(mark):
                raise DataError(
                    f"this is {name} (it starts with the byte order mark {mark.hex(' ').upper()}); UTF-8 is wanted",
                    where=f"{self.place}:1",
                    fix=f"convert it: iconv -f {name[:6]} -t UTF-8 FILE > NEW",
                )
        name = next((name for magic, name in _BINARY.items() if start.startswith(magic)), "")
        sample = start[:_FIRST_BYTES]
        signals = len(sample) - len(sample.translate(None, _SIGNAL_BYTES))
        if not name and signals > _MANY * len(sample):
            name = f"{signals} of its first {len(sample)} bytes are control characters"
        if not self.allow_nul and 0.4 * len(sample) < max(sample[::2].count(0), sample[1::2].count(0)):
            name = name or "every other byte is NUL; it may be UTF-16 without a byte order mark"
        if name:
            raise DataError(
                f"binary data, not text: {name}",
                where=self.place,
                fix="give a UTF-8 text file; a folder of images needs --arch vit"
                if "picture" in name
                else "give a UTF-8 text file",
            )
        if start.startswith(_UTF8_BOM):
            self.bom_removed = True
            self._offset = len(_UTF8_BOM)
            return start[len(_UTF8_BOM) :]
        return start

    def _decode(self, chunk: bytes, *, final: bool) -> str:
        data = self._waiting + chunk
        if not self.allow_nul and (nul := data.find(b"\x00")) >= 0:
            raise DataError(
                f"a NUL byte at byte {self._offset + nul}; text has none",
                where=self._place_of(data, nul),
                fix="remove it, set data.remove_control_characters=true, or use the byte tokenizer: tokenizer=byte",
            )
        errors = "strict" if self.invalid_utf8 == "refuse" else "replace"
        try:
            text, used = codecs.utf_8_decode(data, errors, final)
        except UnicodeDecodeError as error:
            found = data[error.start : error.end].hex(" ").upper()
            raise DataError(
                f"invalid UTF-8 at byte {self._offset + error.start}: {found} ({error.reason})",
                where=self._place_of(data, error.start),
                fix="save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 FILE > NEW), or set data.invalid_utf8=replace",
            ) from error
        if errors == "replace":
            self.replacements += text.count("\ufffd") - data[:used].count(b"\xef\xbf\xbd")
        self._waiting = data[used:]
        self._offset += used
        self._line += data.count(b"\n", 0, used)
        return text

    def _place_of(self, data: bytes, position: int) -> str:
        line = self._line + data.count(b"\n", 0, position)
        return f"{self.place}:{line}"


def _with_long_first(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes; the first chunk holds enough to tell what the file is, however small they came."""
    chunks = iter(chunks)
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= _FIRST_BYTES:
            break
    if first:
        yield first
    yield from chunks
