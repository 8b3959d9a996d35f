"""A damaged database of entries: refused by name, and what is whole of it is saved."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cacher import SemanticCache, StoreError
from cacher.semantic.rescue import rescue

Make = Callable[..., SemanticCache]
N = 300


@pytest.fixture
def path(make: Make, tmp_path: Path) -> Path:
    """A database of 300 entries and one of a tenant."""
    path = tmp_path / "entries.sqlite3"
    cache = make(store=f"sqlite:{path}")
    rows = np.random.default_rng(0).standard_normal((N, 384)).astype(np.float32)
    cache.put_all([(f"text {i}", f"answer {i}") for i in range(N)], vectors=rows)
    cache.put("What is a fox?", "an animal", tenant="a", source="a book")
    assert cache.get("text 7") is not None
    cache.close()
    return path


def change(path: Path, column: str, value: object, query: str) -> None:
    db = sqlite3.connect(path)
    db.execute(f"UPDATE entries SET {column} = ? WHERE query = ?", (value, query))
    db.commit()
    db.close()


def test_a_whole_database_is_saved_whole(make: Make, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "saved.jsonl"
    assert rescue(path, target) == (N + 1, 0, 0)
    cache = make()
    assert cache.load(target) == N + 1
    first, last = make(store=f"sqlite:{path}"), cache
    for tenant in ("", "a"):
        assert first._fresh(tenant).records() == last._fresh(tenant).records()


def test_damaged_entries_are_refused_and_the_others_saved(
    make: Make, path: Path, tmp_path: Path
) -> None:
    vector = np.ones(384, "<f4").tobytes()
    change(path, "vector", vector, "text 1")
    change(path, "vector", b"", "What is a fox?")
    change(path, "response", "forged", "text 2")
    change(path, "query", b"\xff\xfe", "text 3")
    with pytest.raises(StoreError, match=r"entries\.sqlite3.*damaged.*cacher semantic rescue"):
        make(store=f"sqlite:{path}").get("text 9")
    target = tmp_path / "saved.jsonl"
    assert rescue(path, target) == (N - 1, 2, 2)
    cache = make(store=f"sqlite:{tmp_path / 'new.sqlite3'}")
    assert cache.load(target) == N - 1
    look = cache.look("What's a fox?", tenant="a")
    assert look.hit is not None
    assert look.hit.entry.source == "a book"
    assert cache.get("text 2") is None
    assert cache.get("text 1") is not None


def test_a_database_with_holes_is_saved_around_them(path: Path, tmp_path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    data = bytearray(path.read_bytes())
    dice = random.Random(1)
    pages = range(len(data) // 4096 // 3, len(data) // 4096)
    for page in dice.sample(pages, 5):
        data[page * 4096 : (page + 1) * 4096] = dice.randbytes(4096)
    path.write_bytes(data)
    found = rescue(path, tmp_path / "saved.jsonl")
    assert 0 < found.entries < N


def test_what_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match=r"other\.db"):
        rescue(other, tmp_path / "saved.jsonl")
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(StoreError, match=r"empty\.db.*no database of a semantic cache"):
        rescue(empty, tmp_path / "saved.jsonl")
    with pytest.raises(StoreError, match="missing"):
        rescue(tmp_path / "missing", tmp_path / "saved.jsonl")
    assert not (tmp_path / "saved.jsonl").exists()


@pytest.mark.parametrize(
    ("statement", "refused", "saved"),
    [
        ("UPDATE entries SET timestamp = 'now' WHERE query = 'text 3'", True, N),
        ("UPDATE entries SET response = x'00ff' WHERE query = 'text 3'", True, N),
        ("UPDATE entries SET query = CAST(query AS BLOB) WHERE query = 'text 3'", True, N + 1),
        ("UPDATE entries SET vector = 5 WHERE query = 'text 3'", True, N + 1),
        ("UPDATE entries SET text_checksum = 'x' WHERE query = 'text 3'", True, N),
        ("UPDATE tenants SET revision = 'x'", True, N + 1),
        ("UPDATE uses SET hits = 'many'", False, N + 1),
        ("UPDATE uses SET used = 'now'", False, N + 1),
    ],
)
def test_a_value_of_another_type_is_damage(
    make: Make, path: Path, tmp_path: Path, statement: str, refused: bool, saved: int
) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()
    cache = make(store=f"sqlite:{path}")
    if refused:
        with pytest.raises(StoreError, match="damaged"):
            cache.get("text 3")
    else:
        assert cache.get("text 3") is not None
        assert cache.entries()[1] == N
    assert rescue(path, tmp_path / "saved.jsonl").entries == saved
