"""`python -m benchmarks`: every row in its quick form, and what the table makes of figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import __main__  # noqa: E402
from benchmarks.encoder_peers import SpanCollator  # noqa: E402
from benchmarks.pairs import LegError, Row, call_leg, measure, table, verdict  # noqa: E402
from benchmarks.rows import ROWS, at_target, labels, little_memory, losses, tokens  # noqa: E402
from benchmarks.sentences import Sentences, alone  # noqa: E402
from benchmarks.text import character_ids, longer_text, many_characters, random_windows, split_loss  # noqa: E402
from trifecta.types import Example  # noqa: E402

IN_PROCESSES_OF_THEIR_OWN = {"check", "first-step"}
"""Their legs are commands, which take seconds to start."""

ROW = Row(
    name="speed", what="a speed", ours=("ours.speed", {}), peer=("peers.speed", {}), unit="tokens/s",
    ratio="ours / peer", bound=1.5, same=losses, reason="the machine is slow",
)  # fmt: skip


def pair(ours: float, peer: float, apart: float = 0.0) -> list[dict[str, float]]:
    return [{"value": ours, "loss": 2.0}, {"value": peer, "loss": 2.0 + apart}]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"Line {n * n} of a text that is not long.\n" for n in range(250)))
    return path


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name not in IN_PROCESSES_OF_THEIR_OWN], ids=lambda r: r.name
)
def test_each_row_runs(row: Row, text: Path) -> None:
    if reason := row.unless():
        pytest.skip(reason)
    result = measure(row, text, quick=True, run=call_leg, say=lambda _: None)
    ((ours, peer),) = result["pairs"]
    assert min(ours["value"], peer["value"]) > 0
    if row.same is tokens:
        assert ours["tokens"] == peer["tokens"]
    if row.name == "predict":
        assert ours["labels"] == peer["labels"]
    if row.same is losses:
        # A T5 of width 16 with a tied head begins anywhere from 6 to 7.5, and four steps don't change that.
        assert abs(ours["loss"] - peer["loss"]) < (1.5 if row.name == "span" else 0.3)
    json.dumps(result, allow_nan=False)


def test_from_the_command_line(text: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        str(text),
        "--quick",
        "--only",
        "generate-cache",
        "--out",
        str(tmp_path),
    ]
    (tmp_path / "pairs.json").write_text(json.dumps({"machine": "another", "rows": {"step": {"skipped": "old"}}}))
    (tmp_path / "README.md").write_text("Before.\n\n<!-- pairs begins -->\nold\n<!-- pairs ends -->\n\nAfter.\n")
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=100, env=os.environ.copy())
    saved = json.loads((tmp_path / "pairs.json").read_text())
    assert list(saved["rows"]) == ["generate-cache"], "another machine's figures are dropped"
    readme = (tmp_path / "README.md").read_text()
    assert "old" not in readme
    assert readme.startswith("Before.\n\n<!-- pairs begins -->\n")
    assert readme.endswith("<!-- pairs ends -->\n\nAfter.\n")
    assert "| generate-cache |" in readme
    assert saved["machine"] in readme


@pytest.mark.fast
def test_ratio_is_the_median_of_neighbours() -> None:
    # The medians of the sides, 20 and 10, would say 2.
    found = verdict(ROW, [pair(10, 10), pair(20, 20), pair(100, 5)])
    assert (found["ratio"], found["least"], found["most"]) == (1.0, 1.0, 20.0)
    assert (found["ours"], found["peer"], found["reached"]) == (20, 10, "no")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("ratio", "at_most", "bound", "reached"),
    [
        ("ours / peer", False, 3.0, "yes"), ("ours / peer", False, 3.1, "no"),
        ("peer / ours", False, 0.33, "yes"), ("ours - peer", True, 2.0, "yes"), ("ours - peer", True, 1.9, "no"),
    ],
)  # fmt: skip
def test_bounds(ratio: str, at_most: bool, bound: float, reached: str) -> None:
    assert verdict(replace(ROW, ratio=ratio, at_most=at_most, bound=bound), [pair(3, 1)])["reached"] == reached


@pytest.mark.fast
@pytest.mark.parametrize(
    ("unit", "ratio", "used"), [("tokens/s", "ours / peer", 4.0), ("s", "peer / ours", 1.0), ("MB", "ours / peer", 2.0)]
)
def test_processor_time(unit: str, ratio: str, used: float) -> None:
    # Ours had half a core while the peer had a whole one.
    ours, peer = ({"value": 2.0, "loss": 1.0, "core": 0.5}, {"value": 1.0, "loss": 1.0, "core": 1.0})
    assert verdict(replace(ROW, unit=unit, ratio=ratio), [[ours, peer]])["used"] == used


@pytest.mark.fast
def test_table_marks_what_is_not_reached_and_what_failed() -> None:
    rows = [replace(ROW, name=name) for name in ("good", "slow", "cheat", "absent", "unmeasured")]
    results = {
        "good": {"date": "2026-01-02", "pairs": [pair(3, 1)]},
        "slow": {"date": "2026-01-01", "pairs": [pair(1, 1, 0.04)]},
        "cheat": {"date": "2026-01-01", "pairs": [pair(9, 1), pair(9, 1, 0.06), pair(9, 1)]},
        "absent": {"skipped": "needs luck"},
    }
    lines = table(rows, results, "the command").splitlines()
    by_name = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}
    assert "| 3.00x (3.00..3.00, 1) | 3.00 | at least 1.5x | yes | losses 2.0000, 2.0000 |" in by_name["good"]
    assert "| no [1] |" in by_name["slow"]
    assert "1. the machine is slow" in lines
    assert "| FAILED | losses 2.0000, 2.0600 |" in by_name["cheat"], "one round of other work is enough"
    assert "left out: needs luck" in by_name["absent"]
    assert "unmeasured" not in by_name
    assert "measured 2026-01-01 to 2026-01-02 by `the command`" in lines[0]


@pytest.mark.fast
def test_legs_take_turns(text: Path) -> None:
    calls: list[tuple[str, int]] = []

    def run(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        calls.append((name, arguments["seed"]))
        return {"value": 1.0, "loss": 1.0}

    measure(ROW, text, 2, run=run, say=lambda _: None)
    assert calls == [("ours.speed", 1), ("peers.speed", 1), ("ours.speed", 2), ("peers.speed", 2)]


@pytest.mark.fast
def test_control_a_leg_that_fails_is_told_and_the_rows_go_on(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if arguments["seed"] == 2:
            raise LegError(f"the leg {name} failed:\nZeroDivisionError: by nothing")
        return {"value": 1.0, "loss": 1.0}

    monkeypatch.setattr(__main__, "ROWS", [ROW, replace(ROW, name="after")])
    monkeypatch.setattr(__main__, "measure", partial(measure, run=run))
    arguments = [str(text), "--out", str(tmp_path), "--rounds"]
    assert __main__.main([*arguments, "1"]) == 0
    assert __main__.main([*arguments, "2"]) == 1
    failed = "| speed | | | | | at least 1.5x | FAILED: ours.speed: ZeroDivisionError: by nothing | |"
    assert failed in capsys.readouterr().out
    assert list(json.loads((tmp_path / "pairs.json").read_text())["rows"]) == ["speed", "after"]
    assert __main__.main([*arguments, "1", "--quick", "--only", "speed"]) == 0
    assert list(json.loads((tmp_path / "pairs.json").read_text())["rows"]) == ["speed"], "quick figures stand alone"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("same", "ours", "peer"),
    [
        (at_target, {"loss": 1.91, "steps": 9, "target": 1.9}, {"loss": 1.8, "steps": 9}),
        (tokens, {"tokens": [1, 2]}, {"tokens": [1, 3]}),
        (labels, {"labels": ["a", "b"]}, {"labels": ["a", "a"]}),
        (labels, {"labels": ["a", "a"]}, {"labels": ["a", "a"]}),
        (little_memory, {"seconds": 1, "megabytes": 401}, {"seconds": 1, "megabytes": 1}),
        (losses, {"loss": float("nan")}, {"loss": 1.0}),
    ],
)
def test_control_other_work_is_seen(same: Callable[..., tuple[str, bool]], ours: Any, peer: Any) -> None:
    assert not same(ours, peer)[1]


@pytest.mark.fast
def test_split_loss_counts_every_token_but_the_first_once() -> None:
    generator = torch.Generator().manual_seed(0)
    table_VV = torch.randn(7, 7, generator=generator)
    tokens_N = torch.randint(7, (50,), generator=generator)
    expected = torch.nn.functional.cross_entropy(table_VV[tokens_N[:-1]], tokens_N[1:]).item()
    for length in (4, 7, 49, 60):
        assert split_loss(lambda inputs: table_VV[inputs], tokens_N, length) == pytest.approx(expected, abs=1e-6)


@pytest.mark.fast
def test_texts(text: Path, tmp_path: Path) -> None:
    characters = text.read_text()
    train, validation, kinds = character_ids(str(text))
    assert len(train) == int(len(characters) * 0.9)
    assert len(train) + len(validation) == len(characters)
    assert kinds == len(set(characters)) == int(max(train.max(), validation.max())) + 1
    inputs, targets = next(random_windows(train, 3, 5, seed=1))
    assert inputs.shape == targets.shape == (3, 5)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    long = longer_text(str(text), str(tmp_path), 1).read_bytes()
    assert 999_900 < len(long) <= 1_000_000
    assert {*long.splitlines()} == {*text.read_bytes().splitlines()}
    assert len(set(many_characters(str(tmp_path), 700, 500).read_text(encoding="utf-8"))) == 500


@pytest.fixture(scope="module")
def sentences(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Sentences:
    prose = text.with_name("prose.txt")
    rest = "".join(f"Here is number {n}. It is\na long one, is it not? Yes! " for n in range(200))
    prose.write_text("Much" + 40 * " more" + ". " + rest)
    return Sentences.of(str(prose), str(tmp_path_factory.mktemp("folder")), vocab_size=300, length=24)


@pytest.mark.fast
def test_sentences_fit_and_are_one_a_line(sentences: Sentences) -> None:
    ids = sentences.ids(sentences.train)
    assert 2 <= min(map(len, ids)) <= max(map(len, ids)) <= 22
    lines = sentences.train.read_text().splitlines()
    assert {"It is a long one, is it not?", "Yes!"} <= {*lines}
    assert len(ids) == len(lines)


@pytest.mark.fast
def test_held_out_gaps_are_always_the_same(sentences: Sentences) -> None:
    for objective in (sentences.masked(), sentences.span()):
        seen: list[list[Any]] = []

        def sums_of(examples: Any, seen: list[list[Any]] = seen) -> tuple[float, float]:
            seen.append([alone(examples, name, -1).tolist() for name in ("tokens", "targets")])
            return 3.0 * len(examples), len(examples)

        assert sentences.held_out_loss(objective, sums_of) == 3.0
        first, seen[:] = seen[:], []
        sentences.held_out_loss(objective, sums_of)
        assert seen == first


@pytest.mark.fast
@pytest.mark.parametrize("length", [2, 3, 7, 20, 100])
def test_the_peers_gaps_are_ours(sentences: Sentences, length: int) -> None:
    """Hugging Face's way to corrupt a text takes out as much in as many runs as ours, and loses nothing."""
    objective = sentences.span()
    collator = SpanCollator(objective.vocabulary["<extra_id_0>"], objective.eos_id)
    ids = np.arange(1, length + 1) % 250 + 2
    ours = objective.corrupt(Example({"tokens": ids}), np.random.default_rng(0))
    for _ in range(20):
        batch = collator([{"input_ids": ids}, {"input_ids": np.concatenate([ids, ids])}])
        read = batch["input_ids"][0][batch["attention_mask"][0] == 1].numpy()
        written = batch["labels"][0][batch["labels"][0] != -100].numpy()
        assert (len(read), len(written)) == (len(ours.arrays["tokens"]), len(ours.arrays["targets"]))
        assert objective.restore(read, written).tolist() == ids.tolist()
