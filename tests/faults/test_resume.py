"""A killed run continues as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SETTINGS, SHORT, Killed, final_bytes, losses, same, train, train_here, write_text

from trifecta.errors import DataError


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train(text, out, unrelated=True)
    assert done.returncode == 0, done.stderr
    return out


def test_fault_001_kill_nine_at_several_steps_gives_the_same_bytes(text: Path, whole: Path, tmp_path: Path) -> None:
    """Killed before the first save, twice at one step and in a later epoch, with accumulation, dropout and shuffling
    on, a run ends with the same bytes and each step once in its journal."""
    out = tmp_path / "run"
    for step in (3, 13, 13, 41):
        assert train(text, out, at_step=step, unrelated=True).returncode == -9
    assert train(text, out, unrelated=True).returncode == 0
    same(out, whole)
    assert [step for step, _ in losses(out)] == list(range(1, len(losses(whole)) + 1)), "each step once"
    assert (out / "journal.abandoned.jsonl").exists()


def test_fault_001_control_another_seed_is_noticed(text: Path, whole: Path, tmp_path: Path) -> None:
    """Another seed gives other losses and other bytes."""
    out = tmp_path / "run"
    assert train(text, out, **{"training.seed": 43}).returncode == 0
    assert losses(out) != losses(whole)
    assert final_bytes(out) != final_bytes(whole)


@pytest.mark.parametrize("event", ["evaluation", "sample", "checkpoint"])
def test_fault_001_kill_nine_between_steps(text: Path, whole: Path, tmp_path: Path, event: str) -> None:
    """Killed as an evaluation, a sample or a save is announced, a run ends with the same bytes."""
    out = tmp_path / "run"
    step = {"evaluation": 14, "sample": len(losses(whole)) // 3, "checkpoint": 10}[event]
    assert train(text, out, at_step=step, at_event=event).returncode == -9
    assert train(text, out).returncode == 0
    same(out, whole)


@pytest.mark.parametrize("stage", ["begin", "model.safetensors", "state.json", "manifest", "renamed"])
def test_fault_002_kill_at_each_stage_of_a_save(text: Path, whole: Path, tmp_path: Path, stage: str) -> None:
    """A run killed at a stage of a save goes on to the same bytes and leaves nothing half written."""
    out = tmp_path / "run"
    assert train(text, out, environment={"TRIFECTA_FAILPOINT": stage}).returncode == -9
    assert train(text, out).returncode == 0
    same(out, whole)
    assert not list((out / "checkpoints").glob(".partial*"))


def test_fault_003_two_resumes_from_one_checkpoint_are_identical(text: Path, tmp_path: Path) -> None:
    """A run and its copy, resumed from one checkpoint, end with the same bytes."""
    out = tmp_path / "run"
    assert train(text, out, at_step=17).returncode == -9
    shutil.copytree(out, tmp_path / "copy", symlinks=True)
    for place in (out, tmp_path / "copy"):
        assert train(text, place).returncode == 0
    same(out, tmp_path / "copy")


def test_fault_005_workers_change_nothing(text: Path, whole: Path, tmp_path: Path) -> None:
    """Killed with two data workers and resumed with one, a run ends with the same bytes as a run without workers."""
    out = tmp_path / "run"
    assert train(text, out, at_step=13, **{"data.num_workers": 2}).returncode == -9
    assert train(text, out, **{"data.num_workers": 1}).returncode == 0
    same(out, whole)


@pytest.mark.parametrize(("signal", "status"), [(15, "terminated"), (2, "interrupted")])
@pytest.mark.parametrize("step", [1, 12])
def test_fault_024_025_a_signal_saves_and_stops_and_the_run_goes_on(
    text: Path, whole: Path, tmp_path: Path, signal: int, status: str, step: int
) -> None:
    """SIGTERM and Ctrl-C save and end the run; the same command goes on to the same bytes."""
    out = tmp_path / "run"
    stopped = train(text, out, at_step=step, signal=signal)
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(stopped.stdout) == {"status": status, "step": step}
    assert train(text, out).returncode == 0
    same(out, whole)


def test_fault_019_changed_data_is_refused(text: Path, tmp_path: Path) -> None:
    """Text that changed since the save is refused on resume (3)."""
    own = tmp_path / "words.txt"
    own.write_bytes(text.read_bytes())
    assert train(own, tmp_path / "run", at_step=9).returncode == -9
    own.write_bytes(text.read_bytes().replace(b"a", b"b", 5))
    refused = train(own, tmp_path / "run")
    assert refused.returncode == 3
    assert "changed since this run was saved" in refused.stderr


def test_fault_020_changed_model_is_refused_by_name(text: Path, tmp_path: Path) -> None:
    """Another width or depth on resume is refused (4), each key named with both values."""
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
    """A second process is refused (2) and told who trains; the lock of a dead one holds nobody up."""
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


def test_fault_021_what_a_killed_run_has_started_holds_nothing(tmp_path: Path) -> None:
    """A data worker notices its parent's death after seconds only; the run can be resumed at once all the same."""
    from trifecta.training import lock

    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from trifecta.training import lock\n"
        "with lock.hold(Path(sys.argv[1])):\n"
        "    if not os.fork():\n"
        "        print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        child = int(run.stdout.readline())
        try:
            run.kill()
            assert run.wait() == -9
            os.kill(child, 0)
            with lock.hold(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_fault_022_resume_modes(text: Path, tmp_path: Path) -> None:
    """`resume: must` is refused where there is nothing to resume, `never` where a run is already there (4 each); `auto`
    starts a new run, and `must` goes on with it."""
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
    """A folder that can't be made ends the run before its first step (6)."""
    (tmp_path / "file").write_text("in the way")
    refused = train(text, tmp_path / "file" / "run")
    assert refused.returncode == 6
    assert "choose another folder with -o" in refused.stderr


def test_numeric_037_same_seed_twice_same_bytes(text: Path, whole: Path, tmp_path: Path) -> None:
    """The same seed in two processes gives the same bytes."""
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


# What follows plants bugs, in this process, in runs of a few steps.


def whole_and_resumed(text: Path, place: Path, at_step: int = 5, **settings: Any) -> tuple[Path, Path]:
    """A run without and one with a kill after a step, each from another state of torch's default generator."""
    import torch

    settings = SHORT | settings
    torch.manual_seed(1)
    train_here(text, place / "whole", **settings)
    with pytest.raises(Killed):
        train_here(text, place / "run", at_step=at_step, **settings)
    torch.manual_seed(2)
    train_here(text, place / "run", **settings)
    return place / "whole", place / "run"


def differ(one: Path, other: Path) -> bool:
    """Whether `same` would notice."""
    return losses(one) != losses(other) and final_bytes(one) != final_bytes(other)


RANDOMNESS: dict[str, Any] = {
    "model.dropout": 0.3, "model.attention_dropout": 0.2, "data.shuffle": True, "training.epochs": 2,
}  # fmt: skip


def test_fault_004_dropout_and_shuffling_are_resumed_exactly(text: Path, tmp_path: Path) -> None:
    """With dropout everywhere and shuffling on, a run killed in its second epoch ends with the same bytes."""
    assert train(text, tmp_path / "whole", **RANDOMNESS).returncode == 0
    assert train(text, tmp_path / "run", at_step=43, **RANDOMNESS).returncode == -9
    assert train(text, tmp_path / "run", **RANDOMNESS).returncode == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_fault_004_plain_runs_in_one_process_are_resumed_exactly(short_text: Path, tmp_path: Path) -> None:
    """Without the bugs planted below, the same runs are resumed to the same bytes."""
    same(*whole_and_resumed(short_text, tmp_path))


GAPS: dict[str, dict[str, Any]] = {
    "masked": {"config": "bert-modern", "objective.choose": "word"},
    "span": {"config": "t5-modern", "objective.rate": 0.3, "objective.mean_span_length": 1.5},
}


@pytest.mark.parametrize("kind", GAPS)
def test_fault_004_gaps_are_resumed_exactly(short_text: Path, tmp_path: Path, kind: str) -> None:
    """With masked words and with gaps that are drawn anew in each epoch, dropout and shuffling on, a BERT and a T5 that
    are killed in their second epoch end with the same bytes, with data workers too."""
    settings = GAPS[kind] | {"training.epochs": 2, "tokenizer.type": "char"}
    whole, resumed = whole_and_resumed(short_text, tmp_path, at_step=15, **settings)
    assert len(losses(whole)) > 16
    same(whole, resumed)
    train_here(short_text, tmp_path / "workers", **SHORT | settings | {"data.num_workers": 1})
    same(whole, tmp_path / "workers")


@pytest.mark.parametrize("kind", GAPS)
def test_fault_004_control_gaps_that_are_drawn_as_they_come_are_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With gaps from one generator that goes on from batch to batch the resumed run differs."""
    import numpy as np

    drawn = {}

    def generator_of(_seed: int, purpose: str, *_numbers: int) -> np.random.Generator:
        return drawn.setdefault(purpose, np.random.default_rng(0))

    monkeypatch.setattr("trifecta.run.feed.numpy_generator", generator_of)
    settings = GAPS[kind] | {"tokenizer.type": "char"}
    assert differ(*whole_and_resumed(short_text, tmp_path, **settings))


def test_fault_004_control_dropout_from_the_shared_generator_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout from torch's shared generator the resumed run differs."""
    monkeypatch.setattr("trifecta.training.step.seed_dropout", lambda *_: None)
    assert differ(*whole_and_resumed(short_text, tmp_path))


def test_fault_004_control_an_order_that_is_drawn_as_it_comes_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an order of samples drawn as it comes the resumed run differs."""
    import numpy as np

    from trifecta.data import Sampler

    streams: dict[int, Any] = {}

    def drawn(self: Sampler, _epoch: int, start: int, stop: int) -> Any:
        if start == 0 or id(self) not in streams:
            streams[id(self)] = iter(np.random.default_rng(0).permutation(self.size))
        return np.array([next(streams[id(self)]) for _ in range(start, min(stop, self.size))])

    monkeypatch.setattr(Sampler, "indices", drawn)
    assert differ(*whole_and_resumed(short_text, tmp_path, **{"training.evaluate_every_n_steps": 100}))


def test_fault_003_control_a_choice_by_the_clock_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout drawn by the clock the two resumes differ."""
    import torch

    monkeypatch.setattr("trifecta.training.step.seed_dropout", lambda *_: torch.seed())
    with pytest.raises(Killed):
        train_here(short_text, tmp_path / "run", at_step=5, **SHORT)
    shutil.copytree(tmp_path / "run", tmp_path / "copy", symlinks=True)
    for place in ("run", "copy"):
        train_here(short_text, tmp_path / place, **SHORT)
    assert differ(tmp_path / "run", tmp_path / "copy")


def test_fault_003_a_copy_without_links_is_resumed_too(text: Path, whole: Path, tmp_path: Path) -> None:
    """A run copied by a program that follows links goes on to the same bytes, and its `best` can be read."""
    from trifecta.training import checkpoint

    out = tmp_path / "run"
    assert train(text, out, at_step=17).returncode == -9
    shutil.copytree(out, tmp_path / "copy")
    assert (tmp_path / "copy" / "checkpoints" / "best").is_dir()
    assert not (tmp_path / "copy" / "checkpoints" / "best").is_symlink()
    checkpoint.verify(tmp_path / "copy" / "checkpoints" / "best")
    assert train(text, tmp_path / "copy").returncode == 0
    same(tmp_path / "copy", whole)


def test_fault_005_control_an_order_that_depends_on_workers_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that turn the order of a batch round change the run."""
    from torch.utils.data import get_worker_info

    from trifecta.run.feed import Feed

    plain = Feed.batch
    monkeypatch.setattr(
        Feed, "batch", lambda self, request: plain(self, (request[0], request[1][:: -1 if get_worker_info() else 1]))
    )
    for workers in (0, 1):
        train_here(short_text, tmp_path / str(workers), **SHORT | {"data.num_workers": workers})
    assert differ(tmp_path / "0", tmp_path / "1")


@pytest.mark.parametrize("link", ["best", "final"])
def test_fault_002_a_kill_between_a_save_and_its_links_loses_neither(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    """Killed after a checkpoint is there and before `best` or `final` leads to it, the next start links it."""
    from trifecta.training import checkpoint

    def kill(_root: Path, name: str, _saved: checkpoint.Checkpoint) -> None:
        if name == link:
            raise Killed

    settings = SHORT | {"training.evaluate_every_n_steps": 1000}  # the last step alone is validated, and the best
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "point", kill)
        with pytest.raises(Killed):
            train_here(short_text, out, **settings)
    assert not (out / "checkpoints" / link).exists()
    done = train_here(short_text, out, **settings)
    newest = checkpoint.newest(out / "checkpoints", print)
    assert newest is not None
    assert newest.step == done.step
    assert (out / "checkpoints" / link).resolve() == newest.folder.resolve()


def test_fault_010_control_an_error_left_unexplained_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the translation of errors the error has no exit code."""
    from contextlib import nullcontext

    from trifecta.training import files

    monkeypatch.setattr(files, "disk_errors", lambda *_: nullcontext())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError) as caught:
        train_here(short_text, tmp_path / "file" / "run", **SHORT)
    assert not hasattr(caught.value, "exit_code")


def test_fault_019_control_a_fingerprint_of_names_alone_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fingerprint of file names alone lets changed text pass."""
    from trifecta.data import Sources

    own = tmp_path / "words.txt"
    own.write_bytes(short_text.read_bytes())
    monkeypatch.setattr(Sources, "fingerprint", lambda self, _progress=None: str(self.paths))
    with pytest.raises(Killed):
        train_here(own, tmp_path / "run", at_step=5, **SHORT)
    own.write_bytes(short_text.read_bytes().replace(b"a", b"b", 5))
    assert train_here(own, tmp_path / "run", **SHORT).status == "finished", "no error, and the old text trained on"


def test_fault_020_a_changed_tokenizer_is_refused_by_name(short_text: Path, tmp_path: Path) -> None:
    """Another tokenizer on resume is refused (4), the key named with both values."""
    from trifecta.errors import CheckpointError

    with pytest.raises(Killed):
        train_here(short_text, tmp_path / "run", at_step=5, **SHORT)
    with pytest.raises(CheckpointError, match=r'tokenizer\.type: "char" -> "byte"') as caught:
        train_here(short_text, tmp_path / "run", **SHORT | {"tokenizer": "byte"})
    assert caught.value.exit_code == 4


def test_fault_020_control_an_unchecked_recipe_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the comparison of recipes no error names the changed key."""
    from trifecta.errors import TrifectaError
    from trifecta.run import folder

    monkeypatch.setattr(folder, "check_resumable", lambda *_: [])
    with pytest.raises(Killed):
        train_here(short_text, tmp_path / "run", at_step=5, **SHORT)
    with pytest.raises(TrifectaError) as caught:
        train_here(short_text, tmp_path / "run", **SHORT | {"tokenizer": "byte"})
    assert "tokenizer.type" not in str(caught.value), "an error comes, but doesn't name the key"


def test_fault_021_control_a_lock_that_holds_nothing_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lock that locks nothing, a second process trains."""
    from contextlib import nullcontext

    from trifecta.training import lock

    monkeypatch.setattr(lock, "hold", lambda _: nullcontext())
    with lock.hold(tmp_path / "run"):
        assert train_here(short_text, tmp_path / "run", **SHORT).status == "finished"


def test_fault_022_control_a_run_that_is_overlooked_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the checkpoints are overlooked, `never` trains over a run."""
    from trifecta.errors import CheckpointError
    from trifecta.training import checkpoint

    with pytest.raises(Killed):
        train_here(short_text, tmp_path / "run", at_step=5, **SHORT)
    with pytest.raises(CheckpointError, match="a run is here already"):
        train_here(short_text, tmp_path / "run", resume="never", **SHORT)
    monkeypatch.setattr(checkpoint, "newest", lambda *_: None)
    assert train_here(short_text, tmp_path / "run", resume="never", **SHORT).status == "finished"


def test_fault_024_025_control_a_signal_that_nobody_hears_is_noticed(text: Path, tmp_path: Path) -> None:
    """A run that doesn't listen for SIGTERM dies of it without a save."""
    deaf = "import contextlib, trifecta.run.trainer as t; t.stop_on_signals = lambda: contextlib.nullcontext(bool)"
    stopped = train(text, tmp_path / "run", at_step=3, signal=15, plant=deaf)
    assert stopped.returncode == -15
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))


def test_fault_025_a_second_interrupt_stops_at_once_and_the_last_save_loads(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second Ctrl-C ends the run where it stands, here in the save that the first asked for."""
    import os
    import signal

    import trifecta
    from trifecta.training import checkpoint, files

    out, plain, struck = tmp_path / "run", files.write_file, [0]

    def strike(path: Path, write: Any) -> Any:
        if path.parent.name.startswith(".partial-step-00000005"):
            struck[0] += 1
            os.kill(os.getpid(), signal.SIGINT)
        return plain(path, write)

    def first(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(files, "write_file", strike)
    with pytest.raises(KeyboardInterrupt):
        trifecta.train(short_text, config="small", out=out, settings=SETTINGS | SHORT, hooks=[first])
    assert struck == [1]
    monkeypatch.setattr(files, "write_file", plain)
    saved = checkpoint.newest(out / "checkpoints", print)
    assert saved is not None
    assert saved.step == 3
    train_here(short_text, out, **SHORT)
    train_here(short_text, tmp_path / "whole", **SHORT)
    same(out, tmp_path / "whole")


def test_changed_settings_are_taken_and_recorded(short_text: Path, tmp_path: Path) -> None:
    """Learning rate, batch size, epochs and evaluation may change on resume; the journal says what changed."""
    with pytest.raises(Killed):
        train_here(short_text, tmp_path / "run", at_step=5, **SHORT)
    changed = {"training.learning_rate": 5e-4, "training.epochs": 2, "training.batch_size": 2,
               "training.evaluate_every_n_steps": 5}  # fmt: skip
    assert train_here(short_text, tmp_path / "run", **SHORT | changed).status == "finished"
    events = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    notes = [event["message"] for event in events if event["event"] == "note"]
    for key, value in changed.items():
        assert any(note.startswith(f"changed on resume: {key}: ") and note.endswith(f" -> {value}") for note in notes)
    assert {event["step"] % 5 for event in events if event["event"] == "evaluation"} - {0} <= {events[-1]["step"] % 5}


def test_validation_files_stay_those_of_the_run_when_a_preset_is_given_again(short_text: Path, tmp_path: Path) -> None:
    other = write_text(tmp_path / "other.txt", words=200, seed=1)
    data = {"data.validation_paths": [str(other)]}
    first = train(short_text, tmp_path / "run", **data, **{"training.epochs": 1})
    assert first.returncode == 0, first.stderr
    again = train_here_without_data(tmp_path / "run", **{"training.epochs": 2})
    assert again.status == "finished"


def train_here_without_data(out: Path, **settings: Any) -> Any:
    """The same preset and settings over a run's folder, without naming its text."""
    import trifecta

    return trifecta.train(preset="small", out=out, settings=SETTINGS | settings)


def test_a_text_that_was_moved_is_told_how_to_go_on(tmp_path: Path) -> None:
    text = write_text(tmp_path / "a.txt", words=300)
    assert train(text, tmp_path / "run", **{"training.epochs": 1}).returncode == 0
    whole_text = text.rename(tmp_path / "b.txt")
    with pytest.raises(DataError) as caught:
        train_here_without_data(tmp_path / "run", **{"training.epochs": 2})
    assert f"trifecta train -o {tmp_path / 'run'} 'data.paths=[FILE]'" in str(caught.value.fix)
    assert train_here_without_data(tmp_path / "run", **{"training.epochs": 2, "data.paths": [str(whole_text)]}).step > 0


def test_loading_goes_on_to_the_next_checkpoint_when_training_removes_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest checkpoint vanishes after it was found, as `keep_last_n` lets it; nothing of it is needed later."""
    import trifecta
    from trifecta.run import opened

    place = tmp_path / "run"
    shutil.copytree(whole, place, symlinks=True)
    find, found = opened.folder.find_checkpoint, []

    def losing(path: Path, warn: Any) -> Any:
        found.append(find(path, warn))
        if len(found) == 1:
            shutil.rmtree(found[0].folder)
        return found[-1]

    monkeypatch.setattr(opened.folder, "find_checkpoint", losing)
    run = trifecta.load(place)
    assert len(found) == 2
    assert run.step == found[1].step < found[0].step
    shutil.rmtree(place)
    assert run.generate("a", max_tokens=3, seed=1).startswith("a")


_PHASES: dict[str, Any] = {
    "training.phases": [
        {"sequence_length": 8, "batch_size": 8, "steps": 5},
        {"sequence_length": 12, "steps": 4, "gradient_accumulation_steps": 1},
        {"steps": 4},
    ]
}


@pytest.mark.parametrize("at_step", [4, 5])
def test_fault_004_phases_are_resumed_exactly(short_text: Path, tmp_path: Path, at_step: int) -> None:
    """Killed within a phase and at the end of one, a run goes on to the same bytes, each phase said once."""
    settings = _PHASES | {"training.save_every_n_steps": 5, "training.evaluate_every_n_steps": 6}
    train(short_text, tmp_path / "whole", **settings)
    train(short_text, tmp_path / "killed", at_step=at_step, **settings)
    train(short_text, tmp_path / "killed", **settings)
    same(tmp_path / "whole", tmp_path / "killed")
    events = [json.loads(line) for line in (tmp_path / "killed" / "journal.jsonl").read_text().splitlines()]
    said = [(e["step"], e["sequence_length"], e["batch_size"]) for e in events if e["event"] == "phase"]
    assert said == [(0, 8, 8), (5, 12, 4), (9, 16, 4)]
    tokens = {e["step"]: e["tokens"] for e in events if e["event"] == "step"}
    assert (tokens[1], tokens[6], tokens[10]) == (2 * 8 * 8, 4 * 12, 2 * 4 * 16)


def test_fault_004_control_phases_that_share_their_order_are_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second phase that forgot which phase it is, after a kill, gives other bytes."""
    settings = _PHASES | {"training.save_every_n_steps": 5, "training.evaluate_every_n_steps": 6}
    train_here(short_text, tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        train_here(short_text, tmp_path / "killed", at_step=7, **settings)
    monkeypatch.setattr("trifecta.run.feed._of_phase", lambda purpose, _phase: purpose)
    train_here(short_text, tmp_path / "killed", **settings)
    with pytest.raises(AssertionError):
        same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    "order",
    [
        {"data.weights": [3, 1]},
        {"data.curriculum": {"type": "rarity", "epochs": 0.7}},
        {"data.curriculum": {"type": "length"}, "data.samples": "lines"},
    ],
    ids=["mixture", "rarity", "length"],
)
def test_fault_004_orders_are_resumed_exactly(short_text: Path, tmp_path: Path, order: dict[str, Any]) -> None:
    """Mixed corpora and curricula: resumed, with other workers too, the bytes are the same."""
    text = tmp_path / "lines.txt"
    text.write_text(short_text.read_text().replace(" a", "\n"))
    if "data.weights" in order:
        text = Path(f"{text},{short_text}")
    for name, at_step in (("whole", -1), ("killed", 4)):
        train(text, tmp_path / name, at_step=at_step, **SHORT, **order)
    done = train(text, tmp_path / "killed", **SHORT, **order, **{"data.num_workers": 1})
    assert done.returncode == 0, done.stderr
    same(tmp_path / "whole", tmp_path / "killed")


TECHNIQUES: dict[str, Any] = {
    "training.ema_decay": 0.9, "training.gradient_noise": 0.01, "training.label_smoothing": 0.1,
    "training.z_loss": 1e-4, "training.gradient_clip_value": 0.1, "training.gradient_clip_ratio": 0.05,
    "training.adversary": {"type": "freelb", "steps": 2}, "model.drop_path": 0.2,
}  # fmt: skip


def test_fault_004_techniques_are_resumed_exactly(short_text: Path, tmp_path: Path) -> None:
    """Noise, averages, smoothing, clipping, an adversary and left-out blocks: resumed, the bytes are the same."""
    for name, at_step in (("whole", -1), ("killed", 4)):
        train(short_text, tmp_path / name, at_step=at_step, **SHORT, **TECHNIQUES)
    train(short_text, tmp_path / "killed", **SHORT, **TECHNIQUES)
    same(tmp_path / "whole", tmp_path / "killed")
    assert "ema.safetensors" in final_bytes(tmp_path / "whole")


def test_fault_004_control_an_average_that_begins_anew_is_noticed(
    short_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume that forgets the averages gives other ones."""
    train_here(short_text, tmp_path / "whole", **SHORT, **TECHNIQUES)
    with pytest.raises(Killed):
        train_here(short_text, tmp_path / "killed", at_step=4, **SHORT, **TECHNIQUES)
    monkeypatch.setattr("trifecta.optim.ema.Ema.load", lambda _self, _tensors: None)
    train_here(short_text, tmp_path / "killed", **SHORT, **TECHNIQUES)
    with pytest.raises(AssertionError):
        same(tmp_path / "whole", tmp_path / "killed")


def test_what_is_validated_and_used_afterwards_is_the_average(short_text: Path, tmp_path: Path) -> None:
    """The best loss is that of the averages, `evaluate` gives it again, and a run without them is refused on resume."""
    import trifecta
    from trifecta.run import evaluate

    train_here(short_text, tmp_path / "run", **SHORT, **TECHNIQUES)
    events = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    last = [event for event in events if event["event"] == "evaluation"][-1]
    assert evaluate(tmp_path / "run")["loss"] == pytest.approx(last["loss"], abs=1e-6)
    found = trifecta.load(tmp_path / "run").model.state_dict()
    from safetensors.torch import load_file

    weights, averages = (
        load_file(tmp_path / "run" / "checkpoints" / "final" / name)
        for name in ("model.safetensors", "ema.safetensors")
    )
    name = "blocks.0.feedforward.up.weight"
    assert torch.equal(found[name], averages[name])
    assert not torch.equal(found[name], weights[name])
    refused = train(short_text, tmp_path / "run", **SHORT)
    assert refused.returncode == 4
    assert "training.ema_decay" in refused.stderr
