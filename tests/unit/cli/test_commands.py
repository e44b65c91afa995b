"""Commands against a stand-in for trifecta.run: what they hand over, what they print, how they end."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trifecta import errors, run
from trifecta.cli.main import EXIT_CODES, main


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch):
    """Replaces names of trifecta.run without loading what they stand for."""

    def replace(**functions: Any) -> None:
        for name, function in functions.items():
            monkeypatch.setitem(vars(run), name, function)

    return replace


def result(status: str = "finished", **more: Any) -> SimpleNamespace:
    return SimpleNamespace(
        status=status, folder=Path("runs/x"), seconds=61.0, resume_command="trifecta train -o runs/x", **more
    )


@pytest.mark.fast
def test_train_hands_over_what_was_asked(stand_in, capsys: pytest.CaptureFixture[str]):
    asked: dict[str, Any] = {}

    def train(request: Any, **options: Any) -> SimpleNamespace:
        asked.update(options, request=request)
        options["report"]("reading", None)
        options["hooks"][0]({"event": "note", "message": "hello"})
        return result()

    stand_in(train=train)
    assert (
        main(
            ["train", "a.txt", "b.txt", "r.yaml", "model.d_model=64", "--epochs", "2", "-o", "out", "--resume", "must"]
        )
        == 0
    )
    assert asked["request"].data == ("a.txt", "b.txt")
    assert asked["request"].config == "r.yaml"
    assert asked["request"].overrides == ("model.d_model=64",)
    assert asked["request"].flags == {"training.epochs": ("--epochs", 2)}
    assert (asked["out"], asked["resume"]) == (Path("out"), "must")
    assert capsys.readouterr().out == "reading ...\nnote: hello\n"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("status", "code"), [("finished", 0), ("stopped_early", 0), ("interrupted", 130), ("terminated", 143)]
)
def test_fault_024_025_how_a_run_ended_is_the_exit_code(stand_in, capsys, status: str, code: int):
    """The command ends with exit code 143 after SIGTERM and with 130 after Ctrl-C."""

    stand_in(train=lambda *_, **__: result(status))
    assert main(["train", "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("To go on: trifecta train -o runs/x" in captured.err) == (code != 0)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.RecipeError("odd", where="r.yaml:3", fix="remove it"), 2, "error: r.yaml:3: odd\n  fix: remove it\n"),
        (errors.DataError("empty"), 3, "error: empty\n"),
        (errors.CheckpointError("damaged"), 4, "error: damaged\n"),
        (errors.NumericsError("nan"), 5, "error: nan\n"),
        (errors.ResourceError("no room"), 6, "error: no room\n"),
        (errors.UnsafeError("a pickle"), 7, "error: a pickle\n"),
        (PermissionError(13, "Permission denied", "out"), 6, "error: out: Permission denied\n"),
        (OSError(28, "No space left on device"), 6, "error: No space left on device\n"),
        (MemoryError(), 6, "error: out of memory"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ZeroDivisionError("oh\nno"), 1, "error: internal error, ZeroDivisionError: oh no; rerun with --debug for the "
         "traceback: trifecta --debug train 'a b.txt'\n"),
    ],
)  # fmt: skip
def test_each_failure_has_its_exit_code_and_no_traceback(
    stand_in, capsys, error: BaseException, code: int, message: str
):
    def train(*_: Any, **__: Any) -> None:
        raise error

    stand_in(train=train)
    assert main(["train", "a b.txt"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert main(["--debug", "train", "a b.txt"]) == code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line(stand_in, capsys):
    stand_in(list_runs=lambda _: warnings.warn("step-2 is damaged, using step-1", stacklevel=2) or [])
    assert main(["runs"]) == 0
    assert capsys.readouterr().err == "warning: step-2 is damaged, using step-1\n"


@pytest.mark.fast
def test_exit_codes_are_documented(capsys):
    codes = {
        cls.exit_code
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.TrifectaError)
    }
    for code in codes | {0, 130, 143}:
        assert f" {code} " in EXIT_CODES
    assert main(["--help"]) == 0
    assert "refused as unsafe" in " ".join(capsys.readouterr().out.split())


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--epoch", "3"], "--epochs"),
        (["train", "--epochs", "x"], "--epochs"),
        (["train", "--resume", "perhaps"], "'auto', 'must', 'never'"),
        (["generate"], "RUN"),
        (["generate", "x", "--top-p", "2"], "--top-p must be a number above 0 and at most 1"),
        (["generate", "x", "--num-samples", "0"], "--num-samples"),
        (["generate", "x", "--num-samples", "1001"], "--num-samples must be at most 1000, not '1001'"),
        (["generate", "x", "--max-tokens", "1000001"], "at most 1,000,000, not 1000001"),
        (["generate", ""], "RUN must not be empty"),
        (["evaluate", "x", "--data", ""], "--data must not be empty"),
        (["train", "-o", ""], "--out must not be empty"),
        (["train", "--epochs", "many"], "error: --epochs must be a whole number, not 'many'"),
        (["train", "--learning-rate", "x"], "error: --learning-rate must be a number, not 'x'"),
        (["train", "--json", "--quiet"], "--quiet"),
        (["check", "--show-batch", "--schema-only"], "--schema-only"),
        (["presets", "smal"], "did you mean 'small'?"),
        (["presets", "--write", "x"], "name the preset"),
        (["train", "a.yaml", "b.yaml"], "more than one recipe"),
    ],
)
def test_usage_errors_are_2(capsys, arguments: list[str], message: str):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")


@pytest.mark.fast
def test_check_prints_every_fact(stand_in, capsys):
    facts = {
        "recipe": {"model": {"d_model": 64}, "training": {"learning_rate": 3e-4}},
        "data": {"notes": [], "train_tokens": 12345},
        "parameters": {"embedding": 1000, "total": 1_044_736},
        "memory": {"total_bytes": 3 * 2**20},
        "time": {"step_seconds": 0.23, "training_seconds": 185.0},
        "batch": [{"input": "a\x1b\nb", "mask": "##."}],
    }
    asked: dict[str, Any] = {}

    def check(request: Any, **options: Any) -> dict[str, Any]:
        asked.update(options, request=request)
        return facts

    stand_in(check=check)
    assert main(["check", "book.txt", "--show-batch"]) == 0
    assert (asked["schema_only"], asked["show_batch"], asked["request"].data) == (False, True, ("book.txt",))
    text = capsys.readouterr().out
    assert (
        text
        == """\
model:
  d_model: 64
training:
  learning_rate: 0.0003

data:
  train tokens: 12,345

parameters:
  embedding: 1,000
  total: 1,044,736

memory:
  total: 3.0 MiB

time:
  step: 230 ms
  training: 3 min 05 s

batch:
  1:
    input:
      a␛
      b
    mask: ##.

No conflicts.
"""
    )
    assert main(["check", "--json", "--schema-only"]) == 0
    assert json.loads(capsys.readouterr().out) == facts
    assert asked["schema_only"]


class FakeRun:
    answers = False
    recipe = SimpleNamespace(tracking=SimpleNamespace(sample=SimpleNamespace(prompt="The")))

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def stream(self, prompt: str, **options: Any):
        self.asked.append((prompt, options))
        yield from (" ki", "ng\x1b")

    def samples(self, prompt: str, count: int, **options: Any) -> list[str]:
        self.asked.append((prompt, count, options))
        return [f"{prompt} {number}" for number in range(count)]


@pytest.mark.fast
def test_generate(stand_in, capsys):
    run = FakeRun()
    stand_in(load=lambda _: run)
    assert main(["generate", "runs/x", "--temperature", "1.0", "--top-p", "0.95", "--top-k", "40", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "The king\x1b\n"  # into a pipe exactly
    assert run.asked[-1] == (
        "The",
        {"max_tokens": 100, "temperature": 1.0, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.0, "seed": 3},
    )
    assert main(["generate", "runs/x", "--prompt", "A", "--num-samples", "2", "--max-tokens", "5"]) == 0
    assert capsys.readouterr().out == "--- 1/2 ---\nA 0\n--- 2/2 ---\nA 1\n"
    seeds = {run.asked[-1][2]["seed"]}
    for _ in range(3):
        main(["generate", "runs/x"])
        seeds.add(run.asked[-1][1]["seed"])
    assert len(seeds) == 4


@pytest.mark.fast
def test_fault_084_generate_on_a_terminal_is_inert(stand_in, capsys, monkeypatch: pytest.MonkeyPatch):
    """`trifecta generate` writes escape sequences of the generated text visibly to a terminal, not as commands."""
    stand_in(load=lambda _: FakeRun())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["generate", "runs/x"]) == 0
    assert capsys.readouterr().out == "The king␛\n"


def test_generate_interactive(stand_in, capsys, monkeypatch: pytest.MonkeyPatch):
    lines = iter(["Once", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    stand_in(load=lambda _: FakeRun())
    assert main(["generate", "runs/x", "-i"]) == 0
    assert " king␛\n" in capsys.readouterr().out


@pytest.mark.fast
def test_evaluate(stand_in, capsys):
    def evaluate(run: str, data: tuple[str, ...], progress: Any, attack: float | None) -> dict[str, Any]:
        assert (run, data, attack) == ("runs/x", ("a.txt", "b.txt"), 0.5)
        assert progress("reading", 0.5) is None
        return {
            "loss": 1.5,
            "perplexity": float("inf"),
            "bits_per_byte": 2.0,
            "tokens": 12345,
            "bytes": 2048,
            "seconds": 1.0,
        }

    stand_in(evaluate=evaluate)
    assert main(["evaluate", "runs/x", "--data", "a.txt", "--data", "b.txt", "--attack", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "loss             1.5", "perplexity       inf", "bits per byte    2", "tokens           12,345",
        "bytes            2,048", "seconds          1 s",
    ]  # fmt: skip
    assert main(["evaluate", "runs/x", "--data", "a.txt", "--data", "b.txt", "--attack", "0.5", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"loss", "perplexity", "bits_per_byte", "tokens"} <= set(printed)
    assert printed["perplexity"] is None


@pytest.mark.fast
def test_runs(stand_in, capsys, monkeypatch: pytest.MonkeyPatch):
    found = [
        {"name": "book", "status": "running", "step": 1500, "total_steps": 3000, "best_loss": 1.25, "updated": 940.0},
        {"name": "a\x1b", "status": "empty", "step": 0, "total_steps": None, "best_loss": None, "updated": None},
    ]
    monkeypatch.setattr("time.time", lambda: 1000.0)
    stand_in(list_runs=lambda root: found if root == Path("runs") else [])
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "run   status          step  best loss  updated",
        "book  running  1,500/3,000     1.2500  1 min 00 s ago",
        "a␛    empty              0",
    ]
    assert main(["runs", "elsewhere"]) == 0
    assert "No runs in the folder 'elsewhere'" in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.fast
def test_demo(stand_in, capsys):
    def demo(out: Path | None, *, arch: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(result=result("interrupted" if out == Path("x") else "finished"), samples=["ROMEO:\x1b"],
                               figures=[f"{arch}: 34.5%"], next_step="trifecta generate runs/demo",
                               picture=Path("runs/demo/plots/training.png"))  # fmt: skip

    stand_in(demo=demo)
    assert main(["demo"]) == 0
    text = capsys.readouterr().out
    assert "ROMEO:␛" in text
    assert "1 min 01 s" in text
    assert "training.png" in text
    assert "Try it: trifecta generate runs/demo" in text
    assert main(["demo", "--arch", "bert"]) == 0
    assert "bert: 34.5%" in capsys.readouterr().out
    assert main(["demo", "-o", "x"]) == 130
    assert "To go on: trifecta demo --arch gpt -o" in capsys.readouterr().err


def test_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = tmp_path / "run"
    (run / "checkpoints" / "best").mkdir(parents=True)
    (run / "journal.jsonl").touch()
    drawn: list[Any] = []
    monkeypatch.setattr("trifecta.tracking.plots.plot_run", lambda *args: drawn.append(args) or args[1])
    assert main(["plot", str(run / "checkpoints" / "best")]) == 0
    assert main(["plot", str(run), "-o", str(tmp_path / "x.png")]) == 0
    assert drawn == [(run, run / "plots" / "training.png"), (run, tmp_path / "x.png")]
    assert main(["plot", str(tmp_path / "nowhere")]) == 4


@pytest.mark.fast
def test_presets(tmp_path: Path, capsys):
    from trifecta.recipe.presets import preset_names, preset_text

    assert main(["presets"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(preset_names())
    assert main(["presets", "small"]) == 0
    assert capsys.readouterr().out == preset_text("small")
    path = tmp_path / "configs" / "small.yaml"
    assert main(["presets", "small", "--write", str(path)]) == 0
    assert path.read_text() == preset_text("small")
    assert main(["presets", "small", "--write", str(path)]) == 2
    assert main(["presets", "--json-schema"]) == 0
    written, schema = capsys.readouterr().out.split("\n", 1)
    assert written == f"wrote {path}"
    assert "training" in json.loads(schema)["properties"]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("trifecta ")


@pytest.mark.fast
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA: Tried to allocate 3.00 GiB. more"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes."),
    ],
)
def test_fault_out_of_memory_says_what_to_do(stand_in, capsys, error: Exception):
    def train(*_: Any, **__: Any) -> None:
        raise error

    stand_in(train=train)
    assert main(["train"]) == 6
    text = capsys.readouterr().err
    assert text.startswith("error: out of memory")
    assert "training.batch_size" in text
    assert "trifecta check" in text
    assert "internal" not in text


@pytest.mark.fast
def test_error_lines_are_inert_and_keep_their_lines(stand_in, capsys):
    def train(*_: Any, **__: Any) -> None:
        raise errors.DataError("bad \x1b[2J", where="a\x1b", fix="mend")

    stand_in(train=train)
    assert main(["train"]) == 3
    assert capsys.readouterr().err == "error: a␛: bad ␛[2J\n  fix: mend\n"
    assert main(["tr\x1bain"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.fast
def test_uncaught_errors(stand_in, capsys):
    panic = type("PanicException", (BaseException,), {})
    raised: list[BaseException] = [panic("called unwrap"), OSError(28, "No space left on device", "x"), KeyError("k")]

    def train(*_: Any, **__: Any) -> None:
        raise raised[0]

    stand_in(train=train)
    assert main(["train"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    raised.pop(0)
    assert main(["train"]) == 6
    assert (
        capsys.readouterr().err == "error: x: No space left on device\n  fix: free some space, or use another folder\n"
    )
    raised.pop(0)
    assert main(["--debug", "train"]) == 1
    assert "rerun" not in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_generate_shows_a_warning_as_one_line(stand_in, capsys):
    class Warns(FakeRun):
        def stream(self, prompt: str, **options: Any):
            warnings.warn("not in the\nvocabulary: é", stacklevel=2)
            return super().stream(prompt, **options)

    stand_in(load=lambda _: Warns())
    assert main(["generate", "runs/x", "--prompt", "é"]) == 0
    assert capsys.readouterr().err == "warning: not in the vocabulary: é\n"


def write_journal(root: Path, name: str, text: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").touch()
    (folder / "journal.jsonl").write_text(text)
    return folder


STEP = '{"event": "step", "step": 1, "loss": 2.0}\n'
DAMAGED = {
    "middle": STEP + "x\n" + STEP,
    "step": '{"event": "step"}\n',
    "start": '{"event": "start"}\n',
    "evaluation": '{"event": "evaluation", "step": 1}\n',
    "deep": "[" * 100_000 + "\n",
    "kind": '{"event": []}\n',
    "text": '{"event": "step", "step": "1", "loss": 2.0}\n',
}


def test_fault_091_a_damaged_run_hides_no_other(tmp_path: Path, capsys):
    """`trifecta runs` lists runs with damaged journals as damaged, and the others as they are."""
    root = tmp_path / "runs"
    whole = write_journal(root, "whole", STEP)
    write_journal(root, "failed", STEP + '{"event": "end", "status": "failed"}\n')
    for name, text in DAMAGED.items():
        write_journal(root, name, text)
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        folder = write_journal(root, name, "")
        (folder / "journal.jsonl").unlink()
        make(folder / "journal.jsonl")
        folder.rename(root / f"journal-{name}")
        make(write_journal(root, f"lock-{name}", STEP) / ".lock")
    assert main(["runs", str(root), "--json"]) == 0
    statuses = {row["name"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert statuses.pop("whole") == "stopped"
    assert statuses.pop("failed") == "failed"
    assert set(statuses.values()) == {"damaged"}
    assert len(statuses) == len(DAMAGED) + 4
    assert main(["runs", str(root)]) == 0
    assert "damaged" in capsys.readouterr().out
    assert main(["runs", str(whole)]) == 0
    assert "whole" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere")]) == 4
    assert "no such folder" in capsys.readouterr().err


def test_plot_refuses_what_it_cannot_draw(tmp_path: Path, capsys):
    run = write_journal(tmp_path, "run", STEP)
    assert main(["plot", str(run / "checkpoints" / "nope")]) == 4
    assert main(["plot", str(run), "-o", str(tmp_path / "x.pdf")]) == 2
    assert "internal" not in capsys.readouterr().err
    for name, text in DAMAGED.items():
        assert main(["plot", str(write_journal(tmp_path, name, text))]) == 4, name
    pipe = tmp_path / "pipe"
    pipe.mkdir()
    os.mkfifo(pipe / "journal.jsonl")
    assert main(["plot", str(pipe)]) == 4
