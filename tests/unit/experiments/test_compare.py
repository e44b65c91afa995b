"""`trifecta compare`: what it measures, what it says of it, and what it advises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import write_text

from trifecta.cli.main import main
from trifecta.errors import RecipeError
from trifecta.experiments import compare as experiment
from trifecta.experiments.compare import ARCHITECTURES, CHECKLISTS, PURPOSES, TASKS, recommend

GIB = 2**30
MADE_UP: dict[str, dict[str, Any]] = {
    "gpt": {"seconds": 0.2, "peak": 2 * GIB, "losses": [3.0, 1.25]},
    "bert": {"seconds": 0.2, "peak": 2 * GIB, "losses": [4.0, 2.5], "accuracy": 0.375},
    "t5": {"seconds": 0.4, "peak": 4 * GIB, "losses": [5.0, 3.75], "accuracy": 0.5},
}
"""The document's ratios: time 1, 1, 2 and memory 2, 2, 4 GB."""
STEPS = 10


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, Path]]:
    """Trainings of made-up figures, here instead of in processes; those asked for: (architecture, request, folder)."""
    asked: list[tuple[str, Any, Path]] = []

    def train(request: Any, *, out: Path, hooks: list[Callable[[dict[str, Any]], None]]) -> None:
        asked.append((request.arch, request, out))
        made_up = MADE_UP[request.arch]
        figures = {"accuracy": made_up["accuracy"]} if "accuracy" in made_up else {}
        events: list[dict[str, Any]] = [{"event": "start", "parameters": 1_000_000 + len(asked)}]
        for step in range(1, STEPS + 1):
            seconds = made_up["seconds"] * {1: 90, 2: 30, 10: 5}.get(step, 1)
            events.append({"event": "step", "step": step, "seconds": seconds, "tokens": 4095 if step % 2 else 4097})
            if step % 5 == 0:
                loss = made_up["losses"][step // 5 - 1]
                events.append({"event": "evaluation", "step": step, "loss": loss, **figures})
        for event in events:
            hooks[0](event)

    def matched(request: Any, architectures: tuple[str, ...]) -> dict[str, Any]:
        from dataclasses import replace

        return {arch: replace(request, arch=arch) for arch in architectures}

    monkeypatch.setattr("trifecta.run.trainer.train", train)
    monkeypatch.setattr("trifecta.run.matching.matched", matched)
    monkeypatch.setattr(experiment, "apart", lambda _, work, *arguments: work(*arguments))
    monkeypatch.setattr(experiment, "peak_bytes", lambda: MADE_UP[asked[-1][0]]["peak"])
    return asked


@pytest.mark.fast
def test_group_006_the_three_are_measured_in_their_own_trainings(
    trained: list[tuple[str, Any, Path]], tmp_path: Path
) -> None:
    """The median of the steps after the first fifth, the mean of the tokens, the last validation, the peak."""
    found = experiment.compare(("book.txt",), max_steps=STEPS, seed=7, out=tmp_path)
    assert [row.arch for row in found] == ["gpt", "bert", "t5"] == [arch for arch, _, _ in trained]
    assert [out for _, _, out in trained] == [tmp_path / arch for arch in ARCHITECTURES]
    for _, request, _ in trained:
        assert request.data == ("book.txt",)
        assert {key: value for key, (_, value) in request.flags.items()} == {
            "training.max_steps": STEPS, "training.seed": 7,
        }  # fmt: skip
    for number, row in enumerate(found, 1):
        made_up = MADE_UP[row.arch]
        assert (row.steps, row.parameters, row.tokens_per_step) == (STEPS, 1_000_000 + number, 4096)
        assert (row.seconds_per_step, row.peak_bytes) == (made_up["seconds"], made_up["peak"])
        assert (row.loss, row.accuracy) == (made_up["losses"][-1], made_up.get("accuracy"))
    gpt, bert, t5 = found
    assert [row.seconds_per_step / gpt.seconds_per_step for row in (gpt, bert, t5)] == [1, 1, 2]


@pytest.mark.fast
@pytest.mark.usefixtures("trained")
def test_group_006_the_table_has_time_memory_and_loss_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "book.txt", "--max-steps", str(STEPS), "-o", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    header, *rows = (line.split() for line in lines[:4])
    assert header == ["parameters", "a", "step", "time", "memory", "held-out", "loss", "guessed"]
    assert [row[0] for row in rows] == ["gpt", "bert", "t5"]
    assert [next(cell for cell in row if cell.endswith("x")) for row in rows] == ["1.0x", "1.0x", "2.0x"]
    assert [f"{gib}.0 GiB" in " ".join(row) for row, gib in zip(rows, (2, 2, 4), strict=True)] == [True] * 3
    for row, loss, guessed in zip(rows, ("1.250", "2.500", "3.750"), (None, "37.5%", "50.0%"), strict=True):
        assert loss in row
        assert row[-1] == (guessed or loss)
    assert f"{STEPS} steps each on 4,096 tokens of the same text" in "\n".join(lines)


@pytest.mark.fast
@pytest.mark.usefixtures("trained")
def test_group_006_each_is_said_to_be_for_something_with_a_checklist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed after the table, for each architecture, with the advice if a task is named."""
    words = ["compare", "book.txt", "--max-steps", str(STEPS), "-o", str(tmp_path)]
    assert main([*words, "--task", "translate"]) == 0
    said = capsys.readouterr().out
    for arch in ARCHITECTURES:
        assert f"{arch:4} {PURPOSES[arch]}\n     look at: {CHECKLISTS[arch]}\n     try: trifecta " in said
    for prompt in ("--prompt 'The cat'", "predict its run 'This movie is great'", "predict its run 'Hello'"):
        assert prompt in said, "the demo prompts of group 6"
    assert "For translate: t5. Begin with: trifecta train --arch t5 DATA" in said
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "Begin with" not in said
    assert "For advice on a task: --task" in said


@pytest.mark.fast
def test_group_006_checklists_name_mask_loss_and_metric_of_each() -> None:
    wanted = {
        "gpt": ("causal mask", "next token", "temperature", "perplexity"),
        "bert": ("no mask", "masked", "head", "accuracy"),
        "t5": ("encoder", "decoder", "sentinels", "BLEU"),
    }
    assert set(CHECKLISTS) == set(PURPOSES) == set(ARCHITECTURES)
    for arch, parts in wanted.items():
        for part in parts:
            assert part in CHECKLISTS[arch], (arch, part)


@pytest.mark.fast
@pytest.mark.usefixtures("trained")
def test_group_006_json_has_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "book.txt", "--max-steps", str(STEPS), "-o", str(tmp_path), "--task", "sentiment", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["task"], found["advice"]) == ("sentiment", "bert")
    rows = found["architectures"]
    assert [(row["arch"], row["seconds_per_step"], row["peak_bytes"], row["loss"]) for row in rows] == [
        (arch, made_up["seconds"], made_up["peak"], made_up["losses"][-1]) for arch, made_up in MADE_UP.items()
    ]
    assert [row["for"] for row in rows] == list(PURPOSES.values())


@pytest.mark.fast
@pytest.mark.parametrize(
    ("task", "arch"),
    [
        ("complete", "gpt"), ("generate", "gpt"), ("chat", "gpt"), ("classify", "bert"), ("sentiment", "bert"),
        ("tag", "bert"), ("entities", "bert"), ("answer", "bert"), ("translate", "t5"), ("summarize", "t5"),
    ],
)  # fmt: skip
def test_group_006_a_task_has_its_architecture(task: str, arch: str) -> None:
    assert recommend(task) == arch


@pytest.mark.fast
def test_an_unknown_task_is_refused_before_anything_is_trained(
    trained: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(TASKS.values()) == set(ARCHITECTURES)
    with pytest.raises(RecipeError, match="no advice for the task 'translat'; did you mean 'translate'"):
        recommend("translat")
    assert main(["compare", "book.txt", "--task", "translat", "-o", str(tmp_path)]) == 2
    assert "--task" in capsys.readouterr().err
    assert trained == []


def test_the_three_have_as_many_parameters_and_share_width_and_text(tmp_path: Path) -> None:
    """BERT and T5 get the feed-forward width with which they are as large as the GPT."""
    from trifecta.run.matching import _parameters, _vocab_size, as_flags, matched
    from trifecta.run.request import Request
    from trifecta.run.resolution import resolve

    tiny = as_flags({"model.d_model": 32, "model.num_heads": 2, "training.max_steps": 2, "tokenizer.type": "byte"})
    text = write_text(tmp_path / "words.txt", words=300)
    sizes, batches = [], set()
    for request in matched(Request(data=(str(text),), flags=tiny), ARCHITECTURES).values():
        recipe = resolve(request).recipe
        sizes.append(_parameters(recipe, _vocab_size(recipe))(recipe.model.d_ff))
        batches.add((recipe.data.sequence_length, recipe.training.batch_size, recipe.model.d_model))
    assert len(batches) == 1
    assert max(sizes) < 1.03 * min(sizes)
