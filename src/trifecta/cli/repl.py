"""`trifecta generate --interactive`: the reader begins, the model goes on, in turns."""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, cast

from trifecta.errors import RecipeError, did_you_mean

HELP = """\
Write a beginning; the model goes on with it. An empty line lets it write on. The text so far is kept.
/set NAME=VALUE  change a setting, as in /set temperature=1.0
/set             show the settings
/reset           begin a new text
/quit            leave; Ctrl-D does too. Ctrl-C stops the text that is being written"""

CHAT_HELP = HELP.replace(
    "Write a beginning; the model goes on with it. An empty line lets it write on. The text so far is kept.",
    "Say something; the model answers, and knows what was said before.",
).replace("begin a new text", "begin a new conversation")

COMMANDS = ("/help", "/set", "/reset", "/quit")
HINT = "/reset begins anew; Ctrl-D or /quit leaves"

Value = int | float | None


@dataclass(frozen=True)
class Limit:
    """What a setting may be. least: inclusive, unless `exclusive`. most: inclusive."""

    kind: type[int] | type[float]
    least: float
    most: float = math.inf
    exclusive: bool = False
    optional: bool = False

    def allows(self, value: Value) -> bool:
        if value is None:
            return self.optional
        enough = value > self.least if self.exclusive else value >= self.least
        return enough and value <= self.most and math.isfinite(value)

    def __str__(self) -> str:
        kind = "a whole number" if self.kind is int else "a number"
        bound = f"{'above' if self.exclusive else 'of at least'} {self.least:g}"
        most = f" and at most {self.most:,.15g}" if self.most < math.inf else ""
        return f"{kind} {bound}{most}" + (", or none" if self.optional else "")


LIMITS = {
    "max_tokens": Limit(int, 1, 1_000_000),
    "temperature": Limit(float, 0),
    "top_k": Limit(int, 1, optional=True),
    "top_p": Limit(float, 0, 1, exclusive=True, optional=True),
    "repetition_penalty": Limit(float, 0, exclusive=True),
    "seed": Limit(int, 0, 2**63 - 1, optional=True),
}


@dataclass(frozen=True)
class Settings:
    """How to sample; the names are those of the flags and of `/set`."""

    max_tokens: int = 100
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None

    @classmethod
    def checked(cls, prefix: str = "", **values: Any) -> Settings:
        """Settings from values of the right type.

        Raises:
            RecipeError: one is out of bounds; `prefix` goes before its name.
        """
        for name, value in values.items():
            if not LIMITS[name].allows(value):
                shown = prefix + (name.replace("_", "-") if prefix else name)
                raise RecipeError(f"{shown} must be {LIMITS[name]}, not {value}")
        return cls(**values)

    def with_text(self, name: str, text: str) -> Settings:
        """With one setting read from text, as `/set` has it.

        Raises:
            RecipeError: no such setting, or not a value of it.
        """
        name = name.replace("-", "_")
        if name not in LIMITS:
            hint = did_you_mean(name, LIMITS) or f"there are {', '.join(LIMITS)}"
            raise RecipeError(f"no setting {name!r}; {hint}")
        limit = LIMITS[name]
        try:
            value: Value = None if text.lower() in ("none", "null", "") and limit.optional else limit.kind(text)
        except ValueError:
            raise RecipeError(f"{name} must be {limit}, not {text!r}") from None
        if not limit.allows(value):
            raise RecipeError(f"{name} must be {limit}, not {text}")
        changed: dict[str, Any] = {name: value}
        return replace(self, **changed)

    def options(self, seed: int) -> dict[str, Any]:
        """Keyword arguments of a run's `stream` and `samples`."""
        return asdict(self) | {"seed": seed}


def first_seed(settings: Settings) -> int:
    """The seed asked for, or one that nobody can foresee."""
    return secrets.randbits(31) if settings.seed is None else settings.seed


class Answering(Protocol):
    """What of a run a chat needs."""

    def reply(self, turns: Sequence[tuple[str, str]], **options: Any) -> Iterator[str]: ...


class Writer(Protocol):
    """What of a run a conversation needs."""

    def stream(self, prompt: str, **options: Any) -> Iterator[str]: ...


def _ask(prompt: str) -> str:
    """A line of the reader's; lines that come through a pipe are not asked for."""
    return input(prompt if sys.stdin.isatty() else "")


class Repl:
    """The conversation. read: asks for a line, raises EOFError at the end. write: prints a text as it is."""

    greeting, help = "Write a beginning", HELP

    def __init__(
        self,
        run: Writer,
        settings: Settings,
        *,
        read: Callable[[str], str] | None = None,
        write: Callable[[str], None] = lambda text: print(text, end="", flush=True),
    ):
        self._run, self._read, self._write = run, read or _ask, write
        self.settings = settings
        self.text = ""
        self._seed = first_seed(settings)

    def loop(self) -> None:
        """Takes turns until the reader leaves."""
        self._write(f"{self.greeting}; /help says what else there is. {HINT}.\n")
        while True:
            try:
                line = self._read("> ")
            except EOFError:
                self._write("\n")
                return
            except KeyboardInterrupt:
                self._write(f"\n{HINT}\n")
                continue
            try:
                if not self.turn(line):
                    return
            except ValueError as error:  # what a reader can get wrong is no reason to end the conversation
                self._write(f"{' '.join(str(error).split())}\n")

    def turn(self, line: str) -> bool:
        """Obeys a command or lets the model go on; False once the reader wants to leave."""
        if not line.startswith("/"):
            self._go_on(line)
            return True
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return False
        if command == "/help":
            self._write(f"{self.help}\n")
        elif command == "/reset":
            self._write(f"{self._forget()}\n")
        elif command == "/set":
            self._set(rest.strip())
        elif (name := command[1:].replace("-", "_")) in LIMITS:
            raise RecipeError(f"write it like /set {name}={rest.strip() or 'VALUE'}")
        else:
            raise RecipeError(f"no command {command}; {did_you_mean(command, COMMANDS) or '/help lists them'}")
        return True

    def _set(self, rest: str) -> None:
        name, equals, value = (part.strip() for part in rest.partition("="))
        if rest and not equals:
            raise RecipeError("write it like /set temperature=1.0")
        if rest:
            self.settings = self.settings.with_text(name, value)
            self._seed = first_seed(self.settings)
        shown = " ".join(
            f"{name}={'none' if value is None else value}" for name, value in asdict(self.settings).items()
        )
        self._write(f"{shown}\n")

    def _go_on(self, line: str) -> None:
        """Streams the continuation of the text so far and the line."""
        prompt = f"{self.text}\n{line}" if self.text and line else self.text or line
        self.text = prompt + self._show(self._run.stream(prompt, **self.settings.options(self._seed)))

    def _forget(self) -> str:
        self.text = ""
        return "a new text"

    def _show(self, pieces: Iterator[str]) -> str:
        """Writes the pieces and returns them as one; Ctrl-C keeps what is written and stops."""
        from trifecta.tracking.terminal import visible

        written = ""
        try:
            for piece in pieces:
                written += piece
                self._write(visible(piece))
        except KeyboardInterrupt:
            self._write(" ...")
        self._write("\n")
        self._seed += 1
        return written


class Chat(Repl):
    """Questions and answers. The model is given all turns so far, as its template has them."""

    greeting, help = "Say something", CHAT_HELP

    def __init__(self, run: Answering, settings: Settings, **doors: Any):
        super().__init__(cast(Writer, run), settings, **doors)
        self._assistant = run
        self.turns: list[tuple[str, str]] = []

    def _go_on(self, line: str) -> None:
        """Streams the answer to the line."""
        if not line.strip():
            return
        asked = [*self.turns, ("user", line)]
        answer = self._show(self._assistant.reply(asked, **self.settings.options(self._seed)))
        self.turns = [*asked, ("assistant", answer)]

    def _forget(self) -> str:
        self.turns = []
        return "a new conversation"
