"""Updates that stand out are skipped, or weights of before come back; a killed run ends with the same bytes."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from runs import Killed, final_bytes, losses, same, train, train_here

from trifecta.errors import RecipeError

SHORT: dict[str, Any] = {
    "training.epochs": 1, "training.learning_rate": 1e-2, "data.shuffle": False, "training.ema_decay": 0.9,
    "training.save_every_n_steps": 3, "training.keep_last_n": 1, "training.evaluate_every_n_steps": None,
    "training.save_best": False, "model.num_layers": 1, "model.dropout": 0.1,
}  # fmt: skip
WATCH: dict[str, Any] = {"training.spikes.window": 12, "training.spikes.sigma": 5.0}
SKIP = SHORT | WATCH | {"training.spikes.type": "skip"}
BACK = SHORT | WATCH | {"training.spikes.type": "rollback", "training.spikes.every_n_steps": 10}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words that are soon learned, and a few hundred letters of noise among them, which some 30 updates come before."""
    generator = random.Random(0)
    words = [generator.choice(["the dog ", "a cat ", "sees ", "and "]) for _ in range(1400)]
    noise = "".join(generator.choices("qxzjkvwy", k=150))
    whole = "".join(words)
    path = tmp_path_factory.mktemp("spikes") / "text.txt"
    path.write_text(whole[:4_000] + noise + whole[4_000:])
    return path


@pytest.fixture(autouse=True)
def own_cache(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIFECTA_CACHE", str(text.parent / "cache"))


def spikes(out: Path) -> dict[int, dict[str, Any]]:
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert all(event["skipped"] == ("spike" in event) for event in steps)
    return {event["step"]: event for event in steps if "spike" in event}


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody disturbed."""
    made = {}
    for name, settings in (("skip", SKIP), ("rollback", BACK)):
        made[name] = tmp_path_factory.mktemp("whole") / name
        train_here(text, made[name], **settings)
    return made


def bytes_of(run: Path, step: int) -> dict[str, bytes]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def test_fault_034_a_spike_is_found_where_it_is_and_touches_nothing(
    text: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    """Noise in the text is a spike, of the first updates that learn from it; weights, moments and averages are the same
    bytes after as before."""
    found = spikes(whole["skip"])
    assert 1 <= len(found) <= 3
    first = min(found)
    assert 30 <= first <= 34
    event = found[first]
    assert event["loss"] > event["spike"]["loss_limit"] or event["grad_norm"] > event["spike"]["grad_norm_limit"]
    assert event["spike"]["returned_to"] is None
    assert event["samples"] == list(range(8 * (first - 1), 8 * first)), "windows in their order, eight to an update"
    train_here(text, tmp_path / "run", **SKIP | {"training.save_every_n_steps": 1, "training.keep_last_n": None})
    assert losses(tmp_path / "run") == losses(whole["skip"])
    assert bytes_of(tmp_path / "run", first) == bytes_of(tmp_path / "run", first - 1)
    assert bytes_of(tmp_path / "run", first - 1) != bytes_of(tmp_path / "run", first - 2)


def test_fault_034_weights_moments_and_averages_of_before_come_back_and_the_data_goes_on(
    text: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    """After a rollback they are the bytes of the last place that was kept; no step is done twice."""
    found = spikes(whole["rollback"])
    first = min(found)
    assert found[first]["spike"]["returned_to"] == 30
    train_here(text, tmp_path / "run", **BACK | {"training.save_every_n_steps": 1, "training.keep_last_n": None})
    assert losses(tmp_path / "run") == losses(whole["rollback"])
    assert bytes_of(tmp_path / "run", first) == bytes_of(tmp_path / "run", 30)
    assert {"model.safetensors", "optimizer.safetensors", "ema.safetensors"} <= bytes_of(tmp_path / "run", 30).keys()
    steps = [step for step, _ in losses(whole["rollback"])]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("how", ["skip", "rollback"])
@pytest.mark.parametrize("after", [-3, -1, 0, 2])
def test_fault_034_replayed_the_same_spikes_are_found(
    text: Path, whole: dict[str, Path], tmp_path: Path, how: str, after: int
) -> None:
    """Killed before, at and behind a spike, a run ends with the same bytes, though other checkpoints than that to go
    back to are removed."""
    settings = {"skip": SKIP, "rollback": BACK}[how]
    step = min(spikes(whole[how])) + after
    with pytest.raises(Killed):
        train_here(text, tmp_path / "run", at_step=step, **settings)
    train_here(text, tmp_path / "run", **settings)
    same(tmp_path / "run", whole[how])
    assert spikes(tmp_path / "run").keys() == spikes(whole[how]).keys()


def test_fault_034_killed_for_good_at_a_spike(text: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    """Kill -9 right after weights came back, in a process of its own."""
    step = min(spikes(whole["rollback"]))
    assert train(text, tmp_path / "run", at_step=step, unrelated=True, **BACK).returncode == -9
    assert train(text, tmp_path / "run", **BACK).returncode == 0
    same(tmp_path / "run", whole["rollback"])


def test_fault_034_control_a_window_that_is_forgotten_is_noticed(
    text: Path, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed without the last losses, a run takes the spike for an update like others."""
    from trifecta.training.state import Progress

    plain = Progress.to_json
    monkeypatch.setattr(Progress, "to_json", lambda self: plain(self) | {"recent_losses": [], "recent_grad_norms": []})
    step = min(spikes(whole["skip"]))
    with pytest.raises(Killed):
        train_here(text, tmp_path / "run", at_step=step - 1, **SKIP)
    train_here(text, tmp_path / "run", **SKIP)
    assert final_bytes(tmp_path / "run") != final_bytes(whole["skip"])


def test_fault_034_control_a_place_that_is_removed_is_noticed(
    text: Path, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the checkpoint to go back to isn't kept, a spike is only skipped, and the bytes differ."""
    from trifecta.training import checkpoint

    prune = checkpoint.prune
    monkeypatch.setattr(checkpoint, "prune", lambda root, last, keep: prune(root, last, {max(keep)}))
    train_here(text, tmp_path / "run", **BACK | {"training.save_every_n_steps": 1})
    assert final_bytes(tmp_path / "run") != final_bytes(whole["rollback"])


def test_fault_034_control_moments_that_stay_are_noticed(
    text: Path, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that come back without their moments."""
    from trifecta.training import checkpoint

    monkeypatch.setattr(checkpoint, "load_tensors", lambda saved, state: checkpoint.load_model(saved, state.model))
    train_here(text, tmp_path / "run", **BACK)
    assert final_bytes(tmp_path / "run") != final_bytes(whole["rollback"])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (SKIP | {"training.spikes.window": 500}, "looks for spikes after 250 updates"),
        (BACK | {"training.spikes.every_n_steps": 500}, "first has a place to go back to at step 500"),
    ],
)
def test_fault_066_a_watch_that_never_begins(text: Path, tmp_path: Path, settings: dict[str, Any], what: str) -> None:
    """A run that is over before a spike could be told, or before there is anything to go back to, is refused."""
    with pytest.raises(RecipeError, match=what):
        train_here(text, tmp_path / "run", **settings)


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_place_that_is_no_more_is_said_and_the_spike_skipped(
    text: Path, whole: dict[str, Path], tmp_path: Path, harm: str
) -> None:
    """The run isn't stuck: it says which checkpoint it lacks, and goes on without."""
    step = min(spikes(whole["rollback"]))
    with pytest.raises(Killed):
        train_here(text, tmp_path / "run", at_step=step, **BACK | {"training.save_every_n_steps": 1})
    place = tmp_path / "run" / "checkpoints" / "step-00000030"
    if harm == "gone":
        shutil.rmtree(place)
    else:
        (place / "model.safetensors").write_bytes(b"")
    train_here(text, tmp_path / "run", **BACK)
    assert spikes(tmp_path / "run")[step]["spike"]["returned_to"] is None
    events = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    said = [event["message"] for event in events if event["event"] == "note"]
    assert any("step-00000030, to which a spike was to go back, is " + harm in note for note in said)


def test_fault_034_the_places_of_all_kept_checkpoints_are_kept(text: Path, tmp_path: Path) -> None:
    """Where the newest checkpoint is damaged and an older one is taken, that one's place to go back to is there too."""
    settings = BACK | {"training.save_every_n_steps": 1, "training.keep_last_n": 3}
    with pytest.raises(Killed):
        train_here(text, tmp_path / "run", at_step=22, **settings)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert kept == [f"step-{n:08d}" for n in (10, 19, 20, 21)]
