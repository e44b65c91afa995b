"""One thread, offline, the same on every call, and nothing written outside temporary folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is imported anywhere, here or in a subprocess.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
for variable in ("COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TRIFECTA_CACHE"):
    os.environ.pop(variable, None)

import hypothesis  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("trifecta", deadline=None, derandomize=True)
hypothesis.settings.load_profile("trifecta")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """One thread for torch, if a collected test has imported it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokenized text is cached in a temporary folder, in subprocesses too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIFECTA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    """Any connection beyond this machine fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        local = not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1", "localhost")
        assert local, f"a test tried to reach {address}: tests are offline"
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def tinyshakespeare() -> Path:
    """The file beside the repository; skips where it is absent, which fails CI."""
    path = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
    if not path.exists():
        pytest.skip("needs ../shared/data/tinyshakespeare.txt")
    return path


@pytest.fixture(scope="session")
def run_trifecta() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `trifecta ARGUMENTS` in a process of its own; keyword arguments go to subprocess.run."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trifecta.cli.main", *map(str, arguments)]
        options = {"timeout": 280, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            del options["stdin"]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return run
