from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trifecta.tracking import terminal


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("over\rwrite\b\x7f", "over␍write␈␡"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("line\r\nline\tcolumn", "line\nline\tcolumn"),
        ("größer 你好 🎉 á", "größer 你好 🎉 á"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_visible(text: str, shown: str):
    assert terminal.visible(text) == shown


@given(st.text())
def test_visible_leaves_no_control_character(text: str):
    shown = terminal.visible(text)
    assert all(
        character in "\n\t" or not (ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0) for character in shown
    )
    assert terminal.visible(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.2304, "230 ms"),
        (0.9999, "1 s"),
        (45.2, "45 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_duration(seconds: float, text: str):
    assert terminal.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(950, "950"), (12_345, "12.3k"), (1_044_736, "1.04M"), (2.5e9, "2.50G"), (4e5, "400k")]
)
def test_short_count(value: float, text: str):
    assert terminal.short_count(value) == text


def test_size_and_numbers():
    assert [terminal.size(n) for n in (512, 1536, 3 * 2**20, 5 * 2**40)] == [
        "512 bytes",
        "1.5 KiB",
        "3.0 MiB",
        "5.0 TiB",
    ]
    assert [terminal.fixed(x) for x in (7.23412, None, math.nan, math.inf)] == ["7.2341", "nan", "nan", "nan"]
    assert [terminal.rate(x) for x in (1.5e-4, 0.0, None)] == ["1.50e-04", "0 (as scheduled)", "nan"]
    assert terminal.count(1_044_736) == "1,044,736"
