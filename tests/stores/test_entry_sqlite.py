"""What SQLite adds to the promises: files that are foreign or damaged, locks, a disk that fails."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cacher import StoreError
from cacher.semantic.sqlite import SqliteEntryStore
from cacher.semantic.store import Changes, Record, Write
from cacher.stores import database
from tests.stores.mirror import Mirror, contents, record
from tests.stores.test_files import with_faults


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "entries.sqlite3"


def fill(path: Path, n: int = 200) -> list[Record]:
    store = SqliteEntryStore(path)
    Mirror(store).put(*[record(i) for i in range(n)])
    found = contents(store)
    store.close()
    return found


def test_the_file_is_its_owners_alone(path: Path) -> None:
    store = SqliteEntryStore(path)
    Mirror(store).put(record(1))
    for name in os.listdir(path.parent):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600
    store.close()


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    assert len(fill(path)) == 200


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE cats (name)")
    db.close()


def other_application(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 7")
    db.close()


def later_layout(path: Path) -> None:
    fill(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def a_text(path: Path) -> None:
    path.write_text("These are somebody's notes.\n" * 100)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (other_database, "something else"),
        (other_application, "something else"),
        (later_layout, "layout 99, this version reads 1"),
        (a_text, "not a database"),
    ],
)
def test_what_is_not_ours_is_refused_and_stays(path: Path, make: object, reason: str) -> None:
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"entries.sqlite3.*{reason}"):
        SqliteEntryStore(path)
    assert path.read_bytes() == before


def test_damage_is_refused_by_name(path: Path, tmp_path: Path) -> None:
    """Bytes anywhere are changed, or the end is cut off: it is noticed, or does no harm."""
    true = fill(path)
    whole, rng = path.read_bytes(), random.Random(3)
    refusals: dict[str, str] = {}
    for trial in range(120):
        damaged = bytearray(whole)
        if trial % 4 == 0:
            del damaged[rng.randrange(1, len(whole)) :]
        else:
            for at in rng.choices(range(len(whole)), k=trial % 4):
                damaged[at] ^= 1 << rng.randrange(8)
        copy = tmp_path / f"copy{trial}.sqlite3"
        copy.write_bytes(damaged)
        try:
            store = SqliteEntryStore(copy)
        except StoreError as error:
            refusals[copy.name] = str(error)
            continue
        try:
            assert contents(store) in (true, [])  # no tenant of that name any more
        except StoreError as error:
            refusals[copy.name] = str(error)
        store.close()
    assert len(refusals) > 60
    assert all(name in message for name, message in refusals.items())


def test_a_damaged_vector_is_noticed(path: Path) -> None:
    true = fill(path)
    whole = path.read_bytes()
    at = whole.index(true[7].vector + whole[whole.index(true[7].vector) + 32 :][:1])
    path.write_bytes(whole[:at] + b"\x01" + whole[at + 1 :])
    store = SqliteEntryStore(path)
    with pytest.raises(StoreError, match=r"entries.sqlite3' is damaged: entry e-[0-9a-f]{16}"):
        store.changes("", 0)
    store.close()


def test_a_file_that_goes_away_is_noticed(path: Path) -> None:
    """What is written into it would be lost."""
    store = SqliteEntryStore(path)
    mirror = Mirror(store)
    mirror.put(record(1))
    shutil.copy(path, path.with_name("other"))
    for change in (path.unlink, lambda: path.with_name("other").rename(path)):
        change()
        for call in (
            lambda: mirror.put(record(2)), lambda: store.changes("", 0),
            lambda: store.claim("", "a", 1), lambda: store.use("", {"e": (1, 1.0)}),
        ):  # fmt: skip
            with pytest.raises(StoreError, match="removed or replaced"):
                call()
    store.close()


def test_a_process_made_by_fork_is_refused(path: Path) -> None:
    code = """
import os, sys
from cacher import StoreError
from cacher.semantic.sqlite import SqliteEntryStore
from tests.stores.mirror import Mirror, contents, record
store = SqliteEntryStore(sys.argv[1])
mirror = Mirror(store)
mirror.put(record(1))
child = os.fork()
if child == 0:
    for call in (lambda: mirror.put(record(2)), mirror.sync, lambda: store.hits(""),
                 lambda: store.claim("", "a", 1)):
        try:
            call()
        except StoreError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
mirror.put(record(3))
print(len(contents(store)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    *refused, left = done.stdout.splitlines()
    assert len(refused) == 4
    assert all("entries.sqlite3' was opened before fork()" in line for line in refused)
    assert left == "2"


def test_who_holds_the_file_too_long_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    store = SqliteEntryStore(path)
    mirror = Mirror(store)
    mirror.put(record(1))
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        for call in (
            lambda: mirror.put(record(2)), lambda: store.claim("", "a", 1),
            lambda: store.use("", {record(1).entry.entry_id: (1, 1.0)}),
        ):  # fmt: skip
            with pytest.raises(StoreError, match=r"entries.sqlite3.*locked"):
                call()
        assert contents(store) == [record(1)], "readers wait for nobody"
        other.execute("ROLLBACK")
    other.close()
    mirror.put(record(2))
    assert contents(store) == [record(1), record(2)]
    store.close()


def test_others_can_close_the_file_while_it_is_used(path: Path) -> None:
    """The last to close it tidies up; who has it open, once or twice, must not be overlooked."""
    code = """
import sys
from cacher.semantic.sqlite import SqliteEntryStore
from tests.stores.mirror import Mirror, record
store = SqliteEntryStore(sys.argv[1])
mirror = Mirror(store)
mirror.put(record(int(sys.argv[2])))
print(*sorted(mirror.queries()), sep=",")
store.close()
"""

    def another(n: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, path, str(n)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    one, two = SqliteEntryStore(path), SqliteEntryStore(path)
    Mirror(one).put(record(1))
    assert another(2) == "query 1,query 2"
    Mirror(two).put(record(3))
    assert another(4) == "query 1,query 2,query 3,query 4"
    two.close()
    assert another(5) == "query 1,query 2,query 3,query 4,query 5"
    Mirror(one).put(record(6))
    assert another(7) == ",".join(f"query {n}" for n in range(1, 8))
    one.close()


def test_a_reader_does_not_wait_for_a_decision(path: Path) -> None:
    store = SqliteEntryStore(path)
    Mirror(store).put(record(1))

    def decide(_: Changes) -> Write:
        assert contents(store) == [record(1)]
        assert store.hits("") == {}
        return Write([record(2)])

    store.write("", decide, 0)
    assert contents(store) == [record(1), record(2)]
    store.close()


@pytest.mark.parametrize(("fault", "reason"), [("full", "full"), ("fdatasync", "I/O error")])
def test_a_disk_that_fails_is_reported_and_changes_nothing(
    faults: Path, tmp_path: Path, fault: str, reason: str
) -> None:
    code = """
import os, sys
from cacher import StoreError
from cacher.semantic.sqlite import SqliteEntryStore
from tests.stores.mirror import Mirror, contents, record
faults, folder, fault = sys.argv[1:]
os.mkdir(folder)
path = os.path.join(folder, "entries.sqlite3")
store = SqliteEntryStore(path)
mirror = Mirror(store)
mirror.put(record(1), record(2))
os.mkdir(os.path.join(faults, fault))
for n in range(3):
    try:
        print("stored", mirror.put(*[record(i, response="long " * 1000) for i in range(2, 50)]))
    except StoreError as error:
        print(error)
    print(contents(store) == [record(1), record(2)] == list(mirror.records.values()))
os.rmdir(os.path.join(faults, fault))
other = SqliteEntryStore(path)
print(contents(other) == [record(1), record(2)])
mirror.put(record(3))
print(contents(other) == [record(1), record(2), record(3)])
store.close()
other.close()
store = SqliteEntryStore(path)
print(contents(store) == [record(1), record(2), record(3)])
"""
    lines = with_faults(faults, tmp_path, code, fault).splitlines()
    assert all(re.search(f"entries.sqlite3' cannot be written: .*{reason}", s) for s in lines[:6:2])
    assert lines[1:6:2] + lines[6:] == ["True"] * 6


def test_a_write_that_failed_at_the_end_is_whole_or_not_there(faults: Path, tmp_path: Path) -> None:
    """Its process dies before the next write: the log may hold it already."""
    code = """
import os, sys
from cacher import StoreError
from cacher.semantic.sqlite import SqliteEntryStore
from tests.stores.mirror import Mirror, contents, record
faults, folder = sys.argv[1:]
os.mkdir(folder)
mirror = Mirror(SqliteEntryStore(os.path.join(folder, "entries.sqlite3")))
mirror.put(record(1), record(2))
os.mkdir(os.path.join(faults, "fdatasync"))
try:
    mirror.put(*[record(i, response="long " * 1000) for i in range(2, 50)])
except StoreError:
    print("refused", flush=True)
os._exit(0)
"""
    assert with_faults(faults, tmp_path, code) == "refused\n"
    store = SqliteEntryStore(tmp_path / "states" / "entries.sqlite3")
    found = contents(store)
    assert found[0] == record(1)
    assert found[1:] in (
        [record(2)], [record(i, response="long " * 1000) for i in range(2, 50)],
    )  # fmt: skip
    store.close()


def test_a_write_waits_for_the_disk(faults: Path, tmp_path: Path) -> None:
    code = """
import os, sys
from cacher.semantic.sqlite import SqliteEntryStore
from tests.stores.mirror import Mirror, record
calls = os.path.join(sys.argv[1], "calls")
def show():
    print(open(calls).read(), end="--\\n")
    open(calls, "w").close()
folder = os.path.join(sys.argv[2], "entries")
os.makedirs(folder)
store = SqliteEntryStore(os.path.join(folder, "entries.sqlite3"))
mirror = Mirror(store)
show()
mirror.put(record(1), record(2))
show()
store.use("", {record(1).entry.entry_id: (1, 1.0)})
store.release("", "text", store.claim("", "text", 1))
show()
mirror.remove(record(1).entry.entry_id)
show()
"""
    opened, put, noted, removed = with_faults(faults, tmp_path, code).split("--\n")[:-1]
    assert opened.endswith("fdatasync entries\n"), "the files' names, too"
    assert put == "fdatasync entries.sqlite3-wal\n"
    assert noted == ""
    assert removed == "fdatasync entries.sqlite3-wal\n"
