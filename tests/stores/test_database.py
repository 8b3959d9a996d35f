"""Connections that write without a pause share a database fairly."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from cacher.stores import database
from cacher.stores.database import Database

TABLES = "CREATE TABLE counts (writer INTEGER NOT NULL)"


def test_nobody_is_kept_out(tmp_path: Path) -> None:
    path, n_writers = str(tmp_path / "counts.sqlite3"), 4
    counts, stop = [0] * n_writers, threading.Event()

    def write(writer: int) -> None:
        db = Database(path)
        db.begin(TABLES, 1, precious=True)
        while not stop.is_set():
            with db.transaction(durable=True):
                db.run("INSERT INTO counts VALUES (?)", (writer,))
            counts[writer] += 1
        db.close()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(n_writers)]
    for thread in threads:
        thread.start()
    while sum(counts) < 1000:
        assert any(thread.is_alive() for thread in threads)
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert min(counts) > max(counts) / 10, counts
    db = Database(path)
    assert db.one("SELECT count(*) FROM counts") == (sum(counts),)
    db.close()


def test_who_holds_the_turn_too_long_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "counts.sqlite3")
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    one, two = Database(path), Database(path)
    one.begin(TABLES, 1, precious=True)
    with one.transaction():
        one.run("INSERT INTO counts VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            two.run("INSERT INTO counts VALUES (2)")
    two.run("INSERT INTO counts VALUES (2)")
    assert one.all("SELECT writer FROM counts") == [(1,), (2,)]
    one.close()
    two.close()
    two.close()  # again: nothing happens
