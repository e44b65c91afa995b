"""Numbers and foreign text made fit for a terminal."""

from __future__ import annotations

import math
import re

# C0 and C1 controls, DEL, and what reorders text: bidirectional marks, embeddings, overrides and isolates. Tab and line
# feed are left.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with control characters made visible, so that text a model wrote can't command the terminal.

    ESC becomes the one-column symbol U+241B and so on; what has no symbol becomes an escape such as \\x9b or \\u202e.
    """

    def shown(match: re.Match[str]) -> str:
        code = ord(match[0])
        if code < 0x20:
            return chr(0x2400 + code)
        if code == 0x7F:
            return "\u2421"
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _CONTROLS.sub(shown, text.replace("\r\n", "\n"))


def fixed(value: float | None, digits: int = 4) -> str:
    """`3.1416`; `nan` for what isn't a finite number."""
    return "nan" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def rate(value: float | None) -> str:
    """A learning rate as `1.50e-04`; of exactly zero, with which some schedules end, that it is meant."""
    if value == 0:
        return "0 (as scheduled)"
    return "nan" if value is None or not math.isfinite(value) else f"{value:.2e}"


def count(value: float) -> str:
    """`1,044,736`."""
    return f"{round(value):,}"


def short_count(value: float) -> str:
    """Three digits: `950`, `12.3k`, `1.04M`, `2.50G`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            scaled = value / size
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{unit}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Bytes as `512 bytes`, `1.5 MiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """`230 ms`, `45 s`, `3 min 05 s`, `2 h 07 min`, `3 d 4 h`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
