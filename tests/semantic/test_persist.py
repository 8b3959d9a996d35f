"""A cache in a file."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cacher import SemanticCache, StoreError

Make = Callable[..., SemanticCache]
ALIKE = "Can you explain machine learning?"


@pytest.fixture
def dumped(make: Make, tmp_path: Path) -> Path:
    cache = make()
    cache.put("What is machine learning?", "Programs that learn.", source="a book")
    cache.put("Ünïcödé 🦊\u2028\u0000\n", "fox")
    cache.put("of a tenant", "secret", tenant="a")
    assert cache.get(ALIKE) is not None
    path = tmp_path / "cache.jsonl"
    assert cache.dump(path) == 3
    return path


def test_what_was_dumped_is_loaded_to_the_bit(make: Make, dumped: Path, tmp_path: Path) -> None:
    cache = make()
    assert cache.load(dumped) == 3
    ((second, _), (first, hits)), _ = cache.entries()
    assert (first.response, first.source, hits) == ("Programs that learn.", "a book", 1)
    assert second.query == "Ünïcödé 🦊\u2028\u0000\n"
    assert cache.entries(tenant="a")[1] == 1
    assert cache.get(ALIKE) is not None
    again = tmp_path / "again.jsonl"
    cache.dump(again)
    lines, before = again.read_text().splitlines(), dumped.read_text().splitlines()
    assert len(lines) == 4
    assert json.loads(lines[0]) == {
        "format": "cacher-semantic", "version": 1, "embedder": "minilm", "dimension": 384,
    }  # fmt: skip
    changed = {**json.loads(before[1]), "hits": 2}
    assert [json.loads(line) for line in lines[1:]] == [changed, *map(json.loads, before[2:])]
    assert cache.load(dumped) == 0


def test_damaged_lines_cost_their_own_entries(
    make: Make, dumped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = dumped.read_text().splitlines()
    good = json.loads(lines[1])
    bad = [
        "nonsense",
        "[]",
        json.dumps({**good, "query": ""}),
        json.dumps({**good, "query": 5}),
        json.dumps({**good, "timestamp": "yesterday"}),
        json.dumps({**good, "entry_id": "../../etc"}),
        json.dumps({**good, "embedding": "!"}),
        json.dumps({**good, "tenant": "a/b"}),
        json.dumps({**good, "response": None}),
        json.dumps({**good, "embedding": "\u00fc"}),
        json.dumps({**good, "source": "\ud800"}),
        json.dumps({**good, "timestamp": 10**400}),
        '{"entry_id": ' * 100_000,
        json.dumps({**good, "timestamp": 0})[:-1] + ', "timestamp": NaN}',
        lines[2][: len(lines[2]) // 2],
    ]
    dumped.write_text("\n".join([lines[0], *bad, lines[1]]) + "\n")
    cache = make()
    with caplog.at_level(logging.WARNING):
        assert cache.load(dumped) == 1
    assert len(caplog.records) == len(bad)
    assert "line 2 is damaged" in caplog.text
    assert [e.query for e, _ in cache.entries()[0]] == [good["query"]]


@pytest.mark.parametrize(
    "first", ["", "{}", "nonsense\n", '{"format": "other", "version": 1, "embedder": "x"}\n',
              '{"format": "cacher-semantic", "version": 2, "embedder": "x"}\n'],
)  # fmt: skip
def test_another_file_is_refused_by_name(make: Make, tmp_path: Path, first: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(first)
    with pytest.raises(StoreError, match=r"other\.jsonl.*no semantic cache"):
        make().load(path)
    with pytest.raises(StoreError, match=r"missing.*cannot be read"):
        make().load(tmp_path / "missing")
    with pytest.raises(StoreError, match="cannot be written"):
        make().dump(tmp_path / "no" / "folder")


def test_vectors_of_another_embedder_or_damaged_ones_are_made_anew(
    make: Make, dumped: Path
) -> None:
    text = dumped.read_text()
    reference = make()
    reference.load(dumped)
    lines = [json.loads(line) for line in text.splitlines()]
    other = [{**lines[0], "embedder": "other", "dimension": 2}, *lines[1:]]
    short = [lines[0], *({**line, "embedding": "AAAA"} for line in lines[1:])]
    damage = base64.b64encode(np.full(384, np.nan, "<f4")).decode()
    nan = [lines[0], *({**line, "embedding": damage} for line in lines[1:])]
    none = [lines[0], *({k: v for k, v in line.items() if k != "embedding"} for line in lines[1:])]
    for version in (other, short, nan, none):
        dumped.write_text("\n".join(map(json.dumps, version)))
        cache = make()
        assert cache.load(dumped) == 3
        found = [record for record, _ in cache._shelf("").records()]
        assert found == [record for record, _ in reference._shelf("").records()]


def test_the_newest_stay(make: Make, dumped: Path) -> None:
    cache = make(max_cache_size=1)
    cache.put("the newest of all", "x")
    assert cache.load(dumped) == 1  # the tenant's
    assert [e.query for e, _ in cache.entries()[0]] == ["the newest of all"]
    cache = make(max_cache_size=1)
    assert cache.load(dumped) == 2
    assert [e.response for e, _ in cache.entries()[0]] == ["fox"]


def test_a_dump_that_fails_leaves_the_file_as_it_was(
    make: Make, dumped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dumped.read_bytes()
    cache = make()
    cache.put("x", "y", vector=np.ones(384))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        cache.dump(dumped)
    assert dumped.read_bytes() == before
    assert list(dumped.parent.iterdir()) == [dumped]


def test_what_is_no_file_is_refused_at_once(make: Make, tmp_path: Path) -> None:
    cache = make()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(StoreError, match="not a regular file"):
            cache.load(path)
        with pytest.raises(StoreError, match=r"cannot be written.*not a regular file"):
            cache.dump(path)
    assert pipe.is_fifo()
    with pytest.raises(StoreError, match="cannot be read"):
        cache.load(tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        cache.dump(tmp_path)
    with pytest.raises(StoreError, match="cannot be read: embedded null byte"):
        cache.load("a\0b")


def test_an_id_or_a_text_that_comes_twice_is_taken_once(make: Make, dumped: Path) -> None:
    first, *lines = dumped.read_text().splitlines()
    one = json.loads(lines[0])
    twice = [{**one, "query": "another text"}, {**one, "entry_id": "e-other"}, {**one, "hits": 5}]
    dumped.write_text("\n".join([first, *lines, *map(json.dumps, twice)]))
    cache = make(max_cache_size=2)
    assert cache.load(dumped) == 3
    for i in range(4):
        cache.put(f"new {i}", "x")
        assert cache.stats().cache_size == len(cache._shelf("").partition.index) == 2
    assert cache.clear() == 2


def test_a_long_file_is_loaded_in_parts_into_any_store(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make(max_cache_size=1000)
    rows = np.random.default_rng(0).standard_normal((600, 384)).astype(np.float32)
    for i in range(600):
        cache.put(f"text {i}", "x", vector=rows[i])
    cache.put("of a tenant", "y", vector=rows[0], tenant="a")
    path = tmp_path / "long.jsonl"
    cache.dump(path)
    monkeypatch.setattr("cacher.semantic.persist.MAX_BATCH", 250)
    for store in ("memory", f"sqlite:{tmp_path / 'entries.sqlite3'}"):
        for size, expected in ((300, 301), (1000, 601)):
            other = make(max_cache_size=size, store=f"{store}{size}" if ":" in store else store)
            assert other.load(path) == expected
            newest, total = other.entries(1000)
            assert total == min(size, 600)
            assert [e.query for e, _ in newest] == [f"text {599 - i}" for i in range(total)]


def test_hits_come_with_their_entries_into_a_store_and_out_of_it(
    make: Make, dumped: Path, tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'entries.sqlite3'}"
    with make(store=store) as cache:
        cache.load(dumped)
        assert [hits for _, hits in cache.entries()[0]] == [0, 1]
    with make(store=store) as cache:
        cache.put("something new", "x")
        assert cache.get(ALIKE) is not None
        assert [hits for _, hits in cache.entries()[0]] == [0, 0, 2]
        again = tmp_path / "again.jsonl"
        cache.dump(again)
        lines = map(json.loads, again.read_text().splitlines()[1:])
        assert [line["hits"] for line in lines] == [2, 0, 0, 0]
