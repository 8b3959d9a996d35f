"""Mirrors of one tenant, changed in any order, come to hold what the store holds."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cacher.semantic.redis import RedisEntryStore
from cacher.semantic.sqlite import SqliteEntryStore
from cacher.semantic.store import EntryStore, Record
from tests.stores.mirror import Mirror, contents, record

N_MIRRORS = 3
WHICH = st.integers(0, N_MIRRORS - 1)
IDS = st.integers(0, 7)
BATCH = st.lists(st.tuples(IDS, st.sampled_from("abcdef")), max_size=4)


class Mirrors(RuleBasedStateMachine):
    """The truth is a plain list; ids and texts are few, so that they meet."""

    def __init__(self, open_one: Callable[[], EntryStore]) -> None:
        super().__init__()
        self.stores = [open_one() for _ in range(N_MIRRORS)]
        self.mirrors = [Mirror(store, bound=5) for store in self.stores]
        self.truth: list[Record] = []
        self.used: dict[str, float] = {}
        self.hits: dict[str, int] = {}
        self.clock = itertools.count(1)

    def drop(self, gone: object) -> None:
        for each in [each for each in self.truth if gone(each)]:  # type: ignore[operator]
            self.truth.remove(each)
            self.used.pop(each.entry.entry_id, None)
            self.hits.pop(each.entry.entry_id, None)

    @rule(which=WHICH, batch=BATCH)
    def put(self, which: int, batch: list[tuple[int, str]]) -> None:
        puts = [record(n, text, response=str(next(self.clock))) for n, text in batch]
        last = [
            each for i, each in enumerate(puts)
            if not any(each.entry.entry_id == later.entry.entry_id
                       or each.entry.query == later.entry.query for later in puts[i + 1 :])
        ]  # fmt: skip
        changes = self.mirrors[which].put(*puts)
        kept = list(changes.put)
        assert set(kept) >= set(last)  # one that meets another that was dropped may stay
        removed = set(changes.removed)
        self.drop(lambda each: each.entry.entry_id in removed)
        self.truth += kept
        texts = [each.entry.query for each in self.truth]
        ids = [each.entry.entry_id for each in self.truth]
        assert len(set(texts)) == len(texts)
        assert len(set(ids)) == len(ids)

    @rule(which=WHICH, numbers=st.sets(IDS, max_size=3))
    def remove(self, which: int, numbers: set[int]) -> None:
        ids = [record(n).entry.entry_id for n in sorted(numbers)]
        there = {each.entry.entry_id for each in self.truth} & set(ids)
        assert set(self.mirrors[which].remove(*ids).removed) == there
        self.drop(lambda each: each.entry.entry_id in there)

    @rule(which=WHICH, numbers=st.lists(IDS, max_size=3))
    def use(self, which: int, numbers: list[int]) -> None:
        used = {record(n).entry.entry_id: (n, float(next(self.clock))) for n in numbers}
        self.stores[which].use("", used)
        there = {each.entry.entry_id for each in self.truth}
        for entry_id, (hits, last) in used.items():
            if entry_id in there:
                self.hits[entry_id] = self.hits.get(entry_id, 0) + hits
                self.used[entry_id] = last

    @rule(which=WHICH)
    def sync(self, which: int) -> None:
        mirror = self.mirrors[which]
        mirror.sync()
        assert list(mirror.records.values()) == self.truth
        assert mirror.used == self.used

    @rule(which=WHICH)
    def begin_anew(self, which: int) -> None:
        self.mirrors[which] = Mirror(self.stores[which], bound=5)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert contents(self.stores[0]) == self.truth
        assert self.stores[1].hits("") == {i: n for i, n in self.hits.items() if n}

    def teardown(self) -> None:
        for which in range(N_MIRRORS):
            self.sync(which)
        for store in self.stores:
            store.close()


SETTINGS = settings(
    max_examples=40, stateful_step_count=25, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def run(open_one: Callable[[str], EntryStore]) -> None:
    number = itertools.count()

    class Machine(Mirrors):
        def __init__(self) -> None:
            super().__init__(functools.partial(open_one, f"mirrors{next(number)}"))

    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_mirrors_of_sqlite(tmp_path: Path) -> None:
    run(lambda name: SqliteEntryStore(tmp_path / name))


def test_mirrors_of_redis(redis_url: str) -> None:
    run(lambda name: RedisEntryStore(redis_url, prefix=name))
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
