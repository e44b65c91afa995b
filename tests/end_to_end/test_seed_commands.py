"""Every command line and recipe of the training guide that trifecta replaces, run as it stands there (document S1).

Only the program's name differs; `configs/X.yaml` is a preset written out, and `final_model.pt` is the run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

TINY = [
    "model.d_model=16", "model.num_heads=2", "model.num_layers=1", "model.d_ff=32", "training.batch_size=64",
    "tracking.sample.max_tokens=5",
]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, run_trifecta: Run) -> Path:
    """A folder with data.txt (23,000 characters) and configs/{small,medium,large}.yaml written out."""
    from trifecta.data.sources import Sources

    folder = tmp_path_factory.mktemp("s1")
    text = "".join(piece.text for piece in Sources((), builtin="python").pieces())[:23_000]
    (folder / "data.txt").write_text(text)
    (folder / "configs").mkdir()
    for name in ("small", "medium", "large"):
        done = run_trifecta("presets", name, "--write", f"configs/{name}.yaml", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def run(run_trifecta: Run, folder: Path, line: str, *extra: str) -> str:
    done = run_trifecta(*line.split(), *extra, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def recipe_of(folder: Path) -> str:
    return (folder / "recipe.yaml").read_text()


def test_group_001_quick_loop(run_trifecta: Run, workplace: Path) -> None:
    """head -c 10000, small, 2 epochs; then generate from the final model. Nothing is made smaller here."""
    (workplace / "data_tiny.txt").write_bytes((workplace / "data.txt").read_bytes()[:10_000])
    out = run(run_trifecta, workplace, "train data_tiny.txt --config configs/small.yaml --epochs 2")
    assert "=== Epoch 2 Complete: Loss" in out
    assert "train_loss=" in out
    (made,) = (workplace / "runs").iterdir()
    text = run(run_trifecta, workplace, f"generate {made} --prompt Test --max-tokens 20")
    assert text.startswith("Test")
    best = run(run_trifecta, workplace, f"generate {made}/checkpoints/best --prompt Test --max-tokens 5 --seed 1")
    final = run(run_trifecta, workplace, f"generate {made}/checkpoints/final --prompt Test --max-tokens 5 --seed 1")
    assert best == final, "the last epoch was the best"
    again = run(run_trifecta, workplace, "train data_tiny.txt --config configs/small.yaml --epochs 2")
    assert "=== Epoch 1" not in again, "finished already"


def test_group_001_cpu_recipe(run_trifecta: Run, workplace: Path) -> None:
    line = "train data.txt --device cpu --config configs/small.yaml --batch-size 16 -o cpu --max-steps 2"
    run(run_trifecta, workplace, line)
    assert "batch_size: 16" in recipe_of(workplace / "cpu")
    assert "d_model: 128" in recipe_of(workplace / "cpu")


def test_group_001_config_by_name(run_trifecta: Run, workplace: Path) -> None:
    run(run_trifecta, workplace, "train data.txt --config small -o named --max-steps 1")
    assert "num_layers: 2" in recipe_of(workplace / "named")


def test_group_001_learning_rate_sweep_and_grid(run_trifecta: Run, workplace: Path) -> None:
    for rate in ("1e-4", "3e-4"):
        run(run_trifecta, workplace, f"train data.txt --learning-rate {rate} --epochs 1 -o test_lr_{rate}", *TINY)
    for rate, size in (("1e-4", 16), ("1e-3", 64)):
        line = f"train data.txt --learning-rate {rate} --batch-size {size} -o results/lr{rate}_bs{size} --max-steps 2"
        run(run_trifecta, workplace, line, *[setting for setting in TINY if "batch_size" not in setting])
    rows = json.loads(run(run_trifecta, workplace, "runs results --json"))
    assert {row["name"] for row in rows} == {"lr1e-4_bs16", "lr1e-3_bs64"}


def test_group_001_all_flags_at_once(run_trifecta: Run, workplace: Path) -> None:
    line = (
        "train data.txt --config configs/medium.yaml --epochs 1 --batch-size 8 --learning-rate 1e-3 "
        "--sequence-length 64 --device cpu --seed 7 -o flags training.save_every_n_steps=15"
    )
    run(run_trifecta, workplace, line, *[setting for setting in TINY if "batch_size" not in setting])
    recipe = recipe_of(workplace / "flags")
    for wanted in ("epochs: 1", "batch_size: 8", "sequence_length: 64", "device: cpu", "seed: 7"):
        assert wanted in recipe, wanted
    events = [json.loads(line) for line in (workplace / "flags" / "journal.jsonl").read_text().splitlines()]
    assert 15 in [e["step"] for e in events if e["event"] == "checkpoint"]


def test_group_016_generation_flags(run_trifecta: Run, workplace: Path) -> None:
    if not (workplace / "test_lr_3e-4").exists():
        run(run_trifecta, workplace, "train data.txt --epochs 1 -o test_lr_3e-4", *TINY)
    line = "generate test_lr_3e-4 --prompt Test --temperature 1.0 --top-p 0.95 --top-k 40 --seed 3 --max-tokens 30"
    one, two = (run(run_trifecta, workplace, line) for _ in range(2))
    assert one == two
    assert one.startswith("Test")
    evaluated = json.loads(run(run_trifecta, workplace, "evaluate test_lr_3e-4 --data data.txt --json"))
    assert {"loss", "perplexity", "bits_per_byte", "tokens"} <= evaluated.keys()
    assert evaluated["tokens"] == 23_000 - 1


def test_group_013_log_by_tee(run_trifecta: Run, workplace: Path) -> None:
    """`train ... | tee training.log`: plain lines, no control sequences."""
    out = run(run_trifecta, workplace, "train data.txt -o logged --max-steps 4 tracking.log_every_n_steps=2", *TINY)
    assert "\x1b" not in out
    assert "\r" not in out
    assert sum("| Step " in line for line in out.splitlines()) == 2


def test_a_killed_command_resumes_with_the_same_words(run_trifecta: Run, workplace: Path) -> None:
    """Acceptance 4, from the command line: kill -9 in mid-epoch, the same words again, the same bytes."""
    words = ["train", "data.txt", "--config", "small", "--max-steps", "30", "training.save_every_n_steps=4"]
    words += [setting.replace("batch_size=64", "batch_size=4") for setting in TINY]
    code = (
        "import json, os, sys, trifecta.tracking.journal as journal\n"
        "write = journal.Journal.__call__\n"
        "def killing(self, event):\n"
        "    write(self, event)\n"
        "    if event['event'] == 'step' and event['step'] == 17: os.kill(os.getpid(), 9)\n"
        "journal.Journal.__call__ = killing\n"
        "from trifecta.cli.main import main\n"
        "sys.exit(main(json.loads(sys.argv[1])))\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, json.dumps([*words, "-o", "killed"])],
        cwd=workplace,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr
    for folder in ("killed", "whole"):
        done = run_trifecta(*words, "-o", folder, cwd=workplace)
        assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = ((workplace / f / "checkpoints" / "final" / name).read_bytes() for f in ("killed", "whole"))
        assert one == other
    shutil.rmtree(workplace / "killed")
