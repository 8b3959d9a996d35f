"""Promises of every store of samples, against each for real."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cacher.errors import ParameterError
from cacher.pipelines.store import ROW_BYTES, SampleStore
from tests.pipelines.conftest import OpenSamples

KEYS = [hashlib.sha256(bytes([n])).hexdigest() for n in range(200)]
STRANGE = ("", "a", "ä\0" * 20, "\ud800", "F" * 64, " " * 64, "0" * 63, "x" * 5000, KEYS[0].upper())
VALUES: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 2**63, -(2**63), 2**70, 0.0, 1.5, -1e-300, math.inf,
    -math.inf, "", "text", "ä€\0", "\ud800", "\ud83d\ude00", b"", b"\0\xff", [], [1, [2]], (), (1,),
    ((), [()]), {}, {"a": 1}, {"$tuple": [1]}, {"$": 1, "$int": "x"}, {1: "a", None: b"b"},
    {(1, 2): {3}}, set(), {1, "a", (2,)}, [{"a": ({"b": [b"c", {1.5: None}]},)}], "x" * 100_000,
    10**5000,
)  # fmt: skip


def same(one: object, two: object) -> bool:
    """Equal and of the same types, all the way down."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict) and isinstance(two, dict):
        return all(map(same, one, two)) and all(map(same, one.values(), two.values()))
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two and (isinstance(one, int) or repr(one) == repr(two))


def test_samples_come_back_by_index(samples: SampleStore) -> None:
    a, b = KEYS[:2]
    assert samples.add([(a, 0, ["a0", "a1"]), (b, 0, ["b0"])]) == [[0, 1], [0]]
    assert samples.add([(a, 0, ["a2"]), (a, 0, ["a3"]), (b, 1, ["b1"])]) == [[2], [3], [1]]
    assert samples.read([(a, 0, 9), (b, 1, 2), (a, 1, 3), (KEYS[3], 0, 9), (b, 5, 1)]) == [
        {0: "a0", 1: "a1", 2: "a2", 3: "a3"}, {1: "b1"}, {1: "a1", 2: "a2"}, {}, {},
    ]  # fmt: skip
    assert samples.read([]) == []
    assert samples.add([]) == []
    assert samples.add([(a, 0, [])]) == [[]]


def test_many_at_once(samples: SampleStore) -> None:
    for n in (1, 2, 3, 31, 33, 100, 200):
        keys = [f"{n} {key}" for key in KEYS[:n]]
        assert samples.add([(key, 0, [key, n]) for key in keys]) == [[0, 1]] * n
        assert samples.read([(key, 0, 2) for key in keys]) == [{0: key, 1: n} for key in keys]
    assert samples.stats()["samples"] == 2 * (1 + 2 + 3 + 31 + 33 + 100 + 200)
    assert samples.check() == []


def test_new_samples_fill_the_gaps(samples: SampleStore) -> None:
    key = KEYS[0]
    assert samples.add([(key, 3, ["3", "4"])]) == [[3, 4]]
    assert samples.add([(key, 1, ["1"]), (key, 0, ["0", "2", "5"])]) == [[1], [0, 2, 5]]
    assert samples.add([(key, 0, ["6"])]) == [[6]]
    assert samples.samples(key) == list("0123456")
    assert samples.extend(key, ["7", "8"]) == 7
    assert samples.extend(key, []) == 9
    assert samples.count(key) == 9


@pytest.mark.parametrize("key", STRANGE)
def test_any_text_is_a_key(samples: SampleStore, key: str) -> None:
    others = [other for other in STRANGE if other != key]
    samples.add([(other, 0, ["other"]) for other in others])
    assert key not in samples
    samples.add([(key, 0, ["this"])])
    assert samples.samples(key) == ["this"]
    assert sorted(samples) == sorted(STRANGE)
    assert samples.remove([key, key]) == 1
    assert [samples.samples(other) for other in others] == [["other"]] * len(others)


def test_98_values_come_back_as_they_were(samples: SampleStore) -> None:
    samples.add([("values", 0, VALUES)])
    found = samples.samples("values")
    assert len(found) == len(VALUES)
    for one, two in zip(found, VALUES, strict=True):
        assert same(one, two), (one, two)
    samples.add([("nan", 0, [math.nan, [-0.0]])])
    nan, minus = samples.samples("nan")
    assert isinstance(nan, float)
    assert math.isnan(nan)
    assert repr(minus) == "[-0.0]"


def test_98_nobody_shares_a_sample(samples: SampleStore) -> None:
    mine: list[Any] = [1, [2]]
    samples.add([("a", 0, [mine])])
    mine[1].append(3)
    first: Any = samples.samples("a")[0]
    assert first == [1, [2]]
    first[1].append(4)
    assert samples.samples("a") == [[1, [2]]]


class Strange:
    """Nothing that is stored."""


@pytest.mark.parametrize(
    ("sample", "name"),
    [
        (Strange(), "Strange"), ([Strange], "builtins.type"), ({"a": len}, "builtin_function"),
        (bytearray(), "bytearray"), (1j, "complex"), (frozenset(), "frozenset"),
    ],
)  # fmt: skip
def test_99_what_cannot_be_stored_is_named(samples: SampleStore, sample: object, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        samples.add([("a", 0, ["fine"]), ("b", 0, [sample])])
    with pytest.raises(TypeError, match=name):
        samples.set("a", [sample])
    assert len(samples) == 0, "all of them or none"


def test_99_deep_nesting_is_refused(samples: SampleStore) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(TypeError, match="100 deep"):
        samples.extend("a", [deep])
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with pytest.raises(TypeError, match="100 deep"):
        samples.extend("a", [cyclic])


def test_arguments_that_cannot_be(samples: SampleStore) -> None:
    calls: list[Callable[[], object]] = [
        lambda: samples.add([(1, 0, ["a"])]),  # type: ignore[list-item]
        lambda: samples.read([(b"a", 0, 1)]),  # type: ignore[list-item]
        lambda: samples.add([("a", "0", ["a"])]),  # type: ignore[list-item]
        lambda: samples.set("a", "text"),  # type: ignore[arg-type]
        lambda: samples.count(None),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ParameterError, match="-1"):
        samples.add([("a", -1, ["a"])])
    assert len(samples) == 0


def test_a_mapping_of_lists(samples: SampleStore) -> None:
    assert samples.get("a") is None
    assert samples.get("a", 7) == 7
    assert samples.set("a", ["x", "y"])
    assert samples.set("a", ["z"])
    samples["b"] = [1, 2]
    assert (samples["a"], samples.get("b"), len(samples)) == (["z"], [1, 2], 2)
    assert set(samples) == {"a", "b"}
    assert "a" in samples
    assert 1 not in samples  # type: ignore[comparison-overlap]
    assert samples.pop("a") == ["z"]
    assert samples.pop("a", "none") == "none"
    del samples["b"]
    with pytest.raises(KeyError):
        del samples["b"]
    with pytest.raises(KeyError):
        samples["b"]
    assert not samples.delete("b")
    assert samples, "an empty store is one"
    samples.add([(key, 0, ["a"]) for key in KEYS])
    assert samples.clear() == len(KEYS)
    assert samples.stats()["samples"] == samples.stats()["bytes"] == 0
    assert samples.check() == []


def test_96_another_connection_sees_what_was_added(open_samples: OpenSamples) -> None:
    one, two = open_samples(), open_samples()
    for n in range(5):
        assert one.add([("a", 0, [n])]) == [[2 * n]]
        assert two.read([("a", 2 * n, 2 * n + 1)]) == [{2 * n: n}]
        assert two.extend("a", [-n]) == 2 * n + 1
        assert one.samples("a")[-1] == -n


def test_102_a_closed_store_opens_itself_again(samples: SampleStore) -> None:
    samples.extend("a", ["b"])
    samples.close()
    samples.close()
    assert samples.samples("a") == ["b"]
    samples.close()
    assert samples.extend("a", ["c"]) == 1
    with samples as same_one:
        assert same_one is samples
    assert samples.count("a") == 2


def test_threads_share_a_store(samples: SampleStore) -> None:
    wrong: list[object] = []

    def work(name: int) -> None:
        try:
            for n in range(30):
                place = samples.add([("all", 0, [[name, n]]), (str(name), 0, [n])])[0][0]
                if samples.read([("all", place, place + 1)]) != [{place: [name, n]}]:
                    wrong.append(place)
                if n == 15:
                    samples.close()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert samples.count("all") == 120
    assert {tuple(x) for x in samples.samples("all")} == {
        (i, n) for i in range(4) for n in range(30)
    }  # type: ignore[misc]
    assert all(samples.samples(str(n)) == list(range(30)) for n in range(4))


def test_the_least_recently_used_keys_make_place(open_samples: OpenSamples) -> None:
    each = 1000 + ROW_BYTES
    store = open_samples(max_bytes=10 * each)
    for n in range(10):
        store.add([(KEYS[n], 0, ["x" * 1000])])
    store.read([(KEYS[0], 0, 1), (KEYS[3], 0, 1)])
    for n in range(10, 14):
        assert store.add([(KEYS[n], 0, ["x" * 1000])]) == [[0]]
    kept = {n for n, key in enumerate(KEYS) if key in store}
    assert kept == {0, 3, 6, 7, 8, 9, 10, 11, 12, 13}
    assert store.stats()["bytes"] == 10 * each
    assert store.add([(KEYS[1], 4, ["again"])]) == [[4]], "under the index that is asked for"
    many = [(key, 0, ["y" * 1000]) for key in KEYS[100:130]]
    assert store.add(many) == [[0]] * 30
    assert all(store.count(key) for key, _, _ in many), "what was just added stays"
    store.add([(KEYS[99], 0, ["z"])])
    assert store.stats()["bytes"] <= 10 * each
    assert store.count(KEYS[99])
    assert store.check() == []


def test_pruning(open_samples: OpenSamples) -> None:
    store = open_samples()
    for n in range(6):
        store.add([(KEYS[n], 0, ["x" * 1000] * 2)])
    listed = list(store.listed())
    assert [(each.key, each.samples, each.bytes) for each in listed] == [
        (KEYS[n], 2, 2 * (1000 + ROW_BYTES)) for n in range(6)
    ]
    assert store.prune(5 * (1000 + ROW_BYTES)) == KEYS[:4]
    assert set(store) == set(KEYS[4:6])
    assert store.prune(10**9) == []
    assert store.prune(0) == KEYS[4:6]
    store.compact()
    assert store.extend(KEYS[0], ["new"]) == 0
    with pytest.raises(ParameterError, match="-1"):
        store.prune(-1)
    with pytest.raises(ParameterError, match="max_bytes"):
        open_samples(max_bytes=0)
