"""What files add to a store's promises: names, modes, a disk that fails, an index that is lost."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cacher import StateExistsError, StoreError
from cacher.stores.base import ChangedMeanwhileError, Key
from cacher.stores.files import INDEX_NAME, FileStore
from tests.crash.server import serving
from tests.stores.test_stores import A, document, put, summary


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "states"


def test_files_are_where_they_should_be_and_private(folder: Path) -> None:
    store = FileStore(folder / "deep")
    put(store, A)
    put(store, Key("red", "b"))
    paths = ["a.json", "tenants/red/b.json", INDEX_NAME]
    for path in paths:
        assert stat.S_IMODE((folder / "deep" / path).stat().st_mode) == 0o600
    for path in (".", "tenants", "tenants/red"):
        assert stat.S_IMODE((folder / "deep" / path).stat().st_mode) == 0o700
    store.delete(A)
    assert not (folder / "deep" / "a.json").exists()
    store.close()


def test_opening_reads_no_state(folder: Path) -> None:
    """However many there are: names and the index are enough."""
    folder.mkdir()
    for i in range(2000):
        (folder / f"s{i}.json").write_bytes(document(i, f"s{i}"))
    FileStore(folder).close()
    code = """
import sys, time
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
from cacher.stores.files import FileStore
del opened[:]
store = FileStore(sys.argv[1])
print(sum(str(name).endswith(".json") for name in opened), store.newest("", 1, 0)[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0 2000\n"


def test_a_lost_index_is_made_again(folder: Path) -> None:
    store = FileStore(folder)
    versions = {name: put(store, Key("", name), created=float(i)) for i, name in enumerate("abc")}
    store.close()
    for name in list(folder.glob(".cacher-index*")):
        name.unlink()
    store = FileStore(folder)
    found, total = store.newest("", 10, 0)
    assert total == 3
    assert {s.model_id for s in found} == {"tales"}
    assert store.version(A) != versions["a"]
    with pytest.raises(ChangedMeanwhileError):
        store.save(A, document(1), summary(), versions["a"])
    store.close()


@pytest.mark.parametrize("damage", [b"", b"rubbish" * 1000, None])
def test_a_damaged_index_is_replaced(folder: Path, damage: bytes | None) -> None:
    store = FileStore(folder)
    for i in range(200):
        put(store, Key("", f"s{i}"))
    store.close()
    path = folder / INDEX_NAME
    if damage is None:
        whole = bytearray(path.read_bytes())
        whole[4096:-4096] = b"\xa5" * (len(whole) - 8192)
        path.write_bytes(whole)
    else:
        path.write_bytes(damage)
    store = FileStore(folder)
    assert store.newest("", 1, 0)[1] == 200
    store.close()


def test_an_index_of_another_layout_is_replaced(folder: Path) -> None:
    FileStore(folder).close()
    with sqlite3.connect(folder / INDEX_NAME) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("DROP TABLE states")
    db.close()
    store = FileStore(folder)
    assert put(store, A)
    store.close()


def test_a_file_that_came_by_hand_is_a_state(folder: Path) -> None:
    store = FileStore(folder)
    old = put(store, A)
    (folder / "new").write_bytes(document(7))
    (folder / "new").rename(folder / "a.json")  # as a process does that dies before it tells
    stored = store.load(A)
    assert stored is not None
    assert stored.data == document(7)
    assert stored.version != old
    with pytest.raises(ChangedMeanwhileError):
        store.save(A, document(8), summary(), old)
    store.save(A, document(8), summary(), stored.version)
    (folder / "b.json").write_bytes(document(1, "b"))
    with pytest.raises(StateExistsError):
        put(store, Key("", "b"))
    assert store.load(Key("", "b")) is not None
    (folder / "b.json").unlink()
    assert store.load(Key("", "b")) is None
    assert put(store, Key("", "b"))
    store.close()


def test_other_files_are_none_of_its_business(folder: Path) -> None:
    folder.mkdir()
    names = ["notes.txt", "-x.json", ".hidden.json", "a b.json", "json"]
    for name in names:
        (folder / name).write_text("{}")
    (folder / "sub.json").mkdir()
    (folder / "tenants").mkdir()
    (folder / "tenants" / "a b").mkdir()
    store = FileStore(folder)
    assert store.stats().total_files == 0
    assert store.clean_up(0.0, 0) == []
    assert set(names) < set(os.listdir(folder))
    store.close()


def test_what_died_in_the_middle_is_swept_away(folder: Path) -> None:
    store = FileStore(folder)
    put(store, Key("red", "a"))
    past = time.time() - 1000
    for path in (folder / ".cacher-0123.tmp", folder / "tenants/red/.cacher-4567.tmp"):
        path.write_bytes(b"half")
        os.utime(path, (past, past))
    (folder / ".cacher-now.tmp").write_bytes(b"being written")
    assert store.clean_up(None, None) == []
    assert [path.name for path in folder.rglob("*.tmp")] == [".cacher-now.tmp"]
    store.close()


def test_a_folder_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        FileStore(tmp_path / "file")
    with pytest.raises(StoreError):
        FileStore("/proc/none")


# ---- a disk that fails

SCRIPT = """
import json, os, sys
from cacher import StoreError
from cacher.stores.base import Key
from cacher.stores.files import FileStore
from tests.crash.server import serving
from tests.stores.test_stores import A, document, put, summary

faults, folder, fault = sys.argv[1:]
store = FileStore(folder)
version = put(store, A)
seen = []
os.mkdir(os.path.join(faults, fault))
for _ in range(3):
    for change in (lambda: store.save(A, document(1), summary(), version),
                   lambda: put(store, Key("", "b")), lambda: put(store, Key("red", "c"))):
        try:
            change()
            seen.append("acknowledged")
        except StoreError as error:
            seen.append(str(error))
            version = store.version(A)
os.rmdir(os.path.join(faults, fault))
stored = store.load(A)
store.save(A, document(2), summary(), stored.version)
print(json.dumps([seen, stored.data.decode(), sorted(os.listdir(folder))]))
"""


def with_faults(faults: Path, tmp_path: Path, code: str, *arguments: str) -> str:
    (tmp_path / "faults").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "faults", tmp_path / "states", *arguments],
        env={**os.environ, "LD_PRELOAD": str(faults), "CACHER_FAULTS": str(tmp_path / "faults")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("fault", "reason"), [("full", "No space left"), ("fsync-file", "Input/output error")]
)
def test_a_disk_that_fails_is_reported_and_changes_nothing(
    faults: Path, tmp_path: Path, fault: str, reason: str
) -> None:
    seen, data, names = json.loads(with_faults(faults, tmp_path, SCRIPT, fault))
    assert len(seen) == 9
    assert all(reason in line for line in seen), seen
    assert data.encode() == document(0)
    assert [name for name in names if not name.startswith(".cacher-index")] == ["a.json", "tenants"]


def test_a_state_that_cannot_be_deleted_is_still_there(faults: Path, tmp_path: Path) -> None:
    code = """
import os, sys
from cacher import StoreError
from cacher.stores.files import FileStore
from tests.stores.test_stores import A, document, put
faults, folder = sys.argv[1:]
store = FileStore(folder)
version = put(store, A)
os.mkdir(os.path.join(faults, "full"))
for _ in range(3):
    try:
        print(store.delete(A))
    except StoreError as error:
        print(error)
    print(store.load(A) == (document(0), version), store.newest("", 10, 0)[1])
os.rmdir(os.path.join(faults, "full"))
print(store.delete(A), store.load(A), store.newest("", 10, 0)[1])
"""
    *refused, deleted = with_faults(faults, tmp_path, code).splitlines()
    assert all("disk is full" in line for line in refused[::2]), refused
    assert refused[1::2] == ["True 1"] * 3
    assert deleted == "True None 0"


def test_a_file_that_cannot_be_removed_is_still_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    store = FileStore(folder)
    put(store, A)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(StoreError, match="Permission denied"):
            store.delete(A)
    found = store.load(A)
    assert found is not None
    assert found.data == document(0)
    assert [each.state_id for each in store.newest("", 10, 0)[0]] == ["a"]
    assert store.delete(A)
    assert store.newest("", 10, 0) == ([], 0)
    store.close()


def test_a_folder_that_cannot_be_synced_is_reported(faults: Path, tmp_path: Path) -> None:
    seen, data, names = json.loads(with_faults(faults, tmp_path, SCRIPT, "fsync-folder"))
    assert all("Input/output error" in line for line in seen), seen
    assert not {"b.json"} & set(names), "what could not be made is not there"
    assert data.encode() in (document(0), document(1)), "one or the other, whole"


def on_disk(name: str, folder: str = "states") -> str:
    """Return how a state is put on disk: the file, then its name, then the folder."""
    temporary = r"(\.cacher-[0-9a-f]+\.tmp)"
    file = rf"(?:write {temporary}\n)(?:write \1\n)*fsync \1\nrename \1 {re.escape(name)}\n"
    return rf"{file}fsync {folder}\n"


def test_a_save_returns_when_all_is_on_disk(faults: Path, tmp_path: Path) -> None:
    code = """
import os, sys
from cacher.stores.files import FileStore
from tests.stores.test_stores import A, Key, document, put, summary
calls = os.path.join(sys.argv[1], "calls")
def show():
    print(open(calls).read(), end="--\\n")
    os.unlink(calls)
store = FileStore(sys.argv[2])
show()
version = put(store, A)
show()
store.save(A, document(1), summary(), version)
show()
store.delete(A)
show()
put(store, Key("red", "b"))
show()
"""
    opened, made, saved, deleted, tenants = with_faults(faults, tmp_path, code).split("--\n")[:-1]
    assert opened.startswith("mkdir states\nfsync "), "the folder's own name, too"
    assert re.fullmatch(on_disk("a.json"), made), made
    assert re.fullmatch(on_disk("a.json"), saved), saved
    assert deleted == "unlink a.json\nfsync states\n"
    folders = "mkdir tenants\nfsync states\nmkdir red\nfsync tenants\n"
    assert re.fullmatch(folders + on_disk("b.json", "red"), tenants), tenants


def test_a_server_answers_when_all_is_on_disk(faults: Path, tmp_path: Path) -> None:
    (tmp_path / "faults").mkdir()
    calls = tmp_path / "faults" / "calls"
    preloaded = {"LD_PRELOAD": str(faults), "CACHER_FAULTS": str(tmp_path / "faults")}
    with serving(tmp_path, environment=preloaded) as server:

        def order(method: str, path: str, body: object = None) -> str:
            calls.write_text("")
            status, answer = server.ask(method, path, body, bytes)
            assert status == 200, answer
            return calls.read_text()

        new = {"model_id": "tales", "text": "Once", "state_id": "a"}
        generate = {"state_id": "a", "max_tokens": 3}
        changes: list[tuple[str, str, object, str]] = [
            ("POST", "/states", new, "a"),
            ("PATCH", "/states/a", {"append_text": " there"}, "a"),
            ("POST", "/states/config", {"state_id": "a", "config": {"seed": 3}}, "a"),
            ("POST", "/states/a/checkpoints", {"name": "c"}, "a"),
            ("POST", "/forward", {"state_id": "a", "text_input": " was"}, "a"),
            ("POST", "/generate/token", generate, "a"),
            ("POST", "/generate", generate, "a"),
            ("POST", "/states/a/rollback", {"checkpoint": "c"}, "a"),
            ("POST", "/states/a/fork", {"state_id": "b"}, "b"),
            ("POST", "/states/merge", {"state_ids": ["a", "b"], "state_id": "c"}, "c"),
        ]
        for method, path, body, name in changes:
            seen = order(method, path, body)
            assert re.fullmatch(on_disk(f"{name}.json") + "answer\n", seen), (path, seen)
        exported = server.ask("GET", "/states/a/export", read=bytes)[1]
        seen = order("POST", "/states/import?on_conflict=replace", exported)
        assert re.search(on_disk("a.json") + r"answer\n\Z", seen), "after one that was refused"
        seen = order("POST", "/generate/token", generate | {"stream": True})
        assert re.fullmatch(f"answer\n{on_disk('a.json')}end\n", seen), seen
        assert order("DELETE", "/states/a") == "unlink a.json\nfsync states\nanswer\n"


def test_a_file_that_may_not_grow_is_reported(tmp_path: Path) -> None:
    code = """
import resource, sys
from cacher import StoreError
from cacher.stores.files import FileStore
from tests.crash.server import serving
from tests.stores.test_stores import A, document, put, summary
store = FileStore(sys.argv[1])
version = put(store, A)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    store.save(A, b"x" * 1_000_000, summary(), version)
except StoreError as error:
    print(error)
print(store.load(A).data == document(0), store.load(A).version == version)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "states"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "File too large" in done.stdout
    assert done.stdout.endswith("True True\n")
    assert [path.name for path in (tmp_path / "states").glob("*.tmp")] == []
