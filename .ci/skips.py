"""Fails when a test was skipped for any reason but a missing accelerator. Argument: pytest's junit XML."""

import sys
from pathlib import Path
from xml.etree import ElementTree

ALLOWED = "needs an accelerator"


def unexpected_skips(report: Path) -> list[str]:
    """`test: reason` of each skip whose reason doesn't begin with the allowed words."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        for skipped in case.iter("skipped"):
            # A whole module's reason is in the text only: ('file', line, 'Skipped: reason').
            reason = skipped.get("message", "")
            if reason == "collection skipped":
                reason = (skipped.text or "").partition("Skipped: ")[2].rstrip("')")
            if skipped.get("type") != "pytest.xfail" and not reason.startswith(ALLOWED):
                found.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return found


if __name__ == "__main__":
    skips = unexpected_skips(Path(sys.argv[1]))
    if skips:
        print(f"{len(skips)} tests were skipped for another reason than {ALLOWED!r}:", *skips, sep="\n  ")
    sys.exit(bool(skips))
