"""A tenant's entries in memory, against lists that are searched from end to end."""

from __future__ import annotations

import random
import signal
import time

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cacher.semantic.entry import Entry
from cacher.semantic.partition import Partition
from cacher.semantic.store import Changes, Record, Write

DIMENSION = 8
TTL_S = 1000.0
VECTORS = np.random.default_rng(0).standard_normal((32, DIMENSION)).astype(np.float32)


def record(number: int, text: int, age: float = 0.0) -> Record:
    entry = Entry(f"e-{number}", f"text {text}", f"answer {number}", time.time() - age, "", "toy")
    return Record(entry, VECTORS[text % 32].tobytes())


class Against(RuleBasedStateMachine):
    """Stores, uses and removes; the oracle is a list of [entry, last use], oldest first."""

    @initialize(
        size=st.integers(0, 6), eviction=st.sampled_from(["fifo", "lru"]), ttl=st.booleans()
    )
    def open(self, size: int, eviction: str, ttl: bool) -> None:
        self.partition = Partition(
            DIMENSION, max_size=size, eviction=eviction, ttl_s=TTL_S if ttl else 0.0
        )
        self.size, self.eviction, self.ttl = size, eviction, ttl
        self.entries: list[Entry] = []
        self.uses: dict[str, int] = {}
        self.clock = 0
        self.number = 0

    def old(self, entry: Entry) -> bool:
        return self.ttl and entry.timestamp + TTL_S <= time.time()

    def used(self, entry: Entry) -> None:
        self.clock += 1
        self.uses[entry.entry_id] = self.clock

    @rule(texts=st.lists(st.integers(0, 31), max_size=8), old=st.booleans())
    def put(self, texts: list[int], old: bool) -> None:
        if old and self.entries:  # entries come in the order of their times
            return
        made = []
        for text in texts:
            self.number += 1
            made.append(record(self.number, text, 2 * TTL_S if old else 0.0))
        write, evicted = self.partition.plan(made)
        self.partition.apply(Changes(0, False, write.put, write.remove, {}))
        last = {one.entry.query: one.entry for one in made}
        self.entries = [e for e in self.entries if e.query not in last and not self.old(e)]
        new = list(last.values())
        if not self.size:
            assert (write, evicted) == (Write(), 0)
            self.entries = []
            return
        dropped = max(0, len(new) - self.size)
        new = new[dropped:]
        while len(self.entries) + len(new) > self.size:
            first = 0
            if self.eviction == "lru":
                times = [self.uses[e.entry_id] for e in self.entries]
                first = times.index(min(times))
            del self.entries[first]
            dropped += 1
        for entry in new:
            self.used(entry)
        self.entries += new
        assert evicted == dropped

    @rule(at=st.integers(0, 5))
    def use(self, at: int) -> None:
        if at < len(self.entries) and not self.old(self.entries[at]):
            found = self.partition.find(self.entries[at].query)
            assert found == self.entries[at]
            self.partition.use(found, time.time())
            self.used(found)

    @rule(at=st.integers(0, 5))
    def remove(self, at: int) -> None:
        if at < len(self.entries):
            entry = self.entries.pop(at)
            self.partition.apply(Changes(0, False, [], [entry.entry_id], {}))

    @rule(text=st.integers(0, 31))
    def search(self, text: int) -> None:
        live = [e for e in self.entries if not self.old(e)]
        (match,) = self.partition.nearest(VECTORS[text], 1, -1.0) or [None]
        if match is None:
            assert not self.entries
            return
        found = self.partition.at(match.key)
        rows = [VECTORS[int(e.query[5:])].astype(float) for e in self.entries]
        one = VECTORS[text].astype(float)
        scores = [r @ one / np.linalg.norm(r) / np.linalg.norm(one) for r in rows]
        assert match.score == pytest.approx(max(scores))
        best = self.entries[int(np.argmax(scores))]
        assert found == (best if best in live else None)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "partition"):
            return
        listed = [entry for entry, _ in self.partition.newest(100, 0)]
        assert listed == self.entries[::-1]
        assert len(self.partition) == len(self.entries) <= max(self.size, 0)
        for text in range(32):
            there = [e for e in self.entries if e.query == f"text {text}" and not self.old(e)]
            assert self.partition.find(f"text {text}") == (there[0] if there else None)
        assert len(self.partition.index) == len(self.entries)


Against.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPartition = Against.TestCase


def test_a_mirror_that_starts_anew_keeps_its_hits() -> None:
    partition = Partition(DIMENSION, max_size=9, eviction="fifo", ttl_s=0)
    partition.apply(Changes(1, False, [record(1, 1), record(2, 2)], [], {}))
    partition.use(partition.find("text 2"), time.time())
    partition.apply(Changes(7, True, [record(2, 2), record(3, 3)], [], {}))
    assert [(e.entry_id, hits) for e, hits in partition.newest(9, 0)] == [("e-3", 0), ("e-2", 1)]
    assert partition.revision == 7


def test_uses_of_other_processes_count_for_the_order() -> None:
    partition = Partition(DIMENSION, max_size=2, eviction="lru", ttl_s=0)
    first, second = record(1, 1), record(2, 2)
    partition.apply(Changes(1, False, [first, second], [], {}))
    partition.apply(Changes(2, False, [], [], {"e-1": time.time() + 5, "e-9": 1.0}))
    write, evicted = partition.plan([record(3, 3)])
    assert (write.remove, evicted) == (["e-2"], 1)


def test_what_is_known_changes_nothing_when_it_comes_again() -> None:
    partition = Partition(DIMENSION, max_size=9, eviction="fifo", ttl_s=0)
    changes = Changes(3, False, [record(1, 1), record(2, 2)], ["e-0"], {})
    partition.apply(changes)
    before = partition.memory_bytes
    partition.apply(changes)
    assert (len(partition), len(partition.index), partition.memory_bytes) == (2, 2, before)


def test_merging_keeps_the_newest_in_the_order_of_their_times() -> None:
    partition = Partition(DIMENSION, max_size=3, eviction="fifo", ttl_s=0)
    here = [record(1, 1, age=50), record(2, 2, age=30)]
    partition.apply(Changes(0, False, here, [], {}))
    came = [record(3, 3, age=60), record(4, 2, age=40), record(5, 1, age=20), record(6, 6, age=35)]
    write = partition.plan_merge(came)
    partition.apply(Changes(0, False, write.put, write.remove, {}))
    partition.sort()
    # 5 is newer than 1 of the same text, 4 is older than 2; 3 is the oldest of four
    assert [e.entry_id for e, _ in partition.newest(9, 0)] == ["e-5", "e-2", "e-6"]


def test_uses_elsewhere_take_their_place_in_the_order() -> None:
    partition = Partition(DIMENSION, max_size=3, eviction="lru", ttl_s=0)
    now = time.time()
    partition.apply(Changes(1, False, [record(1, 1, 50), record(2, 2, 40), record(3, 3, 20)],
                            [], {"e-1": now - 30, "e-2": now - 10}))  # fmt: skip
    order = []
    for i in range(4, 7):
        write, _ = partition.plan([record(i, i)])
        order += write.remove
        partition.apply(Changes(i, False, write.put, write.remove, {}))
    assert order == ["e-1", "e-3", "e-2"]


def test_a_search_under_way_finds_no_other_entry_when_the_mirror_starts_anew() -> None:
    partition = Partition(DIMENSION, max_size=9, eviction="fifo", ttl_s=0)
    partition.apply(Changes(1, False, [record(1, 1), record(2, 2)], [], {}))
    (match,) = partition.nearest(VECTORS[1], 1, 0.9)
    partition.apply(Changes(20_000, True, [record(3, 3), record(4, 4)], [], {}))
    assert partition.at(match.key) is None
    (match,) = partition.nearest(VECTORS[3], 1, 0.9)
    assert partition.at(match.key) == partition.find("text 3")
    partition.apply(Changes(7, True, [], [], {}))  # a store that was made anew, by another clock
    assert (len(partition), len(partition.index), partition.revision) == (0, 0, 7)


def test_ids_that_come_twice_in_a_merge_are_taken_once() -> None:
    partition = Partition(DIMENSION, max_size=9, eviction="fifo", ttl_s=0)
    write = partition.plan_merge([record(1, 1, 3), record(1, 2, 2), record(1, 1, 1)])
    assert [one.entry.query for one in write.put] == ["text 1"]
    partition.apply(Changes(0, False, write.put, write.remove, {}))
    assert partition.known(None) == ["e-1"]


class StoppedError(Exception):
    """What a signal raises."""


def test_an_interruption_leaves_whole_entries() -> None:
    def stop(_number: int, _frame: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGALRM, stop)
    partition = Partition(DIMENSION, max_size=300, eviction="lru", ttl_s=0)
    rng = random.Random(7)
    stopped = number = 0
    took = 1e-3  # about what it takes: the alarm rings somewhere within
    try:
        while stopped < 60:
            records = [record(number + i, number + i) for i in range(200)]
            number += 200
            write, _ = partition.plan(records)
            began = time.perf_counter()
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-5, took))
                    partition.apply(Changes(0, False, write.put, write.remove, {}))
                    took = time.perf_counter() - began
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except StoppedError:
                stopped += 1
            ids = partition.known(None)
            listed = [entry for entry, _ in partition.newest(1000, 0)]
            assert sorted(ids) == sorted(entry.entry_id for entry in listed)
            assert len(partition) == len(partition.index) == len(ids) <= 300
    finally:
        signal.signal(signal.SIGALRM, before)
    partition.apply(Changes(0, False, [], partition.known(None), {}))
    assert len(partition) == len(partition.index) == partition._text_bytes == 0
