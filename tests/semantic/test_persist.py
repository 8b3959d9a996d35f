"""A cache in a file."""

from __future__ import annotations

import base64
import json
import logging
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
