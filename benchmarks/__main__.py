"""trifecta against its peers, in interleaved pairs.

Writes pairs.json and the table in README.md; rows that aren't asked for stay as they were.

    python -m benchmarks [TEXT] [--only ROW ...] [--rounds N] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning import HERE, TINY_SHAKESPEARE, write_section
from benchmarks.pairs import machine, measure, table
from benchmarks.rows import ROWS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the rows one after another, and writes after each; 1 if one of them failed."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", type=Path, default=TINY_SHAKESPEARE, help="a text file; Tiny Shakespeare")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--rounds", type=int, help="pairs of each row; by default the row's own number")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs; its figures mean nothing")
    parser.add_argument("--out", type=Path, help="where pairs.json and README.md are; by default here, unless --quick")
    given = parser.parse_args(arguments)
    if not given.text.is_file():
        parser.error(f"{given.text} is not there; name a text file")
    if given.rounds is not None and given.rounds < 1:
        parser.error(f"--rounds is {given.rounds}, but must be at least 1")
    out = given.out or (None if given.quick else HERE)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    saved = out / "pairs.json" if out else None
    found = json.loads(saved.read_text()) if saved and saved.exists() else {}
    rows = found.get("rows", {}) if found.get("machine") == machine() else {}
    results = {name: result for name, result in rows.items() if result["quick"] == given.quick}
    command = " ".join(["python -m benchmarks", *(["--quick"] if given.quick else [])])
    for row in ROWS:
        if row.name not in given.only:
            continue
        results[row.name] = measure(row, given.text.resolve(), given.rounds, quick=given.quick, say=_say)
        if out and saved:
            saved.write_text(json.dumps({"machine": machine(), "rows": results}, indent=1) + "\n")
            (out / "README.md").touch()
            write_section(out / "README.md", "pairs", table(ROWS, results, command))
    print(table(ROWS, results, command))
    return int(any("error" in results[name] for name in given.only))


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
