"""Commands in a process of their own: fast help, clean endings, shell completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

COMMANDS = ["train", "check", "demo", "generate", "evaluate", "finetune", "predict", "compare", "ablate", "import",
            "export", "runs", "plot", "presets", "tokenizer", "tokenizer train",
            "tokenizer show"]  # fmt: skip
HEAVY = ("torch", "numpy", "matplotlib", "tokenizers", "safetensors", "transformers", "rich.progress", "yaml")


@pytest.fixture
def run_trifecta(run_trifecta: Callable[..., Any]) -> Callable[..., Any]:
    """Each in a fresh process, as a user's is."""
    return partial(run_trifecta, fresh=True)


def modules_after(code: str) -> set[str]:
    """Which of the heavy modules a fresh Python has loaded after running code."""
    code = f"import sys\n{code}\nprint('\\n' + ' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.fast
@pytest.mark.parametrize("arguments", [["--help"], ["train", "-h"], ["--version"], ["no-such-command"]])
def test_help_loads_nothing_heavy(arguments: list[str]):
    assert modules_after(f"from trifecta.cli.main import main; main({arguments!r})") == set()


@pytest.mark.fast
def test_help_loads_nothing_heavy_control():
    assert modules_after("from trifecta.cli.main import main; main(['--help']); import numpy") == {"numpy"}


def test_completion_loads_nothing_heavy():
    assert not modules_after("from trifecta.cli.options import complete_key; complete_key('training.')") & {
        "torch",
        "numpy",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run_trifecta, command: str):
    done = run_trifecta(*command.split(), "-h")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    if command != "tokenizer":
        assert f"Example: trifecta {command}" in text


@pytest.mark.fast
def test_help_lists_commands_and_exit_codes(run_trifecta):
    done = run_trifecta()
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for command in COMMANDS:
        assert f" {command.split()[0]} " in text
    assert "Exit codes: 0 done;" in text


@pytest.mark.parametrize("arguments", [["--help"], ["presets", "--json-schema"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "trifecta.cli.main", *arguments], stdout=stdout, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("trifecta tr", "train"),
        ("trifecta train training.learning_r", "training.learning_rate="),
        ("trifecta train --preset tu", "tutorial"),
    ],
)
def test_shell_completion(run_trifecta, words: str, offered: str):
    environment = os.environ | {
        "_TRIFECTA_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = run_trifecta(env=environment)
    assert offered in done.stdout.split()
    script = run_trifecta(env=os.environ | {"_TRIFECTA_COMPLETE": "source_bash"})
    assert "_TRIFECTA_COMPLETE=complete_bash" in script.stdout


def test_installed_under_its_name():
    program = str(Path(sys.executable).with_name("trifecta"))
    for command in ([program], [sys.executable, "-m", "trifecta"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("trifecta ")


def test_a_preset_written_out_is_a_recipe(run_trifecta, tmp_path: Path):
    path = tmp_path / "configs" / "small.yaml"
    assert run_trifecta("presets", "small", "--write", path).returncode == 0
    again = run_trifecta("presets", "small", "--write", path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_tokenizer_train_and_show(run_trifecta, tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be, that is the question.\n" * 50)
    out = tmp_path / "bpe.json"
    done = run_trifecta("tokenizer", "train", text, "--type", "bpe", "--vocab-size", "270", "-o", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())
    assert run_trifecta("tokenizer", "train", text, "-o", out, cwd=tmp_path).returncode == 2
    shown = run_trifecta("tokenizer", "show", out, "--text", "To be\x1b")
    assert shown.returncode == 0, shown.stderr
    assert "comes back      exactly" in shown.stdout
    assert "\x1b" not in shown.stdout
    small = run_trifecta("tokenizer", "train", text, "--vocab-size", "5", "-o", tmp_path / "x.json", cwd=tmp_path)
    assert small.returncode == 2
    assert "--vocab-size 5" in small.stderr
    assert run_trifecta("tokenizer", "show", tmp_path / "nothing.json").returncode == 3
