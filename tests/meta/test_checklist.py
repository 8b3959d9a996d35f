"""Every line of the checklists that the package was built from has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

#: Checklist -> its lines, and the folders of its tests.
CHECKLISTS = {
    "states": (range(1, 127), ("server", "client", "stores")),
    "semantic cache": (range(1, 49), ("semantic",)),
    "pipelines": (range(1, 123), ("pipelines",)),
    "chats": (range(1, 111), ("niels_gpt",)),
}

#: Lines that have no test, and why.
OUT_OF_SCOPE = {
    "pipelines": {
        114: "vLLM and OpenRouter have no client of their own: `OpenAI(base_url=...)` reaches them",
        115: "Anthropic has no client: its API is not OpenAI's",
    }
}


def named(test: str) -> set[int]:
    """Return the lines in a name: ``test_32_to_34_x`` and ``test_37_42_x``."""
    first, *others = (int(number) for number in re.findall(r"\d+", test))
    if "_to_" in test:
        return set(range(first, others[0] + 1))
    return {first, *others}


@pytest.mark.parametrize("checklist", CHECKLISTS)
def test_every_line_of_the_checklist_is_named_by_a_test(checklist: str) -> None:
    tests = Path(__file__).parents[1]
    found = set[int]()
    lines, folders = CHECKLISTS[checklist]
    for folder in folders:
        for file in (tests / folder).glob("test_*.py"):
            names = re.findall(r"def test((?:_\d+)+(?:_to_\d+)?)_", file.read_text())
            found |= set().union(*map(named, names))
    assert set(lines) - found == OUT_OF_SCOPE.get(checklist, {}).keys()
