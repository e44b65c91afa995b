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
