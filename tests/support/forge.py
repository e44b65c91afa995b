"""Python programs in processes forked from one that has torch and trifecta imported: three seconds less each.

What such processes share (the hash seed, the addresses, what is imported) could hide a fault of unrelated ones, so some
runs in every comparison, and the tests of the command line itself, start theirs anew.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_SERVER = """
import json, os, sys
import torch
torch.set_num_threads(1)
import trifecta.cli.main, trifecta.run.trainer

def served():
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

request = served()
if request is not None:
    for number, name, how in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_WRONLY), (2, "stderr", os.O_WRONLY)):
        os.dup2(os.open(request[name], how), number)
    sys.stdin = open(0, closefd=False)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["-c", *request["arguments"]]
    exec(request["program"], {"__name__": "__main__"})
"""
COMMAND_LINE = "import sys; from trifecta.cli.main import main; sys.exit(main())"
"""The program `trifecta`."""


class Forge:
    """One warm process; each `run` is a fork of it."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the warm process."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def run(
        self, program: str, arguments: list[str], environment: Mapping[str, str], *, folder: Path | None = None,
        given: str = "",
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """What `python -c program arguments` would do, with its output. given: its standard input."""
        assert self._server.stdin
        assert self._server.stdout
        with tempfile.TemporaryDirectory() as place:
            files = {name: Path(place) / name for name in ("stdin", "stdout", "stderr")}
            for name, path in files.items():
                path.write_text(given if name == "stdin" else "", encoding="utf-8")
            request = {
                "program": program, "arguments": arguments, "environment": dict(environment),
                "folder": str(folder or Path.cwd()), **{name: str(path) for name, path in files.items()},
            }  # fmt: skip
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            said = [files[name].read_text(encoding="utf-8") for name in ("stdout", "stderr")]
            return subprocess.CompletedProcess(["-c", *arguments], code, *said)


@cache
def warm() -> Forge:
    """This test process's own."""
    return Forge()
