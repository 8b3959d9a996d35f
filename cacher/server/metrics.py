"""Counters for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cacher.facts import EngineStats, ModelStats
from cacher.semantic.monitor import Totals
from cacher.server.fleet import Fleet

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)
TOKEN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
QUERY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: Gauges of what the workers of a server share, where they share a store: no sum.
SIZES = frozenset({"semantic_cache_size"})

Gauges = Callable[[], Iterable[tuple[str, ModelStats, EngineStats | None]]]


class Metrics:
    """What an application counts; each application has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._fleet: Fleet | None = None
        self._requests = Counter(
            "cacher_requests_total", "Requests", ["route", "method", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "cacher_request_seconds", "Time of a request, streams to their end", ["route"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.first_token = Histogram(
            "cacher_first_token_seconds", "Time to the first token of a stream",
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.token = Histogram(
            "cacher_token_seconds", "Time between two tokens of a stream",
            buckets=TOKEN_SECONDS, registry=self.registry,
        )  # fmt: skip

        self._query_seconds = Histogram(
            "semantic_cache_request_seconds", "Time of a query to the semantic cache",
            buckets=QUERY_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._note: Callable[[str, int], None] | None = None

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(route, method if method.isalpha() else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if route.endswith("/query"):
            self._query_seconds.observe(seconds)
        if self._note is not None:
            self._note(route, status)

    def watch(self, models: Gauges) -> None:
        """Show the counters of the models that are loaded when somebody asks."""
        self.registry.register(_Models(models))

    def watch_semantic(
        self, totals: Callable[[], Totals], note: Callable[[str, int], None]
    ) -> None:
        """Show the counters of the semantic cache, and tell it how requests end.

        Args:
            totals: Gives the counters; called in a thread.
            note: Called with the route and the status of every request.
        """
        self.registry.register(_Semantic(totals))
        self._note = note

    def among(self, folder: str, same: frozenset[str] = frozenset()) -> Fleet:
        """Speak for all workers of the server, which meet in a folder.

        Args:
            folder: Where.
            same: Gauges of what they share: the largest is shown, not the sum.
        """
        self._fleet = Fleet(self.registry, folder, same)
        return self._fleet

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format; of several workers the sums."""
        return generate_latest(self._fleet or self.registry)


class _Models(Collector):
    def __init__(self, models: Gauges) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        pages = GaugeMetricFamily("cacher_kv_pages", "KV pages", labels=["model", "kind"])
        kv = GaugeMetricFamily("cacher_kv_bytes", "Bytes of KV entries", labels=["model"])
        tokens = CounterMetricFamily(
            "cacher_tokens", "Tokens computed, or found computed", labels=["model", "how"]
        )
        evicted = CounterMetricFamily("cacher_kv_pages_evicted", "Pages evicted", labels=["model"])
        requests = GaugeMetricFamily(
            "cacher_engine_requests", "Requests in the engine", labels=["model", "kind"]
        )
        prefix = CounterMetricFamily(
            "cacher_prefix", "Prompts looked up among what is computed", labels=["model", "kind"]
        )
        for model_id, stats, engine in self._models():
            if engine is not None:
                requests.add_metric([model_id, "running"], engine.running)
                requests.add_metric([model_id, "waiting"], engine.waiting)
                prefix.add_metric([model_id, "lookups"], engine.prefix_lookups)
                prefix.add_metric([model_id, "hits"], engine.prefix_hits)
            pages.add_metric([model_id, "live"], stats.pages_live)
            pages.add_metric([model_id, "cached"], stats.pages_cached)
            pages.add_metric([model_id, "shared"], stats.pages_shared)
            kv.add_metric([model_id], stats.kv_bytes)
            tokens.add_metric([model_id, "computed"], stats.tokens_computed)
            tokens.add_metric([model_id, "reused"], stats.tokens_reused)
            evicted.add_metric([model_id], stats.pages_evicted)
        yield from (pages, kv, tokens, evicted, requests, prefix)


class _Semantic(Collector):
    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        totals = self._totals()
        for name, words, n in (
            ("hits", "Queries answered by an entry", totals.hits),
            ("misses", "Queries that found no entry", totals.misses),
            ("bypasses", "Queries that were not to look", totals.bypasses),
            ("guarded", "Misses that the guard made of hits", totals.guarded),
            ("evictions", "Entries that made room for others", totals.evictions),
            ("errors", "Requests that failed", totals.errors),
        ):
            yield CounterMetricFamily(f"semantic_cache_{name}", words, value=n)
        yield GaugeMetricFamily("semantic_cache_size", "Entries", value=totals.cache_size)
        yield GaugeMetricFamily(
            "semantic_cache_memory_bytes", "Bytes of vectors and texts", value=totals.memory_bytes
        )
