"""Every command and program of the README runs, in its order, on a small book."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = re.compile(r"runs/([a-z0-9-]+)-[0-9a-f]{8}")
QUICKER = {
    "train": ["--max-steps", "12"], "compare": ["--max-steps", "10"], "finetune": ["--max-steps", "6"],
    "ablate": ["--one-process"],
}  # fmt: skip
"""What makes a command of the README take less time here."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README names."""
    from trifecta.data.sources import Sources

    folder = tmp_path_factory.mktemp("readme")
    text = "".join(piece.text for piece in Sources((), builtin="grammar").pieces())
    (folder / "book.txt").write_text(text[:5_000])
    (folder / "other.txt").write_text(text[5_000:6_500])
    reviews = [f"{'good' if n % 2 else 'bad'} book number {n},{'praise' if n % 2 else 'blame'}" for n in range(40)]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *reviews]) + "\n")
    (folder / "more.csv").write_text("\n".join(["text,label", *reviews[:6]]) + "\n")
    (folder / "names.conll").write_text("Romeo B-PER\nspeaks O\n\nthe O\nking O\nsees O\nJuliet B-PER\n\n" * 10)
    questions = [
        {"context": f"The bear number {n} sees the king.", "qas": [{
            "id": str(n), "question": "Who sees the king?",
            "answers": [{"text": f"The bear number {n}", "answer_start": 0}],
        }]} for n in range(20)
    ]  # fmt: skip
    (folder / "squad.json").write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": questions}]}))
    (folder / "pairs.tsv").write_text("".join(f"the {n} dogs\tdogs: {n}\n" for n in range(20)))
    said = [
        {"messages": [{"role": "user", "content": f"the king {n}?"}, {"role": "assistant", "content": "sleeps"}]}
        for n in range(20)
    ]
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    for number in range(12):
        for name, colour in (("cats", (200, 90, 10 * number)), ("dogs", (10, 10 * number, 200))):
            (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 20), colour).save(folder / "photos" / name / f"{number}.png")
    shutil.copy(folder / "photos" / "cats" / "3.png", folder / "cat.png")
    (folder / "recipe.yaml").write_text(
        "model: {d_model: 16, num_heads: 2, num_layers: 1, d_ff: 32}\ndata: {paths: [book.txt], sequence_length: 16}\n"
        "training: {max_steps: 4, batch_size: 4}\ntracking: {sample: {every_n_epochs: null}}\n"
    )
    return folder


@pytest.mark.timeout(900)  # thirty processes, one after another
def test_every_command_of_the_readme(
    library: Path, run_trifecta: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("trifecta ")]
    ran: list[str] = []
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words[0] in ("demo", "import", "export"):
            continue  # `make demo` is what CI's fresh clone and the acceptance run; the others have tests of their own
        words = [RUN.sub(lambda found: _newest(library, found[1]), word) for word in words]
        quicker = [] if "--epochs" in words else QUICKER.get(words[0], [])
        done = run_trifecta(*words, *quicker, cwd=library, fresh=words[0] not in ran)
        assert done.returncode == 0, (line, done.stderr)
        ran.append(words[0])
    assert len(ran) >= 11
    made = next((library / "runs").glob("book-auto-????????"))
    assert next((made / "plots").glob("*.png"), None) or next(made.glob("*.png"), None)


def _newest(library: Path, name: str) -> str:
    """The run that a name of the README with another hash means."""
    (found,) = [path for path in (library / "runs").glob(f"{name}-*") if len(path.name) == len(name) + 9]
    return str(found)


def test_the_program_of_the_readme(library: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    # In a folder of its own: the commands above have trained this preset for longer.
    shutil.copy(library / "book.txt", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once")
    assert "Gpt(" in done.stdout
