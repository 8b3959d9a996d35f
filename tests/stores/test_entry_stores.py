"""What every store of the semantic cache promises (cacher/semantic/store.py), against each."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from cacher import CacherError, MissingExtraError, ParameterError, StoreError
from cacher.semantic.redis import RedisEntryStore
from cacher.semantic.sqlite import SqliteEntryStore
from cacher.semantic.store import LOG, MAX_BATCH, Changes, EntryStore, Record, Write, open_store
from tests.stores.conftest import OpenEntries
from tests.stores.mirror import Mirror, contents, record

TENANTS = [
    "", "a", "a:b", "a}", "{a}", "a/b", "../a", "%61", " ", "\n", "a\0b", "*", "é", "e\u0301",
    "'--", "semantic:", "x" * 1000,
]  # fmt: skip


class RefusalError(Exception):
    """Raised by a `decide`."""


def refuse(_: Changes) -> Write:
    raise RefusalError


# ---- 1: what is acknowledged is there, as a whole


def test_what_is_written_is_there_for_all(open_entries: OpenEntries) -> None:
    one, two = Mirror(open_entries()), Mirror(open_entries())
    assert two.sync() == Changes(0, True, [], [], {})
    done = one.put(record(1), record(2))
    assert done == Changes(one.revision, False, [record(1), record(2)], [], {})
    two.sync()
    assert two.records == one.records
    assert two.queries() == ["query 1", "query 2"]
    one.store.close()
    assert contents(open_entries()) == [record(1), record(2)]


def test_nothing_of_a_refused_write_is_there(open_entries: OpenEntries) -> None:
    mirror = Mirror(open_entries())
    mirror.put(record(1))
    bad = [record(2), record(3, "\ud800"), record(4)]
    with pytest.raises(ParameterError, match="not valid Unicode"):
        mirror.put(*bad)
    with pytest.raises(ParameterError, match="not valid Unicode"):
        mirror.put(record(2), record(3, response="\udfff"))
    with pytest.raises(RefusalError):
        mirror.store.write("", refuse, mirror.revision)
    with pytest.raises(ParameterError, match=f"allowed: {MAX_BATCH}"):
        mirror.put(*[record(2)] * (MAX_BATCH + 1))
    assert contents(open_entries()) == [record(1)]
    mirror.put(record(2))
    assert contents(open_entries()) == [record(1), record(2)]


def test_a_write_of_nothing_changes_nothing(entries: EntryStore) -> None:
    mirror = Mirror(entries)
    mirror.put(record(1))
    revision = mirror.revision
    assert mirror.put() == Changes(revision, False, [], [], {})
    assert mirror.sync() == Changes(revision, False, [], [], {})


def test_readers_see_whole_batches(open_entries: OpenEntries) -> None:
    """A writer replaces all ten entries again and again; nobody ever sees nine, or two kinds."""
    writer, reader, fresh = Mirror(open_entries()), Mirror(open_entries()), open_entries()
    writer.put(*[record(i, f"text {i}") for i in range(10)])
    stop, seen = threading.Event(), set[int]()

    def write() -> None:
        for round_ in range(1, 40):
            writer.put(*[record(100 * round_ + i, f"text {i}") for i in range(10)])
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not stop.is_set():
        reader.sync()
        for found in (list(reader.records.values()), contents(fresh)):
            rounds = {int(each.entry.entry_id[2:], 16) // 100 for each in found}
            assert len(found) == 10
            assert len(rounds) == 1
            seen |= rounds
    thread.join()
    reader.sync()
    assert reader.records == writer.records


# ---- 2: nobody writes between what is seen and what is decided


def test_decisions_follow_each_other(open_entries: OpenEntries) -> None:
    """Each writer adds the number of entries it sees: no number comes twice."""
    n_writers, n_writes = 4, 25
    wrong: list[BaseException] = []

    def count(writer: int) -> None:
        mirror = Mirror(open_entries())

        def decide(changes: Changes) -> Write:
            mirror.apply(changes)
            n = len(mirror.records)
            return Write([record(n * n_writers + writer, str(n))])

        try:
            for _ in range(n_writes):
                mirror.apply(mirror.store.write("", decide, mirror.revision))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=count, args=(i,)) for i in range(n_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    found = [each.entry.query for each in contents(open_entries())]
    assert found == [str(n) for n in range(n_writers * n_writes)]


def test_threads_share_a_store(entries: EntryStore) -> None:
    n_threads, wrong = 4, list[BaseException]()
    mirrors = [Mirror(entries, "t", bound=20) for _ in range(n_threads)]

    def use(which: int) -> None:
        rng, mirror = random.Random(which), mirrors[which]
        try:
            for n in range(40):
                mirror.put(*[record(1000 * which + n + 100 * i) for i in range(rng.randrange(3))])
                mirror.sync()
                assert len(contents(entries, "t")) <= 20
                entries.use("t", {i: (1, float(n)) for i in list(mirror.records)[:2]})
                token = entries.claim("t", "text", 60)
                if token is not None:
                    entries.release("t", "text", token)
                assert entries.hits("t").keys() <= {record(i).entry.entry_id for i in range(5000)}
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=use, args=(i,)) for i in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert entries.claim("t", "text", 60)
    for mirror in mirrors:
        mirror.sync()
        assert list(mirror.records.values()) == contents(entries, "t")


def test_a_slow_writer_gets_its_turn(open_entries: OpenEntries) -> None:
    quick, slow = Mirror(open_entries()), Mirror(open_entries(), bound=5)
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            quick.put(record(n % 50, f"quick {n % 7}"))

    def decide(changes: Changes) -> Write:
        slow.apply(changes)
        time.sleep(0.05)
        return Write([record(1000)])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        done = slow.store.write("", decide, 0)
    finally:
        stop.set()
        thread.join()
    assert done.put == [record(1000)]
    assert "query 1000" in [each.entry.query for each in contents(open_entries())]


def test_a_bound_of_each_is_a_bound_of_all(open_entries: OpenEntries) -> None:
    mirrors = [Mirror(open_entries(), bound=7) for _ in range(3)]
    for n in range(40):
        mirrors[n % 3].put(record(n))
        assert len(contents(mirrors[0].store)) == min(n + 1, 7)
    assert [each.entry.query for each in contents(mirrors[0].store)] == [
        f"query {n}" for n in range(33, 40)
    ]


# ---- 3: one entry of a text


def test_a_put_replaces_the_entry_of_its_text(open_entries: OpenEntries) -> None:
    one, two = Mirror(open_entries()), Mirror(open_entries())
    one.put(record(1, "a"), record(2, "b"))
    two.sync()
    done = one.put(record(3, "a"))
    assert done.removed == [record(1).entry.entry_id]
    two.sync()
    assert two.queries() == one.queries() == ["b", "a"]
    assert two.records == one.records
    assert contents(one.store) == [record(2, "b"), record(3, "a")]


def test_a_put_replaces_the_entry_of_its_id(open_entries: OpenEntries) -> None:
    one, two = Mirror(open_entries()), Mirror(open_entries())
    one.put(record(1, "a"), record(2, "b"))
    two.sync()
    one.put(record(1, "c"))
    one.put(record(2, "b", response="new"))
    two.sync()
    expected = [record(1, "c"), record(2, "b", response="new")]
    assert list(two.records.values()) == list(one.records.values()) == expected
    assert contents(one.store) == expected
    one.put(record(3, "a"))
    assert one.queries() == ["c", "b", "a"]


def test_of_one_text_in_a_batch_the_last_stays(entries: EntryStore) -> None:
    mirror = Mirror(entries)
    mirror.put(record(1, "a"), record(2, "b"), record(3, "a"), record(2, "c"))
    assert contents(entries) == list(mirror.records.values()) == [record(3, "a"), record(2, "c")]


def test_what_is_not_there_can_be_removed(open_entries: OpenEntries) -> None:
    one, two = Mirror(open_entries()), Mirror(open_entries())
    one.put(record(1), record(2))
    two.sync()
    done = one.remove("e-nothing", record(1).entry.entry_id, record(1).entry.entry_id)
    assert done.removed == [record(1).entry.entry_id]
    two.sync()
    assert two.queries() == ["query 2"]
    two.put(record(1))
    one.sync()
    assert one.queries() == two.queries() == ["query 2", "query 1"]


# ---- 4: mirrors


def test_a_mirror_that_is_far_behind_starts_anew(open_entries: OpenEntries) -> None:
    one, two, three = (Mirror(open_entries()) for _ in range(3))
    one.put(record(0))
    two.sync()
    one.put(*[record(n) for n in range(1, LOG)])
    three.sync()
    one.put(*[record(n) for n in range(LOG, LOG + 10)])
    assert two.sync().whole
    assert not three.sync().whole
    one.remove(*one.records)
    two.sync()
    three.sync()
    assert one.records == two.records == three.records == {}


def test_a_mirror_of_another_store_starts_anew(
    open_entries: OpenEntries, tmp_path: Path, redis_url: str
) -> None:
    mirror = Mirror(open_entries())
    mirror.put(*[record(n) for n in range(10)])
    if isinstance(mirror.store, RedisEntryStore):
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
    else:
        mirror.store.close()
        mirror.store = SqliteEntryStore(tmp_path / "other.sqlite3")
    other = Mirror(mirror.store)
    other.put(*[record(n) for n in range(20, 35)])
    assert mirror.sync().whole
    assert mirror.records == other.records
    mirror.store.close()


def test_an_emptied_store_is_noticed(open_entries: OpenEntries, redis_url: str) -> None:
    mirror = Mirror(open_entries())
    mirror.put(record(1))
    if isinstance(mirror.store, SqliteEntryStore):
        assert Mirror(mirror.store, "nobody").sync().revision == 0
        mirror.revision += 100  # of a copy that was put back later
    else:
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
    changes = mirror.sync()
    assert changes.whole
    assert list(changes.put) == contents(mirror.store)


# ---- 5: bits


def test_everything_comes_back_as_it_was(open_entries: OpenEntries) -> None:
    rng = random.Random(5)
    texts = [
        "", "\0", "a\0b", "\r\n\t", "ü€😀", "e\u0301", "\u202e", "'; DROP TABLE entries; --", "{}",
        "%s", "\0" * 32_768, "😀" * 32_768, "".join(map(chr, range(1, 0xD800, 5))),
    ]  # fmt: skip
    times = [0.0, -1.5, 0.1 + 0.2, 1741079727.25, 5e-324, 1.7976931348623157e308]
    given = [
        Record(
            record(
                n, text, response=text * 2 or "?", source=text[:99], timestamp=times[n % len(times)]
            ).entry,
            rng.randbytes(4 * rng.choice([0, 1, 384, 768, 8192])),
        )
        for n, text in enumerate(texts)
    ]
    Mirror(open_entries(), "ü\0").put(*given)
    found = contents(open_entries(), "ü\0")
    assert found == given
    assert [each.entry.timestamp.hex() for each in found] == [
        each.entry.timestamp.hex() for each in given
    ]


# ---- uses


def test_uses_add_up_and_are_told(open_entries: OpenEntries) -> None:
    one, two = Mirror(open_entries()), Mirror(open_entries())
    one.put(record(1), record(2), record(3))
    two.sync()
    a, b, c = one.records
    assert two.store.hits("") == {}
    two.store.use("", {a: (2, 50.5), b: (1, 60.25), "e-gone": (9, 99.0)})
    one.store.use("", {a: (3, 40.0)})
    assert one.store.hits("") == {a: 5, b: 1}
    assert one.sync().used == one.used == {a: 50.5, b: 60.25}
    assert Mirror(open_entries()).sync().used == one.used
    one.store.use("", {c: (1, 70.0)})
    assert two.sync().used.items() >= {c: 70.0}.items()
    assert two.used == {a: 50.5, b: 60.25, c: 70.0}
    one.remove(a)
    one.put(record(1))
    assert one.store.hits("") == {b: 1, c: 1}, "an entry that comes back has no uses"
    assert Mirror(one.store).sync().used == {b: 60.25, c: 70.0}


def test_uses_of_nobody(entries: EntryStore) -> None:
    entries.use("nobody", {"e-1": (1, 1.0)})
    entries.use("", {})
    assert entries.hits("nobody") == entries.hits("") == {}
    assert entries.changes("nobody", 0) == Changes(0, True, [], [], {})


# ---- 6: claims


def test_a_claim_has_one_holder(open_entries: OpenEntries) -> None:
    one, two = open_entries(), open_entries()
    token = one.claim("", "text", 60)
    assert token is not None
    assert two.claim("", "text", 60) is None
    assert one.claim("", "text", 60) is None
    assert two.claim("", "text ", 60) is not None
    assert two.claim("other", "text", 60) is not None
    one.release("", "text", "another's")
    one.release("other", "text", token)
    assert two.claim("", "text", 60) is None, "only its holder gives a claim back"
    one.release("", "text", token)
    one.release("", "text", token)
    again = two.claim("", "text", 60)
    assert again not in (None, token)
    one.release("", "text", token)
    assert one.claim("", "text", 60) is None


def test_a_claim_runs_out(open_entries: OpenEntries) -> None:
    dead, heir = open_entries(), open_entries()
    token = dead.claim("", "text", 0.05)
    assert token is not None
    until = time.monotonic() + 5
    while heir.claim("", "text", 60) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    dead.release("", "text", token)
    assert dead.claim("", "text", 60) is None, "what ran out is another's by now"


def test_of_many_one_gets_the_claim(open_entries: OpenEntries) -> None:
    stores = [open_entries() for _ in range(6)]
    for round_ in range(5):
        got: list[str | None] = []
        text = f"{round_} " + "long " * 6000

        def claim(store: EntryStore, text: str = text, got: list[str | None] = got) -> None:
            got.append(store.claim("t", text, 60))

        threads = [threading.Thread(target=claim, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([token for token in got if token is not None]) == 1


# ---- 7: tenants


def test_tenants_never_meet(open_entries: OpenEntries) -> None:
    store = open_entries()
    mirrors = {tenant: Mirror(store, tenant) for tenant in TENANTS}
    for n, mirror in enumerate(mirrors.values()):
        mirror.put(record(1, "the same", response=str(n)), record(n + 2, "another"))
        store.use(mirror.tenant, {record(1).entry.entry_id: (n + 1, 5.0)})
    mirrors["a"].remove(record(1).entry.entry_id)
    mirrors["*"].remove(*mirrors["*"].records)
    other = open_entries()
    assert store.claim("asks only", "text", 60)
    assert sorted(other.tenants()) == sorted(set(TENANTS) - {"*"})
    for n, (tenant, mirror) in enumerate(mirrors.items()):
        mirror.sync()
        found = contents(other, tenant)
        assert found == list(mirror.records.values())
        if tenant == "*":
            assert found == []
        elif tenant == "a":
            assert found == [record(n + 2, "another")]
        else:
            assert found[0].entry.response == str(n)
            assert other.hits(tenant) == {record(1).entry.entry_id: n + 1}
    with pytest.raises(ParameterError, match="not valid Unicode"):
        store.changes("\ud800", 0)


# ---- opening


def test_a_setting_names_a_store(tmp_path: Path, redis_url: str) -> None:
    assert open_store("memory") is None
    for where, kind in (
        (f"sqlite:{tmp_path / 'x y.db'}", SqliteEntryStore), (redis_url, RedisEntryStore),
    ):  # fmt: skip
        opened = open_store(where)
        assert isinstance(opened, kind)
        opened.close()
    assert sorted(os.listdir(tmp_path)) == ["x y.db", "x y.db-turn"]
    for wrong in ("", "sqlite", "sqlite:", "sqlite:a\0b", "file", "redis:", "http://localhost"):
        with pytest.raises(ParameterError, match="allowed: memory, sqlite:<path>"):
            open_store(wrong)
    for nowhere in (
        "redis://127.0.0.1:1/0", "redis://127.0.0.1:x/0", "unix:///nowhere",
        f"sqlite:{tmp_path}/no/folder", f"sqlite:{tmp_path}",
    ):  # fmt: skip
        with pytest.raises(StoreError, match="cannot be opened"):
            open_store(nowhere)


def test_a_closed_store_says_so(entries_at: str) -> None:
    if entries_at.startswith("redis"):
        pytest.skip("its client connects anew")
    store = open_store(entries_at)
    assert store is not None
    store.close()
    for call in (
        lambda: store.changes("", 0), lambda: store.write("", refuse, 0), lambda: store.hits(""),
        lambda: store.claim("", "a", 1), lambda: store.use("", {"e": (1, 1.0)}),
    ):  # fmt: skip
        with pytest.raises(StoreError, match="closed"):
            call()


def test_a_missing_client_is_one_sentence() -> None:
    code = """
import sys
sys.modules["redis"] = None
import cacher
from cacher.semantic.store import open_store
try:
    open_store("redis://localhost")
except cacher.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "remembered answers in Redis need its client: pip install 'cacher[redis]'\n"
    )
    assert issubclass(MissingExtraError, CacherError)
