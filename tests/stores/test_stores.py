"""What every store promises (cacher/stores/base.py), against each of them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import cacher
from cacher import Model, StateBusyError, StateExistsError
from cacher.document import encode, from_document
from cacher.stores import open_store
from cacher.stores.base import ChangedMeanwhileError, Key, StateStore, Summary
from cacher.stores.files import FileStore
from cacher.stores.redis import RedisStore
from cacher.typed import parse
from tests.stores.conftest import Open

A, B = Key("", "a"), Key("", "b")


def summary(state_id: str = "a", created: float = 1000.0, **changes: object) -> Summary:
    plain = Summary(state_id, "tales", "causal_lm", 3, 0, created, created)
    return replace(plain, **changes)  # type: ignore[arg-type]


def document(n: int, state_id: str = "a") -> bytes:
    return json.dumps({"model_id": "tales", "state_id": state_id, "n": n}).encode()


def put(store: StateStore, key: Key, created: float = 1000.0, **changes: object) -> str:
    return store.save(key, document(0), summary(key.state_id, created, **changes), None)


def test_what_is_saved_is_loaded(store: StateStore) -> None:
    assert store.load(A) is None
    assert store.version(A) is None
    first = store.save(A, document(1), summary(), None)
    assert store.load(A) == (document(1), first)
    second = store.save(A, document(2), summary(), first)
    assert store.load(A) == (document(2), second)
    assert store.version(A) == second != first


def test_other_processes_see_it_at_once(open_store: Open) -> None:
    one, two = open_store(), open_store()
    version = put(one, A)
    assert two.load(A) == (document(0), version)
    newer = two.save(A, document(1), summary(), version)
    assert one.load(A) == (document(1), newer)
    assert two.delete(A)
    assert one.load(A) is None
    assert one.version(A) is None
    assert one.newest("", 10, 0) == ([], 0)


def test_a_state_comes_back_whole(store: StateStore, model: Model) -> None:
    state = model.state("Once upon a time", state_id="a")
    state.generate(3, seed=1)
    store.save(A, encode(state), Summary.of(state), None)
    stored = store.load(A)
    assert stored is not None
    again = from_document(model, parse(stored.data))
    assert again.to_dict() == state.to_dict()
    assert store.newest("", 10, 0)[0] == [Summary.of(state)]
    assert again.generate(5) == state.generate(5)


def test_a_stale_writer_is_refused(open_store: Open) -> None:
    slow, quick = open_store(), open_store()
    old = put(slow, A)
    new = quick.save(A, document(1), summary(), old)
    for _ in range(2):
        with pytest.raises(ChangedMeanwhileError, match="a was changed"):
            slow.save(A, document(2), summary(), old)
    assert quick.load(A) == (document(1), new)


def test_a_state_that_was_made_anew_is_another(open_store: Open) -> None:
    slow, quick = open_store(), open_store()
    old = put(slow, A)
    assert quick.delete(A)
    with pytest.raises(ChangedMeanwhileError):
        slow.save(A, document(2), summary(), old)
    assert quick.load(A) is None
    assert put(quick, A) != old
    with pytest.raises(StateBusyError):
        slow.save(A, document(2), summary(), old)


def test_nothing_is_made_twice(open_store: Open) -> None:
    put(open_store(), A)
    with pytest.raises(StateExistsError, match="a already"):
        put(open_store(), A)


def test_deleting_is_once(store: StateStore) -> None:
    assert not store.delete(A)
    put(store, A)
    assert store.delete(A)
    assert not store.delete(A)
    assert put(store, A)


def test_of_many_writers_of_one_version_one_wins(open_store: Open) -> None:
    stores = [open_store() for _ in range(4)]
    version = put(stores[0], A)
    for round_ in range(5):
        outcomes: list[str | None] = []

        def write(store: StateStore, n: int, expected: str, done: list[str | None]) -> None:
            try:
                done.append(store.save(A, document(n), summary(), expected))
            except ChangedMeanwhileError:
                done.append(None)

        threads = [
            threading.Thread(target=write, args=(store, n + 10 * round_, version, outcomes))
            for n, store in enumerate(stores)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [outcome for outcome in outcomes if outcome is not None]
        assert len(outcomes) == 4
        assert len(winners) == 1
        version = winners[0]
        assert stores[0].version(A) == version


def test_the_newest_come_first(store: StateStore) -> None:
    for i in range(10):
        put(store, Key("", f"s{i}"), created=1000.0 + i % 5)
    found, total = store.newest("", 100, 0)
    assert total == 10
    assert [s.state_id for s in found] == [
        "s9", "s4", "s8", "s3", "s7", "s2", "s6", "s1", "s5", "s0",
    ]  # fmt: skip
    page, total = store.newest("", 3, 8)
    assert [s.state_id for s in page] == ["s5", "s0"]
    assert total == 10
    assert store.newest("", 5, 10) == ([], 10)


def test_summaries_are_those_of_the_last_save(store: StateStore) -> None:
    version = put(store, A, forked_from="p", merged_from=None)
    latest = summary(token_count=9, head_position=4, modified_at=2000.5, merged_from=("x", "y"))
    store.save(A, document(1), latest, version)
    assert store.newest("", 1, 0) == ([latest], 1)


def test_families_know_the_dead(store: StateStore) -> None:
    put(store, A, created=1.0)
    put(store, B, created=2.0, forked_from="a")
    store.delete(A)
    family = store.family("")
    assert [(s.state_id, s.deleted, s.forked_from) for s in family] == [
        ("a", True, None), ("b", False, "a"),
    ]  # fmt: skip
    assert [s.state_id for s in store.newest("", 9, 0)[0]] == ["b"]
    put(store, A, created=3.0)
    assert [(s.state_id, s.deleted) for s in store.family("")] == [("b", False), ("a", False)]


def test_tenants_are_apart(open_store: Open) -> None:
    store = open_store()
    keys = [Key(tenant, "a") for tenant in ("", "red", "blue")]
    versions = [put(store, key) for key in keys]
    assert len(set(versions)) == 3
    assert store.delete(keys[1])
    assert [store.version(key) for key in keys] == [versions[0], None, versions[2]]
    assert [store.newest(key.tenant, 9, 0)[1] for key in keys] == [1, 0, 1]
    assert [len(store.family(key.tenant)) for key in keys] == [1, 1, 1]
    assert store.stats().total_files == 2
    assert open_store().newest("blue", 9, 0)[1] == 1


def test_a_lease_has_one_holder(open_store: Open) -> None:
    one, two = open_store(), open_store()
    lease = one.acquire(A, 60)
    assert lease is not None
    assert two.acquire(A, 60) is None
    assert one.acquire(A, 60) is None
    assert two.acquire(B, 60) is not None
    assert one.renew(lease, 60)
    one.release(lease)
    one.release(lease)
    assert not one.renew(lease, 60)
    other = two.acquire(A, 60)
    assert other is not None
    one.release(lease)
    assert one.acquire(A, 60) is None, "only its holder gives a lease back"


def test_a_lease_runs_out(open_store: Open) -> None:
    dead, heir = open_store(), open_store()
    lease = dead.acquire(A, 0.05)
    assert lease is not None
    until = time.monotonic() + 5
    while (taken := heir.acquire(A, 60)) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not dead.renew(lease, 60)
    assert heir.renew(taken, 60)


def test_holders_are_asked_to_stop(open_store: Open) -> None:
    holder, other = open_store(), open_store()
    run = Key("red", "run/1")
    assert not other.call_off(run)
    lease = holder.acquire(run, 60)
    assert lease is not None
    assert not holder.is_called_off(lease)
    assert other.call_off(run)
    assert not other.call_off(Key("blue", "run/1"))
    assert holder.renew(lease, 60)
    assert holder.is_called_off(lease)
    holder.release(lease)
    assert not other.call_off(run)
    again = holder.acquire(run, 60)
    assert again is not None
    assert not holder.is_called_off(again), "what was asked of the last is not asked of the next"


def test_clean_up_takes_what_is_old(store: StateStore) -> None:
    for name in ("a", "b", "c"):
        put(store, Key("", name))
    time.sleep(0.7)
    store.touch(B)
    held = store.acquire(Key("", "c"), 60)
    assert held is not None
    assert store.clean_up(0.6, None) == [A]
    store.release(held)
    assert store.load(A) is None
    assert store.load(B) is not None
    assert [s.state_id for s in store.family("") if s.deleted] == ["a"]
    assert store.clean_up(3600, None) == []
    assert store.clean_up(None, None) == []
    store.touch(A)
    assert store.load(A) is None, "touching makes nothing"


def test_clean_up_takes_the_oldest_of_too_many(store: StateStore) -> None:
    for i in range(6):
        put(store, Key("t" if i % 2 else "", f"s{i}"))
        time.sleep(0.01)
    store.touch(Key("", "s0"))
    assert [key.state_id for key in store.clean_up(None, 4)] == ["s1", "s2"]
    assert store.stats().total_files == 4


def test_stats_tell_sizes_and_ages(store: StateStore) -> None:
    assert store.stats() == (0, 0, None, None)
    put(store, A)
    time.sleep(0.02)
    store.save(B, document(123), summary("b"), None)
    stats = store.stats()
    assert stats.total_files == 2
    assert stats.total_size == len(document(0)) + len(document(123))
    assert stats.oldest_file is not None
    assert stats.newest_file is not None
    assert (stats.oldest_file.name, stats.newest_file.name) == ("a.json", "b.json")
    assert stats.oldest_file.age > stats.newest_file.age >= 0


def test_documents_of_all_sizes(store: StateStore) -> None:
    for i, size in enumerate((0, 1, 2**20, 20 * 2**20)):
        data = bytes([65 + i]) * size
        key = Key("", f"s{i}")
        store.save(key, data, summary(key.state_id), None)
        stored = store.load(key)
        assert stored is not None
        assert stored.data == data


def test_a_setting_names_a_store(tmp_path: Path, redis_url: str) -> None:
    for where, kind in (("files", FileStore), (redis_url, RedisStore)):
        opened = open_store(where, tmp_path)
        assert isinstance(opened, kind)
        opened.close()
    for wrong in ("", "file", "http://localhost", "redis:"):
        with pytest.raises(cacher.ParameterError, match="allowed: files"):
            open_store(wrong, tmp_path)
    for nowhere in ("redis://127.0.0.1:1/0", "redis://127.0.0.1:x/0", "unix:///nowhere"):
        with pytest.raises(cacher.StoreError):
            open_store(nowhere, tmp_path)


def test_errors_are_of_the_package() -> None:
    assert issubclass(cacher.StoreError, OSError)
    assert issubclass(ChangedMeanwhileError, cacher.StateBusyError)
