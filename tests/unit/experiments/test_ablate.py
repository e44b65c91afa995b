"""Effects and their intervals, toggles, and runs that go on where they were killed."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from runs import Killed, write_text

from trifecta.errors import CheckpointError, RecipeError
from trifecta.experiments.ablate import BASELINE, Measured, Planned, compare, plan, run_all, train_and_measure
from trifecta.experiments.effects import paired, student_t
from trifecta.experiments.techniques import TECHNIQUES, Toggle, parse
from trifecta.run.request import Request

TINY = (
    "model.d_model=16", "model.num_heads=2", "model.num_layers=1", "model.d_ff=32", "model.dropout=0",
    "data.sequence_length=16", "training.batch_size=4", "training.max_steps=20", "training.learning_rate=1e-3",
    "training.save_best=false", "tracking.sample.every_n_epochs=null", "execution.threads=1",
)  # fmt: skip


def request(folder: Path, *overrides: str) -> Request:
    return Request(preset="small", data=(str(write_text(folder / "text.txt")),), overrides=(*TINY, *overrides))


def false_positives(losses: list[float], pairs: int, comparisons: int) -> int:
    """How many of so many comparisons of runs of one and the same recipe show an effect."""
    rng, found = random.Random(0), 0
    for _ in range(comparisons):
        drawn = rng.sample(losses, 2 * pairs)
        found += paired(drawn[:pairs], drawn[pairs:]).seen
    return found


@pytest.mark.fast
def test_student_t_is_scipys() -> None:
    from scipy.stats import t

    for freedom in (1, 2, 3, 4, 5, 9, 30, 101):
        for confidence in (0.5, 0.9, 0.95, 0.99):
            assert student_t(confidence, freedom) == pytest.approx(t.ppf((1 + confidence) / 2, freedom), rel=1e-9)


@pytest.mark.fast
def test_paired_is_scipys() -> None:
    from scipy.stats import ttest_rel

    one, other = [2.1, 2.3, 2.2, 2.6], [2.0, 2.25, 2.0, 2.5]
    interval = ttest_rel(one, other).confidence_interval(0.95)
    effect = paired(one, other)
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert effect.seen == (ttest_rel(one, other).pvalue < 0.05)


@pytest.mark.fast
def test_pairs_share_what_the_seed_does() -> None:
    """A small effect that the same noise on both sides hides from a look at the means."""
    noise = [0.0, 1.0, -1.0, 0.5]
    changed = [n - 0.1 + e for n, e in zip(noise, (0.01, -0.01, 0.02, 0.0), strict=True)]
    assert paired(changed, noise).seen
    assert not paired(changed, noise[::-1]).seen


@pytest.mark.fast
def test_equal_runs_have_no_effect() -> None:
    effect = paired([2.0, 3.0], [2.0, 3.0])
    assert (effect.mean, effect.low, effect.high, effect.seen) == (0, 0, 0, False)


@pytest.fixture(scope="module")
def same_recipe(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of sixteen real runs of one recipe, with sixteen seeds."""
    folder = tmp_path_factory.mktemp("same")
    (baseline, *_) = plan(request(folder), [], 2, folder / "runs")
    return [trained(baseline, seed, folder) for seed in range(16)]


def trained(run: Planned, seed: int, folder: Path) -> float:
    asked = replace(run.request, flags={**run.request.flags, "training.seed": ("--seeds", seed)})
    measured = train_and_measure(replace(run, request=asked, out=folder / f"{run.name}-{seed}", seed=seed))
    assert measured is not None
    assert measured.best_loss is not None
    return measured.best_loss


def test_nothing_against_nothing_shows_nothing(same_recipe: list[float]) -> None:
    """Equal recipes, paired at random: at most 10 of 100 comparisons at the 5 % level show an effect."""
    assert len(set(same_recipe)) == len(same_recipe)
    for pairs in (3, 5, 8):
        assert false_positives(same_recipe, pairs, 100) <= 10, pairs


def test_nothing_against_nothing_control_a_careless_interval_shows_something(
    same_recipe: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the normal distribution's 1.96 in place of Student's t, three pairs deceive far more often."""
    monkeypatch.setattr("trifecta.experiments.effects.student_t", lambda *_: 1.96)
    assert false_positives(same_recipe, 3, 100) > 10


def test_nothing_against_nothing_control_a_real_effect_is_seen(same_recipe: list[float], tmp_path: Path) -> None:
    """A tenfold learning rate is found with three pairs, from whichever three of four seeds."""
    toggle = Toggle("fast", {"training.learning_rate": 1e-2})
    (_, run, *_) = plan(request(tmp_path), [toggle], 2, tmp_path / "runs")
    changed = [trained(run, seed, tmp_path) for seed in range(4)]
    for seeds in permutations(range(4), 3):
        effect = paired([changed[seed] for seed in seeds], [same_recipe[seed] for seed in seeds])
        assert effect.seen
        assert effect.mean < 0


@pytest.mark.fast
def test_commas_within_brackets_of_brackets_part_nothing() -> None:
    phases = "training.phases=[{steps: 5, batch_size: 8},{steps: 5}]+training.max_steps=null"
    found = parse([f"ema,{phases},data.paths=[a,b]"])
    assert [toggle.name for toggle in found] == ["ema", phases, "data.paths=[a,b]"]
    assert found[1].keys == ["training.phases", "training.max_steps"]


@pytest.mark.fast
def test_toggles_are_parsed() -> None:
    found = parse(["ema,label_smoothing+z_loss", "objective.mean=[0.1,0.2],training.learning_rate=1e+1"])
    assert [toggle.name for toggle in found] == [
        "ema", "label_smoothing+z_loss", "objective.mean=[0.1,0.2]", "training.learning_rate=1e+1"
    ]  # fmt: skip
    assert found[1].settings == {"training.label_smoothing": 0.1, "training.z_loss": 1e-4}
    assert found[3].overrides == ("training.learning_rate=1e+1",)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["emma"], "no technique 'emma'; did you mean 'ema'"),
        ([], "nothing to compare"),
        ([","], "nothing to compare"),
        (["ema,ema"], "ema is given twice"),
        (["ema+z_loss+ema"], "has ema twice"),
        (["seed=3"], "no technique 'seed=3'"),
    ],
)
def test_wrong_toggles(texts: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(texts)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("toggle", "overrides", "seeds", "message"),
    [
        ("ema", (), 1, "1 seed gives no interval"),
        ("ema", ("training.ema_decay=0.999",), 2, "ema changes nothing in small: training.ema_decay is 0.999"),
        ("mixup", (), 2, "mixup can't act in small: objective.mixup: causal has no such key"),
        ("lora", (), 2, "lora can't act in small: .*training.init_from names none"),
        ("training.gradient_noise_decay=1", (), 2, "can't act in small: .*there is no noise"),
        ("data.paths=[other.txt]", (), 2, "sets data.paths, .* losses on other texts can't be compared"),
        ("skip_spikes", (), 2, "skip_spikes can't act in small: .*looks for spikes after 64"),
        ("training.learning_rate=-1", (), 2, "can't act in small: .*training.learning_rate"),
        ("fp16", ("execution.device=cpu",), 2, "fp16 can't act in small: .*CPUs only emulate"),
    ],
)
def test_a_toggle_that_can_do_nothing_is_refused(
    toggle: str, overrides: tuple[str, ...], seeds: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        plan(request(tmp_path, *overrides), parse([toggle]), seeds, None)


@pytest.mark.fast
def test_plan_takes_turns_and_a_toggle_wins_over_the_recipe(tmp_path: Path) -> None:
    planned = plan(request(tmp_path), parse(["training.learning_rate=0.5,sgd"]), 3, tmp_path / "runs")
    assert [run.seed for run in planned] == [42] * 3 + [43] * 3 + [44] * 3
    assert [run.name for run in planned[:3]] == [BASELINE, "training.learning_rate=0.5", "sgd"]
    assert len({run.digest for run in planned}) == len({run.out for run in planned}) == 9
    training = [run.request.tree().resolve(None).recipe.training for run in planned]
    assert [(t.learning_rate, t.optimizer.type, t.seed) for t in training[3:6]] == [
        (1e-3, "adamw", 43), (0.5, "adamw", 43), (0.1, "sgd", 43)
    ]  # fmt: skip


def made_up(run: Planned) -> Measured:
    gain = 0.1 if run.name == BASELINE else 0.0
    return Measured(
        run.name, run.seed, 5, 0.1 + gain, 10.0, 100, run.seed / 100 + gain, run.seed / 100, {"accuracy": 1},
        {"accuracy": 1 - gain},
    )  # fmt: skip


@pytest.mark.fast
def test_finished_runs_are_not_run_again_and_others_are(tmp_path: Path) -> None:
    planned = plan(request(tmp_path), parse(["ema"]), 2, tmp_path / "runs")
    seen: list[str] = []

    def stopping(run: Planned) -> Measured | None:
        seen.append(f"{run.name} {run.seed}")
        return None if len(seen) == 3 else made_up(run)

    with pytest.raises(KeyboardInterrupt):
        run_all(planned, measure=stopping)
    told: list[tuple[int, bool]] = []
    runs = run_all(planned, lambda number, _, there: told.append((number, there)), stopping)
    assert seen == ["baseline 42", "ema 42", "baseline 43", "baseline 43", "ema 43"]
    assert told == [(1, True), (2, True), (3, False), (4, False)]
    (found,) = compare(parse(["ema"]), runs)
    assert found.loss is not None
    assert found.loss.mean == pytest.approx(-0.1)
    assert (found.time_ratio, found.memory_ratio, found.failed) == (0.5, 1.0, 0)
    assert not found.metrics["accuracy"].seen
    (final,) = compare(parse(["ema"]), runs, "final")
    assert final.loss is not None
    assert not final.loss.seen
    assert final.metrics["accuracy"].mean == pytest.approx(0.1)  # at the end, not where the loss was best


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after step 11, it goes on from the one saved at 10; its figures are those of all 20 steps."""
    from trifecta.training import loop

    planned = plan(request(tmp_path, "training.save_every_n_steps=5"), parse(["ema"]), 2, tmp_path / "runs")
    whole = train_and_measure(replace(planned[0], out=tmp_path / "whole"))
    plain = loop.update

    def dying(*arguments: Any, **options: Any) -> Any:
        if options["number"] == 12:
            raise Killed
        return plain(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", dying)
        with pytest.raises(Killed):
            run_all(planned[:1], measure=train_and_measure)
    (gone_on,) = run_all(planned[:1], measure=train_and_measure)
    assert whole is not None
    assert (gone_on.steps, gone_on.best_loss) == (20, whole.best_loss)
    assert gone_on.memory_bytes is None


@pytest.mark.fast
def test_runs_of_another_recipe_are_refused(tmp_path: Path) -> None:
    """Keys that a resume takes over, such as the learning rate, too: the old figures would be shown for the new."""
    run_all(plan(request(tmp_path), parse(["ema"]), 2, tmp_path / "runs"), measure=made_up)
    other = plan(request(tmp_path, "training.z_loss=1e-3"), parse(["ema"]), 2, tmp_path / "runs")
    with pytest.raises(CheckpointError, match="a run of another recipe"):
        run_all(other, measure=made_up)


@pytest.mark.fast
def test_runs_that_fail_are_counted(tmp_path: Path) -> None:
    from trifecta.cli.ablate import report, verdict
    from trifecta.errors import NumericsError

    def failing(run: Planned) -> Measured:
        if run.name != BASELINE and run.seed < 44:
            raise NumericsError("loss was not finite")
        return made_up(run)

    toggles = parse(["ema"])
    runs = run_all(plan(request(tmp_path), toggles, 4, tmp_path / "runs"), measure=failing)
    (found,) = compare(toggles, runs)
    assert found.failed == 2
    assert verdict(found) == "better, 2 failed"
    assert any("better, 2 failed" in line for line in report(runs, [found], "best"))
    (none,) = compare(toggles, [run for run in runs if run.seed < 44])
    assert verdict(none) == "no interval, 2 failed"


@pytest.mark.slow
def test_the_command_from_end_to_end(tmp_path: Path, run_trifecta: Any) -> None:
    """Real processes; the same again runs nothing and finds the same."""
    text = str(write_text(tmp_path / "text.txt"))
    words = ["ablate", text, "--preset", "small", *TINY, "--toggle", "training.learning_rate=0.01", "--seeds", "2",
             "-o", tmp_path / "runs"]  # fmt: skip
    first = run_trifecta(*words)
    assert first.returncode == 0, first.stderr
    assert len(first.stderr.splitlines()) == 4
    assert first.stdout.splitlines()[2].startswith("training.learning_rate=0.01  -")
    again = run_trifecta(*words, "--json")
    assert again.stderr.count("(was there)") == 4
    found = json.loads(again.stdout)
    assert found["seeds"] == [42, 43]
    (row,) = found["toggles"]
    assert row["loss"]["low"] <= row["loss"]["mean"] <= row["loss"]["high"]
    assert all(run["memory_bytes"] > 0 and run["steps"] == 20 for run in found["runs"])
    assert all(math.isfinite(run["best_loss"]) for run in found["runs"])


@pytest.mark.fast
def test_each_technique_is_of_keys_that_exist() -> None:
    from trifecta.recipe.keys import known_keys

    known = {key.key for key in known_keys()}
    for name, technique in TECHNIQUES.items():
        assert set(technique.settings) <= known, name


def test_what_ablate_chooses_is_no_toggle_and_a_run_is_no_place(tmp_path: Path) -> None:
    request = Request(data=(str(write_text(tmp_path / "words.txt")),))
    with pytest.raises(RecipeError, match=r"training\.seed=5 sets training\.seed, which ablate chooses"):
        plan(request, parse(["training.seed=5"]), 2, None)
    (tmp_path / "recipe.yaml").write_text("model: gpt\n")
    with pytest.raises(RecipeError, match="a run lives here"):
        plan(request, parse(["label_smoothing"]), 2, tmp_path)


_PARENT = """
import os, sys, time
from trifecta.experiments.processes import apart

def work():
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    apart("a run", work)
"""


def test_a_killed_parent_takes_its_child_with_it(tmp_path: Path) -> None:
    """After kill -9 of the parent the child ends by itself, so that the same command can go on."""
    program = tmp_path / "parent.py"
    program.write_text(_PARENT)
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(600):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the child lives on")
    parent.stdout.close()
