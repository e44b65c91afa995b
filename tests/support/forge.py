"""Python programs in processes forked from one that has torch and trifecta imported: three seconds less each.

What such processes share (the hash seed, the addresses) could hide a difference between unrelated ones, so some runs in
every comparison are started anew.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_SERVER = """
import json, os, sys, traceback
import torch
torch.set_num_threads(1)
import trifecta, trifecta.run.trainer

def served():
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

request = served()
if request is not None:
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, request["stdout"], os.O_WRONLY),
                              (2, request["stderr"], os.O_WRONLY)):
        os.dup2(os.open(path, how), number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["-c", *request["arguments"]]
    exec(request["program"], {"__name__": "__main__"})
"""


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

    def run(self, program: str, arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """What `python -c program arguments` would do, with its output."""
        assert self._server.stdin
        assert self._server.stdout
        with tempfile.TemporaryDirectory() as place:
            said = {name: Path(place) / name for name in ("stdout", "stderr")}
            for path in said.values():
                path.touch()
            request = {"program": program, "arguments": arguments, "environment": environment,
                       "folder": str(Path.cwd()), **{name: str(path) for name, path in said.items()}}  # fmt: skip
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            return subprocess.CompletedProcess(
                ["-c", *arguments], code, said["stdout"].read_text(), said["stderr"].read_text()
            )
