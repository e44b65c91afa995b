"""The project's own promises: CI notices skips, the lock file fits, nothing names this machine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_on(tmp_path: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest on a file with one test, then CI's judgement of its report."""
    (tmp_path / "test_it.py").write_text(f"import pytest\n{test}")
    report = tmp_path / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        tmp_path / "test_it.py",
    ]
    subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "skips.py", report], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "test",
    [
        "def test_x(): pass",
        "@pytest.mark.skip(reason='needs an accelerator')\ndef test_x(): pass",
        "pytest.skip('needs an accelerator: a GPU', allow_module_level=True)",
        "@pytest.mark.xfail\ndef test_x(): assert False",
    ],
)
def test_allowed(tmp_path: Path, test: str):
    done = run_on(tmp_path, test)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "test", ["@pytest.mark.skip(reason='no data')\ndef test_x(): pass", "pytest.importorskip('no_such_module')"]
)
def test_a_skip_fails_ci(tmp_path: Path, test: str):
    done = run_on(tmp_path, test)
    assert done.returncode == 1
    assert "no data" in done.stdout or "no_such_module" in done.stdout


@pytest.mark.fast
def test_constraints_hold_every_dependency_at_one_plain_version():
    pins = dict(line.split("==") for line in CONSTRAINTS)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in CONSTRAINTS)
    wanted = PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    names = {normal(re.match(r"[A-Za-z0-9_.-]+", line)[0]) for line in wanted} - {"trifecta"}
    assert names <= {normal(name) for name in pins}


@pytest.mark.fast
def test_floors_only():
    assert all("==" not in line for line in PROJECT["dependencies"])


@pytest.mark.fast
@pytest.mark.parametrize(
    "name",
    [
        "Makefile", "constraints.txt", "pyproject.toml", ".ci/run", ".ci/skips.py", ".pre-commit-config.yaml",
        "CONTRIBUTING.md", "CHANGELOG.md", "README.md",
    ],
)  # fmt: skip
def test_no_machine_and_no_registry_is_named(name: str):
    text = (ROOT / name).read_text().replace("#!/usr/bin/env", "")
    assert not re.search(
        r"pypi\.org|pythonhosted|registry\.(?!py)|index-url|(?<![\w.$])/(home|root|work|tmp|opt)/", text
    )


def test_make_fails_when_its_command_fails(tmp_path: Path):
    """Every recipe line runs in a shell that stops at the first failure, in a pipe too."""
    makefile = (ROOT / "Makefile").read_text()
    (tmp_path / "Makefile").write_text(makefile + "\nprobe:\n\tfalse | cat\n\t@echo not reached\n")
    done = subprocess.run(["make", "probe"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "not reached" not in done.stdout
