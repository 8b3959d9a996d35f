"""A caller's own mapping as a store."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diskcache
import pytest

from cacher.errors import StoreError
from cacher.pipelines import MappingStore


class Least:
    """An object with no more than a pipeline needs."""

    def __init__(self) -> None:
        self.kept: dict[str, list[object]] = {}
        self.closed = 0

    def get(self, key: str, default: object) -> object:
        return self.kept.get(key, default)

    def set(self, key: str, value: list[object]) -> None:
        self.kept[key] = value

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(params=["dict", "least", "diskcache"])
def mapping(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "diskcache":
        return diskcache.Cache(tmp_path)
    return {} if request.param == "dict" else Least()


def test_90_any_mapping_keeps_lists(mapping: Any) -> None:
    store = MappingStore(mapping)
    assert store.add([("a", 0, ["0", ("1",)]), ("b", 0, ["b"]), ("a", 7, ["2"])]) == [
        [0, 1], [0], [2],
    ]  # fmt: skip
    assert mapping.get("a", None) == ["0", ("1",), "2"]
    assert store.read([("a", 1, 9), ("b", 0, 1), ("c", 0, 1), ("a", 2, 1)]) == [
        {1: ("1",), 2: "2"}, {0: "b"}, {}, {},
    ]  # fmt: skip
    assert (store.count("a"), store.samples("b")) == (3, ["b"])
    store.close()
    store.close()
    assert store.extend("b", ["more"]) == 1, "it opens itself again"
    assert store.remove(["a", "c"]) == 1
    assert store.samples("a") == []
    store.close()


def test_98_nobody_shares_a_sample(mapping: Any) -> None:
    store, mine = MappingStore(mapping), [[1]]
    store.extend("a", [mine])
    mine[0].append(2)
    first: Any = store.samples("a")[0]
    first[0].append(3)
    assert store.samples("a") == [[[1]]]
    store.close()


def test_a_sample_that_cannot_be_copied_is_given_as_it_is() -> None:
    lock = contextlib.ExitStack().enter_context(memoryview(b"x"))
    store = MappingStore({})
    store.extend("a", [lock])
    assert store.samples("a")[0] is lock


def test_every_change_is_one_transaction() -> None:
    log: list[str] = []

    class Recording(Least):
        @contextlib.contextmanager
        def transact(self) -> Iterator[None]:
            log.append("begin")
            yield
            log.append("end")

        def get(self, key: str, default: object) -> object:
            log.append(f"get {key}")
            return super().get(key, default)

        def set(self, key: str, value: list[object]) -> None:
            log.append(f"set {key}")
            super().set(key, value)

    MappingStore(Recording()).add([("a", 0, ["x"]), ("b", 0, ["y"])])
    assert log == ["begin", "get a", "set a", "get b", "set b", "end"]


def test_two_connections_lose_nothing(tmp_path: Path) -> None:
    one, two = (MappingStore(diskcache.Cache(tmp_path)) for _ in range(2))
    assert [store.extend("a", [n]) for n, store in enumerate((one, two, one, two))] == [0, 1, 2, 3]
    assert one.samples("a") == two.samples("a") == [0, 1, 2, 3]
    one.close()
    two.close()


def test_errors_are_those_of_a_store() -> None:
    class Failing(Least):
        def get(self, *_: object) -> object:
            raise sqlite3.OperationalError("disk full")

    store = MappingStore(Failing())
    with pytest.raises(StoreError, match=r"cannot be read.*disk full"):
        store.samples("a")
    with pytest.raises(StoreError, match=r"cannot be written.*disk full"):
        store.extend("a", ["b"])
    with pytest.raises(StoreError, match="a str under 'a'"):
        MappingStore({"a": "text"}).samples("a")
    assert len(MappingStore({"a": "text", "b": []}).check()) == 1
    with pytest.raises(StoreError, match="pruned"):
        MappingStore({}).prune(1)
    for wrong in (None, 7, "text", [1]):
        with pytest.raises(TypeError, match="no cache"):
            MappingStore(wrong)


def test_what_is_known_of_a_dict() -> None:
    store = MappingStore({"a": [1, 2], "b": []})
    stats = store.stats()
    assert (stats["keys"], stats["samples"]) == (2, 2)
    assert list(store) == ["a", "b"]
    store.compact()
