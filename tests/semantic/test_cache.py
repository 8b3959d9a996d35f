"""The semantic cache in a process: what is found, what makes place, what is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import cacher
from cacher import (
    EncodingError,
    ParameterError,
    SemanticCache,
    StoreError,
    WrongModelTypeError,
)

LEARNING = "What is machine learning?"
ALIKE = "Can you explain machine learning?"
Make = Callable[..., SemanticCache]


def test_a_paraphrase_is_a_hit_and_another_question_is_none(cache: SemanticCache) -> None:
    before = time.time()
    entry = cache.put(LEARNING, "Programs that learn.", source="a book")
    hit = cache.get(ALIKE)
    assert hit is not None
    assert hit.entry == entry
    assert 0.80 <= hit.similarity < 1
    assert before <= entry.timestamp <= time.time()
    assert (entry.response, entry.source, entry.embedder) == (
        "Programs that learn.", "a book", "minilm",
    )  # fmt: skip
    assert cache.get("What is the weather like today?") is None


def test_the_similarity_is_the_cosine_of_the_vectors(cache: SemanticCache) -> None:
    cache.put(LEARNING, "x")
    one, other = cacher.load("minilm").embed([LEARNING, ALIKE]).astype(float)
    hit = cache.get(ALIKE)
    assert hit is not None
    assert hit.similarity == pytest.approx(one @ other, abs=1e-6)
    assert cache.get(ALIKE, similarity_threshold=hit.similarity) == hit
    above = np.nextafter(hit.similarity, 1)
    assert cache.get(ALIKE, similarity_threshold=float(above)) is None


def test_the_same_text_is_a_hit_at_any_threshold_and_is_not_embedded(cache: SemanticCache) -> None:
    cache.put("Ünïcödé 🦊\u0000 text", "fox")
    look = cache.look("Ünïcödé 🦊\u0000 text", similarity_threshold=1.0)
    assert look.hit is not None
    assert look.hit.similarity == 1.0
    assert look.vector is None


def test_a_text_that_reads_the_same_to_the_model_is_a_hit_at_threshold_1(
    cache: SemanticCache,
) -> None:
    cache.put("what is a fox?", "an animal")
    look = cache.look("WHAT IS A FOX?", similarity_threshold=1.0)
    assert look.hit is not None
    assert look.hit.similarity == 1.0


def test_of_several_the_most_similar_is_the_hit(cache: SemanticCache) -> None:
    pairs = [("How do plants make food?", "a"), (LEARNING, "b"), ("What is deep learning?", "c")]
    cache.put_all(pairs)
    rows = cacher.load("minilm").embed([query for query, _ in pairs]).astype(float)
    best = int(np.argmax(rows @ cacher.load("minilm").embed([ALIKE])[0].astype(float)))
    hit = cache.get(ALIKE, similarity_threshold=0.0)
    assert hit is not None
    assert hit.entry.query == pairs[best][0]


def test_of_equal_ones_the_first_stored_is_the_hit(cache: SemanticCache) -> None:
    vector = np.eye(384, dtype=np.float32)[0]
    for query in ("a fox", "a hare", "a bear"):
        cache.put(query, query, vector=vector)
    look = cache.look("a wolf", vector=vector)
    assert look.hit is not None
    assert look.hit.entry.query == "a fox"


def test_the_guard_refuses_opposites_and_says_why(make: Make) -> None:
    guarded, open_ = make(), make(guard=False)
    for cache in (guarded, open_):
        cache.put("How do I turn on dark mode?", "Settings, Display, Dark.")
    look = guarded.look("How do I turn off dark mode?")
    assert look.hit is None
    assert look.guarded
    assert open_.get("How do I turn off dark mode?") is not None


def test_behind_a_guarded_entry_the_next_one_is_found(cache: SemanticCache) -> None:
    cache.put("How do I turn off dark mode?", "off")
    cache.put("How do I turn on dark mode?", "on")
    for query, response in (("How can I turn off dark mode?", "off"),
                            ("How can I turn on dark mode?", "on")):  # fmt: skip
        hit = cache.get(query)
        assert hit is not None
        assert hit.entry.response == response


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does 🦊 mean?", "What does 🐻 mean?"),
        ("什么是狐狸", "什么是熊猫"),
        ("🦊", "🐻🐻"),
        ("Say " + "xy" * 60, "Say " + "zy" * 60),
        ("a-" * 200 + "fox", "a-" * 200 + "bear"),
    ],
    ids=["signs", "script", "number", "long words", "cut"],
)
def test_what_the_model_cannot_read_is_never_taken_for_the_same(
    make: Make, one: str, other: str
) -> None:
    cache = make()
    cache.put(one, "x")
    look = cache.look(other)
    assert look.hit is None
    assert look.guarded
    unguarded = make(guard=False)
    unguarded.put(one, "x")
    look = unguarded.look(other)
    assert look.hit is not None
    assert look.hit.similarity == 1.0


def test_what_neither_text_lets_the_model_read_may_be_the_same(cache: SemanticCache) -> None:
    cache.put("What does the sign 🦊 mean?", "A fox.")
    assert cache.get("what does the sign 🦊 mean") is not None
    assert cache.get("WHAT DOES THE SIGN 🦊 MEAN?") is not None


def test_storing_a_text_again_replaces_its_entry_and_makes_it_the_newest(make: Make) -> None:
    cache = make(max_cache_size=2)
    cache.put("one", "1")
    cache.put("two", "2")
    cache.put("one", "uno")
    listed, total = cache.entries()
    assert [(entry.query, entry.response) for entry, _ in listed] == [("one", "uno"), ("two", "2")]
    assert total == 2
    assert cache.stats().evictions == 0
    cache.put("three", "3")
    assert [entry.query for entry, _ in cache.entries()[0]] == ["three", "one"]
    assert cache.stats().evictions == 1


@pytest.mark.parametrize(("eviction", "gone"), [("fifo", "A fox"), ("lru", "The tax office")])
def test_what_makes_place(make: Make, eviction: str, gone: str) -> None:
    cache = make(max_cache_size=3, eviction=eviction)
    names = ["A fox", "The tax office", "Seven blue plates"]
    for name in names:
        cache.put(name, name)
    assert cache.get("A fox") is not None
    cache.put("Rain in November", "D")
    there = {entry.query for entry, _ in cache.entries()[0]}
    assert there == {*names, "Rain in November"} - {gone}
    assert len(cache._shelf("").partition.index) == 3


def test_what_is_too_old_is_absent_and_goes(make: Make) -> None:
    cache = make(ttl_s=0.3)
    cache.put(LEARNING, "x")
    assert cache.get(ALIKE) is not None
    time.sleep(0.35)
    assert cache.get(LEARNING) is None
    assert cache.get(ALIKE) is None
    assert cache.stats().cache_size == 0
    assert cache.stats().evictions == 0


def test_a_cache_of_size_0_stores_nothing(make: Make) -> None:
    cache = make(max_cache_size=0)
    cache.put(LEARNING, "x")
    assert cache.get(LEARNING) is None
    assert cache.query(LEARNING, str.upper).entry_id is None
    assert cache.stats().cache_size == 0


def test_tenants_never_meet(cache: SemanticCache) -> None:
    cache.put(LEARNING, "of a", tenant="a")
    assert cache.get(LEARNING, tenant="b") is None
    assert cache.get(ALIKE) is None
    assert cache.query(LEARNING, str.upper, tenant="b").response == LEARNING.upper()
    assert cache.clear(tenant="b") == 1
    assert cache.get(ALIKE, tenant="a") is not None
    assert cache.stats(tenant="a").cache_size == 1
    assert cache.stats().cache_size == 0
    (listed,), _ = cache.entries(tenant="a")
    assert not cache.delete(listed.entry.entry_id, tenant="b")
    assert cache.delete(listed.entry.entry_id, tenant="a")
    with pytest.raises(ParameterError, match="tenant"):
        cache.get(LEARNING, tenant="../a")


def test_what_is_counted(cache: SemanticCache) -> None:
    cache.put("How do I turn on dark mode?", "x")
    cache.get("How do I turn on dark mode?")
    cache.get("How do I turn off dark mode?")
    cache.get("What is a fox?")
    cache.query("What is a fox?", str.upper, use_cache=False)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.guarded, stats.bypasses) == (1, 2, 1, 1)
    assert stats.hit_rate == pytest.approx(1 / 3)
    assert stats.memory_bytes > 384 * 4
    ((_, hits),), _ = cache.entries()
    assert hits == 1


def test_entries_come_newest_first_and_in_pages(cache: SemanticCache) -> None:
    cache.put_all([(f"text {i}", str(i)) for i in range(7)])
    listed, total = cache.entries(3, 2)
    assert [entry.response for entry, _ in listed] == ["4", "3", "2"]
    assert total == 7
    assert cache.entries(3, 100) == ([], 7)
    for arguments in ((0, 0), (1001, 0), (1, -1)):
        with pytest.raises(ParameterError):
            cache.entries(*arguments)


def test_bad_arguments_are_named_and_change_nothing(cache: SemanticCache) -> None:
    for query in ("", " \n\t", "x" * 32_769):
        for call in (cache.get, lambda q: cache.put(q, "x"), lambda q: cache.query(q, str)):
            with pytest.raises(ParameterError, match="query"):
                call(query)
    with pytest.raises(EncodingError, match="character 3"):
        cache.put("abc\udc00", "x")
    with pytest.raises(EncodingError, match="response"):
        cache.put("abc", "\ud800")
    with pytest.raises(TypeError, match="response"):
        cache.put("abc", 5)  # type: ignore[arg-type]
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ParameterError, match="similarity_threshold"):
            cache.get("abc", similarity_threshold=threshold)
    with pytest.raises(ParameterError, match="shape"):
        cache.put("abc", "x", vector=np.ones(383))
    with pytest.raises(ParameterError, match="NaN"):
        cache.put("abc", "x", vector=np.full(384, np.nan))
    with pytest.raises(ParameterError, match="shape"):
        cache.put_all([("a", "b"), ("c", "d")], vectors=np.ones((3, 384)))
    assert cache.stats().cache_size == 0
    assert cache.put_all([]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("similarity_threshold", 2), ("max_cache_size", -1), ("max_cache_size", 1_000_001),
     ("eviction", "random"), ("ttl_s", -1), ("store", "file:x"), ("store", "sqlite:")],
)  # fmt: skip
def test_bad_options_are_named(make: Make, name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=name):
        make(**{name: value})


def test_a_model_that_does_not_embed_is_refused() -> None:
    with pytest.raises(WrongModelTypeError, match="tales"):
        SemanticCache("tales").get("Hello?")


def test_an_embedder_of_ones_own() -> None:
    class Letters:
        name = "letters"
        dimension = 26

        def embed(self, texts: list[str]) -> np.ndarray:
            rows = [[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts]
            return np.asarray(rows, np.float32)

    with SemanticCache(Letters(), guard=False) as cache:
        cache.put("listen", "x")
        assert cache.get("silent", similarity_threshold=1.0) is not None
        assert cache.get("banana") is None
        assert cache.stats().current_threshold == 0.85
        assert cache.get("123", similarity_threshold=0.0) is not None  # zeros: similarity 0


def test_many_threads_at_once(make: Make) -> None:
    cache = make(max_cache_size=20)
    rows = np.random.default_rng(1).standard_normal((100, 384)).astype(np.float32)
    stop = threading.Event()

    def write(first: int) -> None:
        for i in range(first, 100, 4):
            cache.put(f"text {i}", str(i), vector=rows[i])

    def look() -> int:
        n = 0
        while not stop.is_set():
            look = cache.look("another", vector=rows[n % 100], similarity_threshold=0.9)
            assert look.hit is None or look.hit.entry.response == str(n % 100)
            assert len(cache._shelf("").partition) <= 20
            n += 1
        return n

    with ThreadPoolExecutor(6) as pool:
        lookers = [pool.submit(look) for _ in range(2)]
        list(pool.map(write, range(4)))
        stop.set()
        assert all(one.result() for one in lookers)
    partition = cache._shelf("").partition
    assert len(partition) == len(partition.index) == 20
    assert cache.stats().evictions == 80


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_cache_that_stores_nothing_takes_nothing_from_others(
    make: Make, tmp_path: Path, kind: str
) -> None:
    store = "memory" if kind == "memory" else f"sqlite:{tmp_path / 'entries.sqlite3'}"
    full, none = make(store=store), make(store=store, max_cache_size=0)
    full.put(LEARNING, "x")
    none.put("What is a fox?", "y")
    assert full.stats().cache_size == 1
    assert none.get("What is a fox?") is None
    assert none.stats().evictions == 0


def test_what_was_used_last_is_known_after_a_restart(make: Make, tmp_path: Path) -> None:
    options = {"store": f"sqlite:{tmp_path / 'e'}", "eviction": "lru", "max_cache_size": 2}
    first = make(**options)
    first.put("A fox", "1")
    assert first.get("A fox") is not None
    first.put("The tax office", "2")
    first.close()
    second = make(**options)
    second.put("Rain in November", "3")
    assert [entry.query for entry, _ in second.entries()[0]] == [
        "Rain in November", "The tax office",
    ]  # fmt: skip


def test_a_search_beside_changes_raises_nothing(make: Make) -> None:
    cache = make(max_cache_size=5, ttl_s=1000.0)
    rows = np.eye(384, dtype=np.float32)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            cache.look("another", vector=rows[383], similarity_threshold=0.9)

    with ThreadPoolExecutor(3) as pool:
        lookers = [pool.submit(look) for _ in range(2)]
        for i in range(2000):
            cache.put(f"text {i % 7}", "x", vector=rows[i % 7])
        stop.set()
        for one in lookers:
            one.result()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_was_closed_is_refused(make: Make, tmp_path: Path, kind: str) -> None:
    store = "memory" if kind == "memory" else f"sqlite:{tmp_path / 'entries.sqlite3'}"
    cache = make(store=store)
    cache.put(LEARNING, "x")
    cache.close()
    cache.close()
    calls: list[Callable[[], object]] = [
        lambda: cache.get(LEARNING), lambda: cache.put(LEARNING, "y"), cache.stats, cache.entries,
        lambda: cache.query(LEARNING, str.upper), lambda: cache.warmup([(LEARNING, "z")]),
        lambda: asyncio.run(cache.aquery(LEARNING, str.upper)), cache.clear,
        lambda: cache.dump(tmp_path / "file"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StoreError, match="the cache is closed"):
            call()


def test_what_is_no_pair_no_vector_and_no_embedder_is_named(cache: SemanticCache) -> None:
    for item in ("ab", {"query": "a", "response": "b"}, ("a", "b", "c"), 5):
        with pytest.raises(TypeError, match="pair"):
            cache.put_all([item])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="pair"):
        cache.warmup([{"query": "a", "response": "b"}])  # type: ignore[list-item]
    for vector in (["a"] * 384, [[1.0], [2.0, 3.0]]):
        with pytest.raises(TypeError, match="array of numbers"):
            cache.put("abc", "x", vector=vector)
    with pytest.raises(ParameterError, match="infinity"):
        cache.put("abc", "x", vector=[1e300] * 384)
    with pytest.raises(EncodingError, match="source"):
        cache.put("abc", "x", source="\ud800")
    with pytest.raises(TypeError, match="embedder"):
        SemanticCache(5)  # type: ignore[arg-type]
    assert cache.stats().cache_size == 0
