"""Text of full size."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from large import MiB, one_line, prepared


@pytest.mark.sweep
@pytest.mark.timeout(560)
def test_fault_047_048_one_line_of_two_gigabytes_in_a_tenth_of_a_gigabyte(tmp_path: Path) -> None:
    """One line of 2 GB becomes exactly the tokens that its bytes are, in a process that may take 96 MB more than it
    starts with."""
    path = one_line(tmp_path / "line.txt", 2048)
    found = prepared(path, "byte", cap=96 * MiB)
    assert found is not None, "out of memory"
    assert found["tokens"] == 2048 * MiB
    assert found["grown"] < 96 * MiB
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in (2048 * MiB * 9 // 10, 2048 * MiB - 2048 * MiB * 9 // 10):
            inner = hashlib.sha256()
            while part and (content := file.read(min(part, 4 * MiB))):
                inner.update(np.frombuffer(content, np.uint8).astype("<u2"))
                part -= len(content)
            digest.update(inner.digest())
    shutil.rmtree(tmp_path)
    assert found["sha256"] == digest.hexdigest()
