"""A killed run continues as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import SETTINGS, final_bytes, losses, train, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "words.txt")


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train(text, out)
    assert done.returncode == 0, done.stderr
    return out


def same(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    assert final_bytes(one) == final_bytes(other)


def test_fault_001_kill_nine_at_several_steps_gives_the_same_bytes(text: Path, whole: Path, tmp_path: Path) -> None:
    """Mid-epoch with accumulation, dropout, shuffling; before the first save; twice at the same place."""
    out = tmp_path / "run"
    for step in (3, 13, 13, 41):
        assert train(text, out, at_step=step).returncode == -9
    assert train(text, out).returncode == 0
    same(out, whole)
    assert [step for step, _ in losses(out)] == list(range(1, len(losses(whole)) + 1)), "each step once"
    assert (out / "journal.abandoned.jsonl").exists()


def test_fault_001_control_another_seed_is_noticed(text: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(text, out, **{"training.seed": 43}).returncode == 0
    assert losses(out) != losses(whole)
    assert final_bytes(out) != final_bytes(whole)


@pytest.mark.parametrize("event", ["evaluation", "sample", "checkpoint"])
def test_fault_001_kill_nine_between_steps(text: Path, whole: Path, tmp_path: Path, event: str) -> None:
    out = tmp_path / "run"
    step = {"evaluation": 14, "sample": len(losses(whole)) // 3, "checkpoint": 10}[event]
    assert train(text, out, at_step=step, at_event=event).returncode == -9
    assert train(text, out).returncode == 0
    same(out, whole)


@pytest.mark.parametrize("stage", ["begin", "model.safetensors", "state.json", "manifest", "renamed"])
def test_fault_002_kill_at_each_stage_of_a_save(text: Path, whole: Path, tmp_path: Path, stage: str) -> None:
    out = tmp_path / "run"
    assert train(text, out, environment={"TRIFECTA_FAILPOINT": stage}).returncode == -9
    assert train(text, out).returncode == 0
    same(out, whole)
    assert not list((out / "checkpoints").glob(".partial*"))


def test_fault_003_two_resumes_from_one_checkpoint_are_identical(text: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "run"
    assert train(text, out, at_step=17).returncode == -9
    shutil.copytree(out, tmp_path / "copy", symlinks=True)
    for place in (out, tmp_path / "copy"):
        assert train(text, place).returncode == 0
    same(out, tmp_path / "copy")


def test_fault_005_workers_change_nothing(text: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(text, out, at_step=13, **{"data.num_workers": 2}).returncode == -9
    assert train(text, out, **{"data.num_workers": 1}).returncode == 0
    same(out, whole)


@pytest.mark.parametrize(("signal", "status"), [(15, "terminated"), (2, "interrupted")])
@pytest.mark.parametrize("step", [1, 12])
def test_fault_024_025_a_signal_saves_and_stops_and_the_run_goes_on(
    text: Path, whole: Path, tmp_path: Path, signal: int, status: str, step: int
) -> None:
    out = tmp_path / "run"
    stopped = train(text, out, at_step=step, signal=signal)
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(stopped.stdout) == {"status": status, "step": step}
    assert train(text, out).returncode == 0
    same(out, whole)


def test_fault_019_changed_data_is_refused(text: Path, tmp_path: Path) -> None:
    own = tmp_path / "words.txt"
    own.write_bytes(text.read_bytes())
    assert train(own, tmp_path / "run", at_step=9).returncode == -9
    own.write_bytes(text.read_bytes().replace(b"a", b"b", 5))
    refused = train(own, tmp_path / "run")
    assert refused.returncode == 3
    assert "changed since this run was saved" in refused.stderr


def test_fault_020_changed_model_is_refused_by_name(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "run", at_step=9).returncode == -9
    refused = train(text, tmp_path / "run", **{"model.d_model": 32, "model.num_layers": 1})
    assert refused.returncode == 4
    assert "model.d_model: 16 -> 32" in refused.stderr
    assert "model.num_layers: 2 -> 1" in refused.stderr


def test_learning_rate_and_epochs_may_change_and_are_recorded(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(text, out, at_step=9).returncode == -9
    changed: dict[str, Any] = {"training.learning_rate": 5e-4, "training.epochs": 2, "training.batch_size": 8}
    assert train(text, out, **changed).returncode == 0
    notes = [json.loads(line).get("message", "") for line in (out / "journal.jsonl").read_text().splitlines()]
    for key in changed:
        assert any(key in note for note in notes), key


def test_fault_021_second_process_is_refused_and_a_dead_holder_is_not_in_the_way(text: Path, tmp_path: Path) -> None:
    from trifecta.errors import RecipeError
    from trifecta.training import lock

    out = tmp_path / "run"
    assert train(text, out, at_step=3).returncode == -9
    with lock.hold(out):
        second = train(text, out)
        assert second.returncode == 2
        assert "another process is training here: process" in second.stderr
        with pytest.raises(RecipeError), lock.hold(out):
            pass
    assert train(text, out).returncode == 0


def test_fault_022_resume_modes(text: Path, tmp_path: Path) -> None:
    nothing = train(text, tmp_path / "new", resume="must")
    assert nothing.returncode == 4
    assert "nothing to resume" in nothing.stderr
    assert train(text, tmp_path / "run", at_step=9).returncode == -9
    never = train(text, tmp_path / "run", resume="never")
    assert never.returncode == 4
    assert "a run is here already" in never.stderr
    assert train(text, tmp_path / "run", resume="must").returncode == 0


def test_a_finished_run_stays_finished(text: Path, whole: Path) -> None:
    before = final_bytes(whole)
    again = train(text, whole)
    assert again.returncode == 0
    assert json.loads(again.stdout)["status"] == "finished"
    assert final_bytes(whole) == before


def test_fault_010_unwritable_output_ends_before_the_first_step(text: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused = train(text, tmp_path / "file" / "run")
    assert refused.returncode == 6
    assert "choose another folder with -o" in refused.stderr


def test_numeric_037_same_seed_twice_same_bytes(text: Path, whole: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "run").returncode == 0
    same(tmp_path / "run", whole)
    assert SETTINGS["model.dropout"] > 0


def test_another_optimizer_is_refused_and_the_run_stays_as_it_was(text: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(text, out, at_step=13).returncode == -9
    refused = train(text, out, **{"training.optimizer": "sgd"})
    assert refused.returncode == 4
    assert 'training.optimizer.type: "adamw" -> "sgd"' in refused.stderr
    assert train(text, out).returncode == 0
    same(out, whole)


def test_a_finished_run_is_not_touched(text: Path, whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.name != ".lock"}
    again = train(text, whole)
    assert json.loads(again.stdout)["status"] == "finished"
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_fewer_epochs_than_done_are_refused(text: Path, whole: Path) -> None:
    refused = train(text, whole, **{"training.epochs": 1})
    assert refused.returncode == 2
    assert "training.epochs is 1, but this run has 3 already" in refused.stderr


def test_a_refused_start_leaves_no_folder_and_no_mixture(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "new", resume="must").returncode == 4
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused = train(text, tmp_path / "mine")
    assert refused.returncode == 2
    assert "holds other files (thesis.tex)" in refused.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_damaged_recipe_of_the_run_is_written_anew(text: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(text, out, at_step=13).returncode == -9
    (out / "recipe.yaml").write_bytes(b"\xff")
    assert train(text, out).returncode == 0
    same(out, whole)


def test_standard_input_is_resumed_without_it(text: Path, tmp_path: Path) -> None:
    """The printed command has no pipe: the text is kept in the cache."""
    import os
    import subprocess
    import sys

    code = "import sys, json; from trifecta.cli.main import main; sys.exit(main(json.loads(sys.argv[1])))"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRIFECTA_CACHE": str(tmp_path / "cache")}
    settings = [f"{key}={value}" for key, value in SETTINGS.items() if "early" not in key and "epochs" not in key]
    words = ["train", "--preset", "small", *settings, "-o", "run", "-q"]

    def run(words: list[str], data: bytes | None) -> int:
        return subprocess.run(
            [sys.executable, "-c", code, json.dumps(words)], input=data, cwd=tmp_path, env=environment, check=False
        ).returncode

    assert run([*words, "-", "training.epochs=1"], text.read_bytes()) == 0
    assert run(["train", "-o", "run", "-q", "training.epochs=2"], b"") == 0
    steps = [step for step, _ in losses(tmp_path / "run")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) % 2 == 0
