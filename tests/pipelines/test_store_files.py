"""What can happen to the files of a store of samples: cut, flipped, replaced, forked, read-only."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cacher.errors import StoreError
from cacher.pipelines import opened
from cacher.pipelines.rows import LAYOUT, PAGE_BYTES
from cacher.pipelines.salvage import LEAF, read_log
from cacher.pipelines.sqlite import Cache

N_KEYS = 60


def key(n: int) -> str:
    return f"{n:064x}"


def value(n: int, place: int) -> str:
    return f"{n} {place} " + "word " * (n * 7 % 300)


def fill(cache: Cache, first: int = 0, last: int = N_KEYS) -> None:
    for n in range(first, last):
        cache.add([(key(n), 0, [value(n, 0), value(n, 1)])])


def lost(cache: Cache, n_keys: int = N_KEYS) -> int:
    """Return how many samples are not there; what is there must be right."""
    found = cache.read([(key(n), 0, 2) for n in range(n_keys)])
    for n, samples in enumerate(found):
        assert all(sample == value(n, place) for place, sample in samples.items()), n
    return 2 * n_keys - sum(map(len, found))


def killed(code: str, *arguments: object) -> None:
    """Run a process that kills itself."""
    source = textwrap.dedent(code) + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run([sys.executable, "-c", source, *map(str, arguments)])
    assert done.returncode == -9


@pytest.fixture(scope="module")
def left_behind() -> Iterator[Path]:
    """A store whose process was killed, with its log."""
    folder = Path(tempfile.mkdtemp())
    killed(
        """
        import sys
        from cacher.pipelines.sqlite import Cache
        from tests.pipelines.test_store_files import fill
        fill(Cache(sys.argv[1]))
        """,
        folder,
    )
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def closed() -> Iterator[Path]:
    """A store that was closed: one file."""
    folder = Path(tempfile.mkdtemp())
    with Cache(folder) as cache:
        fill(cache)
    assert sorted(os.listdir(folder)) == ["making", "samples-1.sqlite3", "samples-1.sqlite3-turn"]
    yield folder
    shutil.rmtree(folder)


def test_91_what_was_added_outlasts_a_kill(left_behind: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(left_behind, tmp_path / "store")
    with Cache(folder) as cache:
        assert lost(cache) == 0
        stats = cache.stats()
        assert (stats["recovered_bytes"], stats["corrupt_records"]) == (0, 0)
        assert cache.check() == []


@pytest.mark.parametrize("cut", [1, 7, 24, 100, 200])
def test_92_the_log_is_cut(left_behind: Path, tmp_path: Path, cut: int) -> None:
    folder = shutil.copytree(left_behind, tmp_path / "store")
    newest = folder / "samples-1.sqlite3-wal"
    os.truncate(newest, newest.stat().st_size - cut)
    with Cache(folder) as cache:
        assert lost(cache) == 2, "the last write alone"
        assert lost(cache, N_KEYS - 1) == 0
        assert cache.stats()["recovered_bytes"] > 0
        assert cache.check() == []
        assert cache.extend(key(N_KEYS - 1), [value(N_KEYS - 1, 0), value(N_KEYS - 1, 1)]) == 0
    with Cache(folder) as cache:
        assert lost(cache) == 0
        assert cache.stats()["recovered_bytes"] > 0, "it is not forgotten"


@pytest.mark.parametrize("cut", [1, 50, 200])
def test_92_the_database_is_cut(
    closed: Path, tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(closed, tmp_path / "store")
    newest = folder / "samples-1.sqlite3"
    os.truncate(newest, newest.stat().st_size - cut)
    with caplog.at_level(logging.WARNING), Cache(folder) as cache:
        assert lost(cache) <= 2
        assert cache.stats()["recovered_bytes"] == cut
        assert cache.check() == []
    assert "samples-1.sqlite3" in caplog.text
    assert (folder / "samples-2.sqlite3").exists()


def flipped(folder: Path, name: str, at: int) -> None:
    with open(folder / name, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ random.Random(at).choice([1, 0x80, 0x55, 0xFF])]))


def judge(folder: Path) -> int:
    """Use a store whose file has a wrong byte; returns how many samples are lost."""
    with Cache(folder) as cache:
        gone = lost(cache)
        for n in range(N_KEYS):  # what is not there is bought again, under its index
            for place in {0, 1} - set(cache.read([(key(n), 0, 2)])[0]):
                cache.add([(key(n), place, [value(n, place)])])
        if gone:  # an entry of the index that leads nowhere is not noticed by itself
            assert cache.stats()["corrupt_records"] > 0 or cache.check()
        if cache.check():
            cache.compact()
        assert lost(cache) == 0
        assert cache.check() == []
    return gone


@pytest.mark.parametrize("name", ["samples-1.sqlite3", "samples-1.sqlite3-wal"])
def test_93_a_byte_is_flipped(closed: Path, left_behind: Path, tmp_path: Path, name: str) -> None:
    source = left_behind if name.endswith("wal") else closed
    size, rng = (source / name).stat().st_size, random.Random(name)
    places = [*range(0, 40, 7), PAGE_BYTES, PAGE_BYTES + 4, 2 * PAGE_BYTES + 9]
    places += [rng.randrange(size) for _ in range(12)]
    for at in places:
        folder = shutil.copytree(source, tmp_path / str(at))
        flipped(folder, name, at)
        assert judge(folder) <= 2 * PAGE_BYTES // 100, (name, at)
        shutil.rmtree(folder)


def test_93_what_is_damaged_is_no_text_any_more(closed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(closed, tmp_path / "store")
    file = folder / "samples-1.sqlite3"
    file.write_bytes(file.read_bytes().replace(b"TABLE settled", b"T\xd5BLE settled"))
    assert judge(folder) == 0


def test_93_a_page_of_the_log_has_a_number_far_beyond(left_behind: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(left_behind, tmp_path / "store")
    flipped(folder, "samples-1.sqlite3-wal", 32 + 5 * (24 + PAGE_BYTES))
    assert judge(folder) <= 2 * PAGE_BYTES // 100


def test_92_a_page_was_on_its_way_to_the_log(left_behind: Path, tmp_path: Path) -> None:
    """A frame has its header, and in its place is still what an earlier log had there."""
    log = read_log(str(left_behind / "samples-1.sqlite3"))
    leaves = {n: places[-1] for n, places in log.pages.items() if log.data[places[-1]] == LEAF}
    assert len(leaves) > 3
    for number, other in zip(leaves, [*list(leaves)[1:], *leaves], strict=False):
        folder = shutil.copytree(left_behind, tmp_path / str(number))
        with open(folder / "samples-1.sqlite3-wal", "ab") as file:
            file.write(struct.pack(">II8s8x", number, max(log.pages), log.salt))
            file.write(log.data[leaves[other] :][:PAGE_BYTES])
        with Cache(folder) as cache:
            assert lost(cache) == 0
            assert cache.check() == []


@pytest.mark.slow
def test_93_any_byte_is_flipped(closed: Path, left_behind: Path, tmp_path: Path) -> None:
    rng = random.Random()
    for source, name in ((closed, "samples-1.sqlite3"), (left_behind, "samples-1.sqlite3-wal")):
        for _ in range(150):
            at = rng.randrange(72, (source / name).stat().st_size)  # behind whose file it is
            folder = shutil.copytree(source, tmp_path / "store")
            flipped(folder, name, at)
            assert judge(folder) <= 2 * PAGE_BYTES // 100, (name, at)
            shutil.rmtree(folder)


def test_93_damage_while_the_store_is_open(closed: Path, tmp_path: Path) -> None:
    """Another process has the file open, too, and finds the new one by itself."""
    folder = shutil.copytree(closed, tmp_path / "store")
    with Cache(folder) as cache, Cache(folder) as other:
        data = (folder / "samples-1.sqlite3").read_bytes()
        flipped(folder, "samples-1.sqlite3", data.index(value(41, 0).encode()) + 3)
        assert lost(cache) == 1
        assert other.add([(key(41), 0, [value(41, 0)])]) == [[0]]
        assert lost(cache) == lost(other) == 0
        assert cache.stats()["corrupt_records"] == 1
        assert len(list(folder.glob("*.sqlite3"))) == 2
        cache.compact()
        assert len(list(folder.glob("*.sqlite3"))) == 1
        assert lost(other) == 0


def test_93_a_reader_passes_over_damage(closed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(closed, tmp_path / "store")
    data = (folder / "samples-1.sqlite3").read_bytes()
    flipped(folder, "samples-1.sqlite3", data.index(value(41, 0).encode()) + 3)
    with Cache(folder, readonly=True) as cache:
        assert lost(cache) == 1
        assert len(cache.check()) == 1
    assert not (folder / "samples-2.sqlite3").exists()


def test_removed_samples_do_not_come_back(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        fill(cache)
        assert cache.remove([key(n) for n in range(0, N_KEYS, 2)]) == N_KEYS // 2
    flipped(tmp_path, "samples-1.sqlite3", 3)  # even the first page
    with Cache(tmp_path) as cache:
        assert set(cache) == {key(n) for n in range(1, N_KEYS, 2)}
        assert cache.stats()["samples"] == N_KEYS
        assert value(10, 0).encode() not in (tmp_path / "samples-2.sqlite3").read_bytes()
        assert cache.check() == []


def test_a_long_sample_is_saved_from_a_damaged_file(tmp_path: Path) -> None:
    long = "ä" * 100_000
    with Cache(tmp_path) as cache:
        cache.add([("long", 0, [long, "short"])])
    flipped(tmp_path, "samples-1.sqlite3", 3)
    with Cache(tmp_path) as cache:
        assert cache.samples("long") == [long, "short"]
        assert cache.extend("long", ["more"]) == 2


def test_other_databases_are_left_alone(tmp_path: Path) -> None:
    name = tmp_path / "samples-1.sqlite3"
    db = sqlite3.connect(name)
    db.execute("CREATE TABLE other (a)")
    db.close()
    before = name.read_bytes()
    with pytest.raises(StoreError, match="something else"):
        Cache(tmp_path)
    assert name.read_bytes() == before


def test_a_later_version_is_refused(closed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(closed, tmp_path / "store")
    db = sqlite3.connect(folder / "samples-1.sqlite3")
    db.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    db.close()
    before = (folder / "samples-1.sqlite3").read_bytes()
    for readonly in (False, True):
        with pytest.raises(StoreError, match=f"layout {LAYOUT + 1}"):
            Cache(folder, readonly=readonly)
    assert (folder / "samples-1.sqlite3").read_bytes() == before


def test_99_a_value_of_a_later_version_is_an_error(tmp_path: Path) -> None:
    from cacher.pipelines.rows import checksum, name_of

    with Cache(tmp_path) as cache:
        cache.add([("a", 0, ["text"]), ("b", 0, [{"$": 1}])])
        cache.close()
        db = sqlite3.connect(tmp_path / "samples-1.sqlite3")
        for data, kind in ((b"text", 7), (b'{"$pickle": "x"}', 1), (b"[" * 10**5, 1), (b"{", 1)):
            db.execute(
                "UPDATE samples SET kind = ?, value = ?, checksum = ? WHERE key = 'a'",
                (kind, data, checksum(name_of("a"), 0, kind, data)),
            )
            db.commit()
            with pytest.raises(StoreError, match="sample 0 of 'a'"):
                cache.samples("a")
            assert cache.samples("b") == [{"$": 1}]
        db.close()


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with Cache(folder) as cache:
        fill(cache, 0, 3)
        shutil.rmtree(folder)
        assert cache.samples(key(1)) == []
        assert cache.extend(key(1), ["new"]) == 0
        assert cache.samples(key(1)) == ["new"]


def test_a_cache_without_a_folder_is_for_the_time_being() -> None:
    cache = Cache()
    cache.extend("a", ["b"])
    assert os.path.isdir(cache.directory)
    cache.close()
    assert not os.path.exists(cache.directory)
    assert cache.samples("a") == []
    cache.close()
    folder = cache.directory
    cache = Cache()
    del cache
    assert not os.path.exists(folder)


def test_opening_needs_nothing_of_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a log that was left behind is read."""
    with Cache(tmp_path) as cache:
        fill(cache)
    monkeypatch.setattr(opened, "read_log", None)
    with Cache(tmp_path) as cache:
        assert lost(cache) == 0


def test_compacting_gives_back_space(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        fill(cache)
    before = (tmp_path / "samples-1.sqlite3").stat().st_size
    with Cache(tmp_path) as cache, Cache(tmp_path) as other:
        cache.remove([key(n) for n in range(10, N_KEYS)])
        cache.compact()
        assert lost(other, 10) == 0
        assert other.extend(key(10), [value(10, 0), value(10, 1)]) == 0
    assert (tmp_path / "samples-1.sqlite3").stat().st_size < before / 2
    with Cache(tmp_path) as cache:
        assert lost(cache, 11) == 0
        assert cache.stats()["corrupt_records"] == 0
        assert cache.check() == []
    assert not (tmp_path / "samples-2.sqlite3").exists()


# ---- read-only


def test_100_read_only(closed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(closed, tmp_path / "store")
    with Cache(folder, readonly=True) as cache:
        assert lost(cache) == 0
        for change in (
            lambda: cache.extend("new", ["a"]), lambda: cache.remove([key(1)]), cache.compact,
        ):  # fmt: skip
            with pytest.raises(StoreError, match="only read"):
                change()
        with Cache(folder) as writer:
            writer.extend("new", ["a"])
            assert cache.samples("new") == ["a"]
    with Cache(tmp_path / "none", readonly=True) as cache:
        assert cache.read([("a", 0, 1)]) == [{}]
        assert (len(cache), cache.count("a"), cache.check(), list(cache)) == (0, 0, [], [])
    assert not (tmp_path / "none").exists()


def test_100_a_folder_that_cannot_be_written(closed: Path) -> None:
    """The process gives up the rights that root has over every folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = shutil.copytree(closed, Path(name) / "store")
        for path in (folder / "samples-1.sqlite3", folder, Path(name)):
            path.chmod(0o555)
        code = textwrap.dedent(
            """
            import os, sys
            from cacher.errors import StoreError
            from cacher.pipelines.sqlite import Cache
            from tests.pipelines.test_store_files import key, lost
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            cache = Cache(sys.argv[1])
            assert lost(cache) == 0
            try:
                cache.extend("a", ["b"])
            except StoreError as error:
                assert "only read" in str(error), error
            else:
                raise AssertionError
            assert lost(cache) == 0
            """
        )
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
        Path(name).chmod(0o755)
        folder.chmod(0o755)


# ---- transactions, fork


def test_a_transaction_is_there_as_a_whole(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache, Cache(tmp_path, timeout=0.1) as other:
        with cache.transact():
            there: list[object] = cache.get("a", [])  # type: ignore[assignment]
            cache.set("a", [*there, "b"])
            assert cache.samples("a") == ["b"], "it sees its own"
            assert other.samples("a") == []
            with pytest.raises(StoreError, match="locked"):
                other.extend("a", ["c"])
            with cache.transact():
                cache.extend("a", ["d"])
            with pytest.raises(StoreError, match="transact"):
                cache.close()
        assert other.samples("a") == ["b", "d"]
        with pytest.raises(TypeError), cache.transact():  # noqa: PT012
            cache.extend("a", ["never"])
            cache.extend("a", [len])
        assert other.extend("a", ["c"]) == 2


def forked(body: str, cache: Cache) -> int:
    """Return how a child ended that ran a statement."""
    child = os.fork()
    if not child:
        status = 1
        try:
            exec(body, {"cache": cache, "StoreError": StoreError})
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_goes_on_after_fork(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.extend("a", ["parent"])
        body = "assert cache.samples('a') == ['parent']; assert cache.extend('a', ['child']) == 1"
        assert forked(body, cache) == 0
        assert cache.samples("a") == ["parent", "child"]
        assert forked("cache.close(); assert cache.extend('a', ['second']) == 2", cache) == 0
        assert cache.extend("a", ["parent"]) == 3
        with cache.transact():
            cache.extend("a", ["held"])
            inside = "try:\n cache.samples('a')\nexcept StoreError: pass\nelse: raise KeyError"
            assert forked(inside, cache) == 0
        assert cache.samples("a") == ["parent", "child", "second", "parent", "held"]


def test_97_a_process_killed_while_it_writes_blocks_nobody(tmp_path: Path) -> None:
    killed(
        """
        import sys
        from cacher.pipelines.sqlite import Cache
        cache = Cache(sys.argv[1])
        cache.extend("a", ["whole"])
        held = cache.transact()
        held.__enter__()
        cache.extend("a", ["never"])
        """,
        tmp_path,
    )
    before = time.monotonic()
    with Cache(tmp_path) as cache:
        assert cache.extend("a", ["next"]) == 1
        assert time.monotonic() - before < 5
        assert cache.samples("a") == ["whole", "next"]


def test_101_a_long_list_grows_as_fast_as_a_short_one(tmp_path: Path) -> None:
    """Counted in steps of SQLite, not in time."""
    with Cache(tmp_path) as cache:
        cache.extend("long", [""] * 10_000)
        cache.extend("short", [""] * 10)
        steps = {"long": 0, "short": 0}
        assert cache._files._opened is not None
        writer = cache._files._opened.writer
        assert writer is not None
        for name in steps:

            def step(name: str = name) -> int:
                steps[name] += 1
                return 0

            writer._db.set_progress_handler(step, 1)
            cache.extend(name, [""])
        assert steps["long"] < 2 * steps["short"], steps
