"""Every line of the checklist that the HTTP API was built from has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

LINES = range(1, 127)
FOLDERS = ("server", "client", "stores")


def named(test: str) -> set[int]:
    """Return the lines in a name: ``test_32_to_34_x`` and ``test_37_42_x``."""
    first, *others = (int(number) for number in re.findall(r"\d+", test))
    if "_to_" in test:
        return set(range(first, others[0] + 1))
    return {first, *others}


def test_every_line_of_the_checklist_is_named_by_a_test() -> None:
    tests = Path(__file__).parents[1]
    found = set[int]()
    for folder in FOLDERS:
        for file in (tests / folder).glob("test_*.py"):
            names = re.findall(r"def test((?:_\d+)+(?:_to_\d+)?)_", file.read_text())
            found |= set().union(*map(named, names))
    assert set(LINES) - found == set()
