"""`trifecta check`: everything before the first step."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_group_017_tutorial_has_1044736_parameters_and_485_steps_an_epoch(
    run_trifecta: Run, tinyshakespeare: Path, tmp_path: Path
) -> None:
    done = run_trifecta("check", tinyshakespeare, "--preset", "tutorial", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["parameters"]["total"] == 1_044_736
    assert facts["data"]["vocab_size"] == 2000
    assert (facts["data"]["train_characters"], facts["data"]["validation_characters"]) == (1_003_854, 111_540)
    assert (facts["steps"]["steps_per_epoch"], facts["steps"]["total_steps"]) == (485, 1455)
    assert facts["recipe"]["training"]["learning_rate"] == 3e-4
    assert facts["memory"]["total_bytes"] > 4 * 4 * 1_044_736
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_show_batch_decodes_three_samples_with_shifted_targets(run_trifecta: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the quick brown fox jumps over the lazy dog. " * 30)
    done = run_trifecta("check", "a.txt", "--preset", "small", "--show-batch", "--json", cwd=tmp_path)
    batch = json.loads(done.stdout)["batch"]
    assert len(batch) == 3
    for sample in batch:
        assert sample["target"][:-1] == sample["input"][1:]
        assert set(sample["mask"]) <= {"#", "."}
        assert sample["mask"].count("#") == len(sample["target"])


def test_conflicts_end_with_two_and_all_are_named(run_trifecta: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 100)
    (tmp_path / "r.yaml").write_text(
        "model:\n  d_model: 100\n  num_heads: 3\ntraining:\n  epochs: no\n  lerning_rate: 1\n"
    )
    done = run_trifecta("check", "r.yaml", "a.txt", cwd=tmp_path)
    assert done.returncode == 2
    for part in ("r.yaml:2", "num_heads", "r.yaml:5", "r.yaml:6", "learning_rate"):
        assert part in done.stderr, part


@pytest.mark.fast
def test_fault_069_a_run_lives_below_its_root_whatever_the_data_is_called() -> None:
    """Run names with paths, line breaks, 5,000 characters or a leading dot are refused (2)."""
    from trifecta.errors import RecipeError
    from trifecta.recipe.names import check_run_name

    for name in ("../../x", "/etc/x", "a\nb", "x" * 5000, "", ".hidden", "a/b"):
        with pytest.raises(RecipeError) as caught:
            check_run_name(name)
        assert caught.value.exit_code == 2


def test_fault_069_odd_file_names_make_plain_run_names(run_trifecta: Run, tmp_path: Path) -> None:
    """Trained on a file of the oddest name, a run has a name of letters, digits and hyphens, in the folder `runs`."""
    odd = tmp_path / ("..%2f..; rm -rf \n'\"" + "x" * 100 + ".txt")
    odd.write_text("some text to learn " * 100)
    words = ["--preset", "small", "--max-steps", "1", "model.d_model=8", "model.num_heads=1", "model.d_ff=8"]
    done = run_trifecta("train", odd, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.replace("-", "").isalnum()
    assert len(run.name) < 100


SMALL = {"model.d_model": 16, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 32, "tokenizer.type": "char",
         "data.sequence_length": 64, "training.batch_size": 8}  # fmt: skip


@pytest.mark.parametrize("kind", ["lines", "classify", "seq2seq"])
def test_an_estimate_of_short_samples_is_not_that_of_full_rows(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens are those of a real epoch within 5 per cent; memory is that of the rows that the batches have."""
    from trifecta.inspection import estimate
    from trifecta.run import Request, build, check, preview
    from trifecta.run.feed import Feed
    from trifecta.run.resolution import resolve

    lines = ["ab " * (1 + n % 5) for n in range(400)]
    settings: dict[str, object] = {
        "lines": {"data.samples": "lines"},
        "classify": {"model.type": "bert", "objective.type": "classify"},
        "seq2seq": {"model.type": "t5", "objective.type": "seq2seq"},
    }[kind]
    path = tmp_path / ("a.txt" if kind == "lines" else "a.tsv")
    rows = {"lines": lines, "classify": [f"{line}\t{n % 2}" for n, line in enumerate(lines)],
            "seq2seq": [f"{line}\t{line}" for line in lines]}[kind]  # fmt: skip
    header = {"lines": "", "classify": "text\tlabel\n", "seq2seq": "source\ttarget\n"}[kind]
    path.write_text(header + "\n".join(rows) + "\n")
    flags = {name: ("test", value) for name, value in {**SMALL, **settings}.items()}
    request = Request(data=(str(path),), flags=flags)
    monkeypatch.setattr(estimate, "measure_speed", lambda *_, **__: estimate.Speed(1e9, 1e-9))
    facts = check(request)

    resolution = resolve(request)
    data = build.data_of(resolution.recipe, resolution.text)
    feed = Feed.of(resolution.recipe, build.objective_of(resolution.recipe, data.tokenizer), data.train, training=True)
    epoch = list(feed.in_order(8))
    steps, full_rows = facts["steps"], 8 * 64
    assert steps["tokens_per_epoch"] == pytest.approx(sum(batch.tokens for batch in epoch), rel=0.05)
    assert steps["tokens_per_step"] == pytest.approx(sum(batch.tokens for batch in epoch) / len(epoch), rel=0.05)
    assert steps["tokens_per_step"] < 0.5 * full_rows
    assert "batches of 8 samples: at most " in steps["based_on"]
    largest, measured = preview.expected_of(resolution.recipe, feed, facts["data"]["vocab_size"], "cpu")
    assert measured is not None
    assert measured.typical < 1
    assert facts["time"]["step_seconds"] == pytest.approx(largest.seconds_per_step * measured.typical)

    windows = check(Request(data=(str(path.with_suffix(".txt")),), flags={n: ("test", v) for n, v in SMALL.items()})
                    ) if kind == "lines" else None  # fmt: skip
    if windows:
        assert windows["steps"]["tokens_per_step"] == full_rows
        assert windows["steps"]["based_on"] == "8 full rows of 64 tokens"
        assert facts["memory"]["activations_bytes"] < 0.6 * windows["memory"]["activations_bytes"]
    if kind == "classify":
        assert facts["memory"]["logits_bytes"] == 0


@pytest.mark.parametrize(("characters", "little"), [(9_000, True), (12_000, False)])
def test_little_text_is_said_to_be_little(characters: int, little: bool, run_trifecta: Run, tmp_path: Path) -> None:
    """Below 10,000 characters a note says that they are learned by heart, and how many suit which model."""
    (tmp_path / "book.txt").write_text(("The cat sat on the mat. " * 600)[:characters])
    done = run_trifecta("check", "book.txt", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)["data"]["notes"]
    assert any("9,000 characters are little text" in note for note in notes) == little


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        (["data.sequence_length=1024"], True),
        (["data.sequence_length=1023"], False),
        (["data.sequence_length=1024", "model.attention_dropout=0"], False),
        (["data.sequence_length=1024", "model.dropout=0"], False),
        (["data.sequence_length=1024", "model.dropout=0", "model.attention_dropout=0.25"], True),
    ],
)
def test_attention_dropout_over_long_sequences_on_a_cpu_is_warned_of(
    settings: list[str], warned: bool, run_trifecta: Run, tmp_path: Path
) -> None:
    """From 1,024 tokens on, and only with dropout in the attention itself; it says what to set."""
    (tmp_path / "book.txt").write_text("The cat sat on the mat. " * 900)
    tiny = ["model.d_model=8", "model.num_heads=1", "model.num_layers=1", "model.d_ff=8", "training.batch_size=1"]
    done = run_trifecta("check", "book.txt", "--preset", "small", "--device", "cpu", *tiny, *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("with sequences of 1,024 on a CPU" in done.stdout) == warned
    assert ("the fused kernel knows no dropout" in done.stdout) == warned
    if warned:
        rate = "0.25" if "model.dropout=0" in settings else "0.1"
        assert f"attention dropout {rate} with" in done.stdout
        assert "set model.attention_dropout to 0" in done.stdout
