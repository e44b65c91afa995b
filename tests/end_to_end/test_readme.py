"""Every command and program of the README runs, in its order, on a small book."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = re.compile(r"runs/book-auto-[0-9a-f]{8}")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with book.txt and other.txt."""
    from trifecta.data.sources import Sources

    folder = tmp_path_factory.mktemp("readme")
    text = "".join(piece.text for piece in Sources((), builtin="grammar").pieces())
    (folder / "book.txt").write_text(text[:5_000])
    (folder / "other.txt").write_text(text[5_000:6_500])
    return folder


def test_every_command_of_the_readme(
    library: Path, run_trifecta: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("trifecta ")]
    ran = 0
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words == ["demo"]:
            continue  # `make demo` is what CI's fresh clone and the acceptance run
        made = next((library / "runs").glob("book-auto-*"), None)
        words = [RUN.sub(str(made), word) for word in words]
        done = run_trifecta(*words, cwd=library)
        assert done.returncode == 0, (line, done.stderr)
        ran += 1
    assert ran >= 11
    made = next((library / "runs").glob("book-auto-*"))
    assert next((made / "plots").glob("*.png"), None) or next(made.glob("*.png"), None)


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
