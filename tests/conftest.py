"""One thread, offline, the same on every call, and nothing written outside temporary folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
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
from forge import COMMAND_LINE, warm  # noqa: E402

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
    """Runs `trifecta ARGUMENTS` in a process of its own.

    Keyword arguments: cwd, env and input as subprocess.run's. fresh: started anew instead of forked from a warm one.
    """

    def run(
        *arguments: str | Path, cwd: str | Path | None = None, env: Mapping[str, str] | None = None,
        input: str | None = None, fresh: bool = False,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        words = [str(word) for word in arguments]
        if not fresh:
            around = os.environ if env is None else env
            return warm().run(COMMAND_LINE, words, around, folder=Path(cwd) if cwd else None, given=input or "")
        stdin: Any = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        return subprocess.run(
            [sys.executable, "-m", "trifecta.cli.main", *words], capture_output=True, text=True, check=False,
            cwd=cwd, env=env, timeout=280, **stdin,
        )  # fmt: skip

    return run
