"""The index against numpy in float64, through every way of adding, removing and asking."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cacher
from cacher import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = ["f32", "bf16", "int8"]
KINDS = ["tame", "near", "equal", "zero", "tiny", "huge", "spike", "opposite", "small integers"]


def draw(kinds: list[str], dimension: int, seed: int) -> NDArray[np.float32]:
    """Return a row of each kind; `near`, `equal` and `opposite` are of the first row."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((len(kinds), dimension)).astype(np.float32)
    first = rows[0].copy()
    for row, kind in zip(rows, kinds, strict=True):
        if kind == "near":
            row[:] = first * (1 + 1e-6 * row)
        elif kind == "equal":
            row[:] = first
        elif kind == "zero":
            row[:] = 0
        elif kind == "tiny":
            row *= 1e-43
        elif kind == "huge":
            row[:] = row / np.abs(row).max() * np.float32(3e38)
        elif kind == "spike":
            row *= 1e-3
            row[dimension // 2] = 1000
        elif kind == "opposite":
            row[:] = -first
        elif kind == "small integers":
            row[:] = np.round(row)
    return rows


def cosines(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    wide, q = rows.astype(np.float64), query.astype(np.float64)
    norms = np.sqrt(np.square(wide).sum(axis=1) * np.square(q).sum())
    return np.divide(wide @ q, norms, out=np.zeros(len(rows)), where=norms > 0)


def check(index: cacher.Index, queries: NDArray[np.float32], k: int, threshold: float) -> None:
    """What is found is what numpy finds among the rows as they are held.

    A score is within rounding of numpy's (that of the int8 rows as well, which are read back in
    float32); so the k-th best scores are, too, whatever the order of near ties. Equal scores are in
    the order of storage.
    """
    keys = index.keys().tolist()
    place = {key: i for i, key in enumerate(keys)}
    held = np.array([index.vector(key) for key in keys]).reshape(len(keys), index.dimension)
    tolerance = 1e-6 if index.dtype == "int8" else 1e-13
    together = index.search_all(queries, k, threshold=threshold)
    for i, query in enumerate(queries):
        found = index.search(query, k, threshold=threshold)
        assert found == together[i]
        want = cosines(held, query)
        for match in found:
            assert abs(match.score - want[place[match.key]]) <= tolerance
            assert threshold <= match.score <= 1
        ranks = [(-match.score, place[match.key]) for match in found]
        assert ranks == sorted(set(ranks))
        best = np.sort(want)[::-1]
        sure = int((best >= threshold + tolerance).sum())
        possible = int((best >= threshold - tolerance).sum())
        assert min(k, sure) <= len(found) <= min(k, possible)
        scores = np.array([match.score for match in found])
        assert np.abs(scores - best[: len(found)]).max(initial=0) <= tolerance


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.integers(1, 70),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=80),
    st.integers(0, 2**32 - 1),
    st.integers(1, 100),
    st.sampled_from([-1.0, -0.3, 0.0, 0.5, 1.0]),
    st.data(),
)
def test_what_is_found_is_exact(
    dtype: cacher.index.Dtype,
    dimension: int,
    kinds: list[str],
    seed: int,
    k: int,
    threshold: float,
    data: st.DataObject,
) -> None:
    rows = draw(["tame", *kinds], dimension, seed)
    index = cacher.Index(dimension, dtype=dtype)
    cut = data.draw(st.integers(0, len(rows)))
    index.add(rows[:cut])
    index.add(rows[cut:])
    gone = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True))
    assert index.remove(gone) == len(gone)
    assert len(index) == len(rows) - len(gone)
    queries = np.concatenate([rows[:2], draw(["tame", "zero", "spike"], dimension, seed + 1)])
    check(index, queries, k, threshold)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["f32", "bf16"]),
    st.integers(1, 130),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 3, 40]),
    st.floats(0.0, 1.0),
)
def test_signs_rule_out_nothing_that_is_looked_for(
    dtype: cacher.index.Dtype, dimension: int, kinds: list[str], seed: int, k: int, threshold: float
) -> None:
    """One query is sifted by signs, a block is not; scores that are met are thresholds."""
    rows = draw((["tame", *kinds] * 1500)[:1500], dimension, seed)
    index = cacher.Index(dimension, dtype=dtype, threads=1)
    index.add(rows)
    others = draw(["tame", "zero", "spike", "small integers"], dimension, 1)
    queries = np.concatenate([rows[:4], others])
    for query in queries:
        scores = [match.score for match in index.search(query, 40) if match.score > 0]
        for least in (threshold, *scores[:1], *scores[5:6], *scores[-1:]):
            for bar in (least, min(1.0, float(np.nextafter(least, 2)))):
                together = index.search_all([query, query], k, threshold=bar)
                assert index.search(query, k, threshold=bar) == together[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_thousands_of_near_ties_are_exact(dtype: cacher.index.Dtype) -> None:
    rows = draw(["tame", *["near", "near", "equal", "tame"] * 1500], 64, 3)
    index = cacher.Index(64, dtype=dtype)
    index.add(rows)
    check(index, rows[:4], 10, -1.0)
    check(index, rows[:2], 2500, 0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_finds_itself_with_a_score_of_exactly_one(dtype: cacher.index.Dtype) -> None:
    rows = draw(["tame"] * 300 + ["tiny", "huge", "spike"], 48, 5)
    index = cacher.Index(48, dtype=dtype)
    index.add(rows)
    for key in (0, 17, 299, 301, 302, *([300] if dtype != "bf16" else [])):  # nothing is left
        match = index.search(index.vector(key))[0]
        assert match.key == key
        assert match.score == 1.0 if dtype != "int8" else match.score > 1 - 1e-12


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_instruction_sets_and_threads_give_the_same_bits(isa: str, dtype: str) -> None:
    rows = draw(KINDS * 300, 100, 11)
    try:
        other = _core.Index(100, dtype, 3, isa)
    except cacher.ParameterError:
        pytest.skip(f"{isa}: not on this CPU")
    own = _core.Index(100, dtype, 1)
    for index in (own, other):
        index.add(rows)
    for threshold in (-1.0, 0.2):
        want = [bytes(part) for part in own.search_all(rows[:40], 20, threshold)]
        assert [bytes(part) for part in other.search_all(rows[:40], 20, threshold)] == want


def test_keys_are_given_or_counted() -> None:
    index = cacher.Index(2)
    assert index.add([1, 2]).tolist() == [0]
    assert index.add([[1, 2], [3, 4]], keys=(9, 4)).tolist() == [9, 4]
    assert index.add(np.eye(2), keys=np.array([20, 21], np.uint8)).tolist() == [20, 21]
    assert index.remove(21) == 1
    assert index.remove([21, 20, 20]) == 1
    assert index.add([[5, 6]]).tolist() == [22]
    assert index.keys().tolist() == [0, 9, 4, 22]
    assert 9 in index
    assert 20 not in index
    assert not any(thing in index for thing in (True, "9", 9.0, None, -1, 2**70))
    with pytest.raises(KeyError, match="20"):
        index.vector(20)
    assert repr(index) == "<Index 4 x 2 f32>"


def test_what_cannot_be_added_is_named_and_changes_nothing() -> None:
    index = cacher.Index(3, threads=1)
    index.add([[1, 0, 0]], keys=[5])
    for bad in (np.nan, np.inf, -np.inf, 1e39):
        with pytest.raises(cacher.ParameterError, match="number 2 of row 1 is"):
            index.add([[1, 2, 3], [4, 5, bad]])
        with pytest.raises(cacher.ParameterError, match="number 0 of query 0 is"):
            index.search([bad, 0, 0])
    with pytest.raises(cacher.ParameterError, match="4 numbers, the index is of dimension 3"):
        index.add(np.zeros((2, 4)))
    with pytest.raises(cacher.ParameterError, match="2 numbers"):
        index.search([1, 2])
    with pytest.raises(cacher.ParameterError, match="1 keys were given for 2 vectors"):
        index.add(np.zeros((2, 3)), keys=[1])
    with pytest.raises(cacher.ParameterError, match="key 5 is in use"):
        index.add(np.zeros((2, 3)), keys=[6, 5])
    with pytest.raises(cacher.ParameterError, match="key -1 is negative"):
        index.add(np.zeros((1, 3)), keys=[-1])
    with pytest.raises(cacher.ParameterError, match="18446744073709551615"):
        index.add(np.zeros((1, 3)), keys=np.array([2**64 - 1], np.uint64))
    for keys in ([1.5], ["a"], [[1]], [2**70]):
        with pytest.raises(TypeError, match="keys must be integers"):
            index.add(np.zeros((1, 3)), keys=keys)  # type: ignore[arg-type]
    for vectors in ("text", [[1, 2, 3], [4]], [[[1, 2, 3]]], [None, 1, 2j]):
        with pytest.raises(TypeError):
            index.add(vectors)  # type: ignore[arg-type]
    assert index.keys().tolist() == [5]
    assert index.add(np.empty((0, 3))).tolist() == []


def test_arguments_are_checked() -> None:
    for dimension in (0, -1, 65537):
        with pytest.raises(cacher.ParameterError, match=f"dimension is {dimension}"):
            cacher.Index(dimension)
    with pytest.raises(TypeError, match="dimension must be an integer"):
        cacher.Index(3.5)  # type: ignore[arg-type]
    with pytest.raises(cacher.ParameterError, match="f64"):
        cacher.Index(3, dtype="f64")  # type: ignore[arg-type]
    with pytest.raises(cacher.ParameterError, match="threads is 0"):
        cacher.Index(3, threads=0)
    index = cacher.Index(3)
    with pytest.raises(cacher.ParameterError, match="k is 0"):
        index.search([1, 2, 3], 0)
    with pytest.raises(cacher.ParameterError, match=r"threshold is 1\.5"):
        index.search([1, 2, 3], threshold=1.5)
    with pytest.raises(cacher.ParameterError, match="threshold is nan"):
        index.search_all([[1, 2, 3]], threshold=float("nan"))
    with pytest.raises(TypeError, match="2 dimensions"):
        index.search_all([1, 2, 3])
    assert index.search([1, 2, 3], 2**63 - 1) == []
    assert len(index.search_all(np.zeros((3, 3)), 5)) == 3


def test_a_transposed_or_wider_array_is_taken_by_its_values() -> None:
    index = cacher.Index(2)
    index.add(np.array([[1.0, 0.5], [2.0, 4.0]]).T)
    assert index.vector(1).tolist() == [0.5, 4.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_saved_index_is_the_same_index(dtype: cacher.index.Dtype, tmp_path: Path) -> None:
    rows = draw(KINDS * 200, 33, 7)
    index = cacher.Index(33, dtype=dtype)
    index.add(rows)
    index.remove(range(100, 300))
    path = tmp_path / "index"
    index.save(path)
    mapped = cacher.Index.open(path, threads=2)
    assert (mapped.dimension, mapped.dtype, len(mapped)) == (33, dtype, len(index))
    assert mapped.mapped_bytes > len(mapped) * 33
    signs = 0 if dtype == "int8" else 5 + 8  # a bit of each number, and two numbers
    assert mapped.memory_bytes < len(mapped) * (10 + signs)
    for one in (index, mapped):
        one.remove(range(0, 1000, 3))
        assert one.add(rows[:3]).tolist() == [1800, 1801, 1802]
    assert mapped.keys().tolist() == index.keys().tolist()
    for query in rows[:9]:
        assert mapped.search(query, 30) == index.search(query, 30)
    mapped.save(path)  # over its own file
    check(cacher.Index.open(path), rows[:3], 20, 0.0)
    check(mapped, rows[:3], 20, 0.0)


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "index"
    index = cacher.Index(3)
    index.add(np.eye(3))
    index.save(path)
    good = path.read_bytes()
    for at in range(0, len(good), 11):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(cacher.IndexFileError, match=str(path)):
            cacher.Index.open(path)
        path.write_bytes(good[:at])
        with pytest.raises(cacher.IndexFileError, match=str(path)):
            cacher.Index.open(path)
    path.write_bytes(good[:8] + b"\x02" + good[9:])
    with pytest.raises(cacher.IndexFileError, match="version 2, allowed: 1"):
        cacher.Index.open(path)
    with pytest.raises(cacher.FileError, match="No such file"):
        cacher.Index.open(tmp_path / "none")
    with pytest.raises(cacher.FileError, match="No such file"):
        index.save(tmp_path / "no" / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["index"]


def test_ctrl_c_ends_a_search_of_many() -> None:
    rows = draw(["tame"] * 2000, 768, 2)
    index = cacher.Index(768)
    for _ in range(10):
        index.add(rows)
    queries = np.tile(rows, (10, 1))
    interrupt = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        index.search_all(queries)
    interrupt.join()
    assert index.search(rows[7])[0].key == 7


def test_searches_run_beside_changes() -> None:
    index = cacher.Index(16, threads=2)
    rows = draw(["tame"] * 3000, 16, 1)
    index.add(rows[:1000])
    stop = threading.Event()
    faults: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                scores = [match.score for match in index.search(rows[0], 50)]
                assert scores == sorted(scores, reverse=True)
                assert len(scores) == 50
                assert scores[0] == 1.0
        except BaseException as fault:  # told to the main thread
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for first in range(1000, 3000, 10):
        keys = index.add(rows[first : first + 10])
        assert index.remove(keys - 900) == 10
    stop.set()
    for reader in readers:
        reader.join()
    assert not faults
    assert len(index) == 1000


def test_a_forked_child_is_told_so() -> None:
    index = cacher.Index(4)
    index.add([[1, 2, 3, 4]])
    child = os.fork()
    if child == 0:
        try:
            index.search([1, 2, 3, 4])
        except cacher.VectorIndexError as error:
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert index.search([1, 2, 3, 4])[0].score == 1.0


def test_memory_is_given_back() -> None:
    before = _core.live_bytes()
    index = cacher.Index(384, dtype="int8")
    index.add(np.ones((2000, 384)))
    assert 2000 * 384 < index.memory_bytes < 2000 * (384 + 66)
    index.remove(index.keys())
    assert index.memory_bytes < 100_000
    del index
    assert _core.live_bytes() == before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_a_million_rows_of_384_take_less_than_450_million_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    before = resident_bytes()
    index = cacher.Index(384, dtype="int8")
    for _ in range(100):
        index.add(rng.standard_normal((10_000, 384), dtype=np.float32))
    assert len(index) == 1_000_000
    assert index.memory_bytes <= 450_000_000
    assert resident_bytes() - before <= 500_000_000  # numpy's rows, and what was freed, included
    query = rng.standard_normal(384, dtype=np.float32)
    found = index.search(query, 10)
    index.save(tmp_path / "index")
    del index
    mapped = cacher.Index.open(tmp_path / "index")
    assert mapped.memory_bytes <= 10_000_000
    assert mapped.search(query, 10) == found
