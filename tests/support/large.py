"""Large texts, and what fresh processes with little memory make of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_PREPARE = """
import hashlib, json, re, resource, sys
import numpy
from trifecta.data import Sources, prepare
from trifecta.tokenizers import TOKENIZERS, from_json
path, cache, kind, cap, plant = sys.argv[1:]

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

if cap != "0":
    resource.setrlimit(resource.RLIMIT_DATA, (memory("VmData") + int(cap),) * 2)
before = memory("VmRSS")
exec(plant)
try:
    made = prepare(Sources([path], cache_dir=cache), make_tokenizer=TOKENIZERS[kind], load_tokenizer=from_json,
                   tokenizer_key=kind, tokenizer_text="all", validation_split=0.1, seed=1, sequence_length=16,
                   cache_dir=cache)
except MemoryError:
    sys.exit(9)
grown = memory("VmHWM") - before
digest = hashlib.sha256()
for store in (made.train, made.validation):
    with open(f"{store.tokens.filename}", "rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
print(json.dumps({"grown": grown, "sha256": digest.hexdigest(), "tokens": len(made.train) + len(made.validation)}))
"""
AT_ONCE = """
from trifecta.data import sources as module
module.read_chunks = lambda file: [open(file.path, "rb").read()]
"""
MiB = 1 << 20


def prepared(path: Path, kind: str, *, cap: int = 0, plant: str = "") -> dict[str, Any] | None:
    """What a fresh process makes of a file; None if it runs out of memory. cap: further bytes of memory allowed."""
    cache = path.parent / f"cache-{kind}-{cap}-{len(plant)}"
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE, str(path), str(cache), kind, str(cap), plant], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, timeout=540,
    )  # fmt: skip
    assert done.returncode in (0, 9), done.stderr
    found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return found


def one_line(path: Path, megabytes: int) -> Path:
    """A line of words without an end."""
    words = b" ".join(f"word{n % 977}".encode() for n in range(150_000))
    block = (words[: MiB - 1] + b" ") if len(words) >= MiB else words.ljust(MiB)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
    return path
