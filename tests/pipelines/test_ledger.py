"""Positions in lists of samples: the lowest free indices, none twice."""

from __future__ import annotations

import random

from cacher.pipelines.ledger import Ledger


def test_what_is_given_back_is_reserved_first() -> None:
    ledger = Ledger()
    assert list(ledger.reserve("a", "p", 5)) == [0, 1, 2, 3, 4]
    ledger.give_back("a", "p", [1, 3])
    assert ledger.used == {"a": {"p": 3}}
    assert list(ledger.reserve("a", "p", 1)) == [1]
    assert list(ledger.reserve("a", "p", 3)) == [3, 5, 6]
    assert list(ledger.reserve("b", "p", 1)) == [0]
    assert sorted(ledger.namespaces("p")) == ["a", "b"]


def test_nothing_is_left_of_what_is_given_back() -> None:
    ledger = Ledger()
    ledger.reserve(None, "p", 4)
    ledger.give_back(None, "p", [0, 2])
    ledger.give_back(None, "p", [3, 1])
    assert (ledger.used, ledger._free) == ({}, {})


def test_what_is_given_back_after_somebody_emptied_the_counts_is_forgotten() -> None:
    ledger = Ledger()
    held = ledger.reserve("a", "p", 3)
    ledger.used.clear()
    ledger.give_back("a", "p", held)
    assert list(ledger.reserve("a", "p", 2)) == [0, 1]


def test_no_index_is_held_twice() -> None:
    rng = random.Random(5)
    ledger = Ledger()
    held: list[list[int]] = []
    for _ in range(2000):
        if held and rng.random() < 0.5:
            ledger.give_back("a", "p", held.pop(rng.randrange(len(held))))
        else:
            taken = {index for each in held for index in each}
            n = rng.randrange(1, 5)
            free = [i for i in range(len(taken) + n) if i not in taken]
            held.append(list(ledger.reserve("a", "p", n)))
            assert held[-1] == free[:n]
        assert ledger.used.get("a", {}).get("p", 0) == sum(map(len, held))
