from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from trifecta.cli.repl import CHAT_HELP, COMMANDS, HELP, LIMITS, Chat, Repl, Settings
from trifecta.errors import DataError, RecipeError


class FakeRun:
    """Writes ` again` after each prompt; remembers what it was asked."""

    def __init__(self, pieces: list[Any] | None = None):
        self.pieces = [" ag", "ain"] if pieces is None else pieces
        self.prompts: list[str] = []
        self.options: list[dict[str, Any]] = []

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        self.prompts.append(prompt)
        self.options.append(options)
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece


def talk(lines: list[str | BaseException], run: FakeRun | None = None, **settings: Any) -> tuple[str, FakeRun, Repl]:
    run = run or FakeRun()
    left = iter(lines)
    written: list[str] = []

    def read(_: str) -> str:
        line = next(left, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    repl = Repl(run, Settings.checked(seed=7, **settings), read=read, write=written.append)
    repl.loop()
    return "".join(written).partition("\n")[2], run, repl


@pytest.mark.fast
def test_the_text_grows_until_reset():
    _, run, _ = talk(["Once", "", "more", "/reset", "New", "/quit", "never read"])
    assert run.prompts == ["Once", "Once again", "Once again again\nmore", "New"]


@pytest.mark.fast
def test_streams_as_it_writes_and_moves_on_with_the_seed():
    text, run, _ = talk(["a", "b"])
    assert text == " again\n again\n\n"
    assert [options["seed"] for options in run.options] == [7, 8]
    assert run.options[0] == {
        "max_tokens": 100, "temperature": 0.8, "top_k": None, "top_p": None, "repetition_penalty": 1.0, "seed": 7,
    }  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("/set temperature=1.0", "temperature", 1.0),
        ("/set top_k = 40", "top_k", 40),
        ("/set top-p=0.95", "top_p", 0.95),
        ("/set top_p=none", "top_p", None),
        ("/set seed=3", "seed", 3),
        ("/set max_tokens=5", "max_tokens", 5),
    ],
)
def test_set(line: str, name: str, value: Any):
    text, run, _ = talk([line, "a"])
    assert run.options[0][name] == value
    assert f"{name}={'none' if value is None else value}" in text


def test_seed_1_temperature_is_set():
    """S1's advice against repetition: temperature 1.0, top-p 0.95, top-k 40."""
    _, run, _ = talk(["/set temperature=1.0", "/set top_p=0.95", "/set top_k=40", "a"])
    assert {k: run.options[0][k] for k in ("temperature", "top_p", "top_k")} == {
        "temperature": 1.0, "top_p": 0.95, "top_k": 40,
    }  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/sett x", "did you mean '/set'?"),
        ("/foo", "/help lists them"),
        ("/temperature 0.2", "/set temperature=0.2"),
        ("/set temperature", "/set temperature=1.0"),
        ("/set temprature=1", "did you mean 'temperature'?"),
        ("/set zzz=1", "max_tokens"),
        ("/set temperature=hot", "must be a number of at least 0, not 'hot'"),
        ("/set temperature=-1", "not -1"),
        ("/set temperature=nan", "not nan"),
        ("/set temperature=none", "not 'none'"),
        ("/set top_k=0", "a whole number of at least 1, or none"),
        ("/set top_p=0", "above 0 and at most 1"),
        ("/set top_p=1.5", "not 1.5"),
        ("/set max_tokens=2.5", "a whole number"),
        ("/set repetition_penalty=inf", "not inf"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(line: str, message: str):
    text, _, repl = talk([line])
    assert message in text
    assert text.strip("\n").count("\n") == 0
    assert repl.settings == Settings(seed=7)


@pytest.mark.fast
def test_ctrl_c_stops_the_text_only():
    text, run, repl = talk(["a", "b"], FakeRun([" half", KeyboardInterrupt()]))
    assert run.prompts == ["a", "a half\nb"]
    assert repl.text == "a half\nb half"
    assert " half ..." in text


def test_ctrl_c_while_typing_says_how_to_leave():
    text, run, _ = talk([KeyboardInterrupt(), "a"])
    assert "Ctrl-D" in text
    assert run.prompts == ["a"]


def test_a_prompt_that_cannot_be_used_ends_nothing():
    text, run, repl = talk(["a", "b"], FakeRun([DataError("'é' is not in the vocabulary", fix="write it otherwise")]))
    assert text.count("'é' is not in the vocabulary fix: write it otherwise\n") == 2
    assert run.prompts == ["a", "b"]
    assert repl.text == ""


@pytest.mark.fast
def test_fault_084_generated_escapes_are_inert():
    """The interactive prompt shows generated escape sequences visibly; the model still sees what it wrote."""
    text, _, repl = talk(["a"], FakeRun(["\x1b[2J", "b"]))
    assert "␛[2Jb" in text
    assert "\x1b" not in text
    assert repl.text == "a\x1b[2Jb"  # the model sees what it wrote


def test_help_names_every_command():
    text, _, _ = talk(["/help"])
    assert HELP in text
    assert all(command in HELP for command in COMMANDS if command != "/help")


def test_limits_are_for_every_setting():
    assert set(LIMITS) == set(Settings.__dataclass_fields__)
    with pytest.raises(RecipeError, match="--top-p must be"):
        Settings.checked("--", top_p=2.0)
    assert Settings.checked("--", temperature=0.0, top_k=None).temperature == 0


def test_banner_names_reset_and_a_pipe_sees_no_prompt(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    lines = iter(["/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or next(lines))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    written: list[str] = []
    Repl(FakeRun(), Settings(), write=written.append).loop()
    assert "/reset" in written[0]
    assert asked == [""]


class FakeAssistant:
    """Counts the user's turns; remembers what it was asked."""

    def __init__(self, stops: bool = False):
        self.asked: list[list[tuple[str, str]]] = []
        self.seeds: list[int] = []
        self.stops = stops

    def reply(self, turns: Any, **options: Any) -> Iterator[str]:
        self.asked.append(list(turns))
        self.seeds.append(options["seed"])
        yield "answer "
        if self.stops:
            raise KeyboardInterrupt
        yield str(sum(role == "user" for role, _ in turns))


def chat(lines: list[str], assistant: FakeAssistant) -> str:
    left, written = iter(lines), list[str]()

    def read(_: str) -> str:
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    Chat(assistant, Settings.checked(seed=7), read=read, write=written.append).loop()
    return "".join(written).partition("\n")[2]


@pytest.mark.fast
def test_a_chat_gives_all_turns_until_reset():
    assistant = FakeAssistant()
    text = chat(["Hi", "And?", "", "/reset", "New", "/quit"], assistant)
    assert assistant.asked == [
        [("user", "Hi")],
        [("user", "Hi"), ("assistant", "answer 1"), ("user", "And?")],
        [("user", "New")],
    ]
    assert text == "answer 1\nanswer 2\na new conversation\nanswer 1\n"
    assert assistant.seeds == [7, 8, 9]


@pytest.mark.fast
def test_ctrl_c_keeps_what_was_said_in_a_chat():
    assistant = FakeAssistant(stops=True)
    assert chat(["Hi", "Go on"], assistant) == "answer  ...\nanswer  ...\n\n"
    assert assistant.asked[1] == [("user", "Hi"), ("assistant", "answer "), ("user", "Go on")]


@pytest.mark.fast
def test_a_chat_has_its_own_help():
    assert CHAT_HELP != HELP
    assert "begin a new conversation" in CHAT_HELP
    assert chat(["/help"], FakeAssistant()).startswith("Say something; the model answers")
