"""The client of a semantic cache over HTTP, and its demo: ``python -m cacher.semantic.client``.

It speaks HTTP and imports nothing of the engine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from cacher.checks import number
from cacher.connection import CacherAPIError, ask, blocking_client, checked_address
from cacher.errors import CacherError

__all__ = ["CacherAPIError", "SemanticCacheClient", "main"]

QUESTIONS = (
    "What is machine learning?",
    "Can you explain machine learning?",
    "What is machine learning about?",
    "What is the capital of France?",
    "What's the capital city of France?",
    "How do I bake sourdough bread?",
)
BASE, PARAPHRASE = "How can I learn to cook?", "What is a good way to learn cooking?"
THRESHOLDS = (0.95, 0.85, 0.75, 0.65)
PAUSE_S = 0.5


class SemanticCacheClient:
    """Calls a semantic cache over HTTP; waits for each answer.

    Args:
        base_url: Where the server is.
        timeout: Seconds to wait for a connection, and for each part of an answer; None: any time.
        api_key: Sent with every request.
        raise_errors: Raise what goes wrong; else it is printed, and the answer is empty.

    Raises:
        ParameterError: `base_url` is no address, or another argument is not allowed.
        CacherAPIError: By all methods, with `raise_errors`: the server refused, could not be
            reached, or went away.

    Example:
        >>> from cacher.semantic import SemanticCacheClient
        >>> with SemanticCacheClient("http://127.0.0.1:9") as client:
        ...     answer = client.query("Is anybody there?")
        no response: [Errno 111] Connection refused
        >>> answer
        {}
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        timeout: float | None = 30.0,
        api_key: str | None = None,
        raise_errors: bool = False,
    ) -> None:
        self.base_url = checked_address(base_url)
        self.raise_errors = raise_errors
        self._http = blocking_client(timeout, api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; again is fine, another request is not."""
        self._http.close()

    # ---- one method for each route

    def check_health(self) -> dict[str, Any]:
        """Tell whether the server can answer."""
        try:
            return self._ask("GET", "/health")
        except CacherAPIError as error:
            return self._failed(error, {"status": "error", "error": str(error)})

    def get_cache_stats(self) -> dict[str, Any]:
        """Return the counters of the cache."""
        return self._call("GET", "/cache/stats")

    def query(
        self, query: str, use_cache: bool = True, similarity_threshold: float | None = 0.85
    ) -> dict[str, Any]:
        """Return the remembered answer to a query, or a new one.

        Args:
            query: The text.
            use_cache: False neither looks for a remembered answer nor remembers the new one.
            similarity_threshold: Least similarity of a hit; None: the service's.
        """
        body = {
            "query": query, "use_cache": use_cache, "similarity_threshold": similarity_threshold,
        }  # fmt: skip
        return self._call("POST", "/query", json=body)

    def entries(self, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """List what is remembered, newest first."""
        return self._call("GET", "/cache/entries", params={"limit": limit, "offset": offset})

    def clear(self) -> dict[str, Any]:
        """Forget everything."""
        return self._call("DELETE", "/cache")

    def warmup(
        self, queries: Sequence[str | Mapping[str, str]], overwrite: bool = False
    ) -> dict[str, Any]:
        """Remember queries: texts, or ``{"query": ..., "response": ...}``."""
        items = [item if isinstance(item, str) else dict(item) for item in queries]
        body = {"queries": items, "overwrite": overwrite}
        return self._call("POST", "/cache/warmup", json=body)

    def dump(self) -> dict[str, Any]:
        """Write the server's file now."""
        return self._call("POST", "/cache/dump")

    def load(self) -> dict[str, Any]:
        """Merge the server's file into the cache."""
        return self._call("POST", "/cache/load")

    # ---- demonstrations

    def demonstrate_caching(self, delay: float = PAUSE_S) -> None:
        """Ask six questions, some of which mean the same, and print where the answers come from.

        Args:
            delay: Seconds between two questions.
        """
        print("Statistics before:", self.get_cache_stats())
        for asked, question in enumerate(QUESTIONS):
            if asked:
                time.sleep(delay)
            started = time.perf_counter()
            answer = self.query(question, similarity_threshold=None)
            seconds = time.perf_counter() - started
            print(f"\n{question}")
            _show(answer)
            if answer:
                print(f"  {answer['response']}")
                took = answer["processing_time"]
                print(f"  processing time {took:.4f} s, total request time {seconds:.4f} s")
        print("\nStatistics after:", self.get_cache_stats())

    def test_similarity_thresholds(self) -> None:
        """Ask a question and then a paraphrase of it at lower and lower thresholds.

        A miss stores the paraphrase: from the next threshold on it is found as itself.
        """
        print(f"\n{BASE}")
        _show(self.query(BASE, similarity_threshold=1.0))
        for threshold in THRESHOLDS:
            print(f"{PARAPHRASE}  threshold {threshold}")
            _show(self.query(PARAPHRASE, similarity_threshold=threshold))

    # ---- requests

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            return self._ask(method, path, **options)
        except CacherAPIError as error:
            return self._failed(error, {})

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return ask(self._http, method, f"{self.base_url}{path}", **options)

    def _failed(self, error: CacherAPIError, answer: dict[str, Any]) -> dict[str, Any]:
        if self.raise_errors:
            raise error
        print(error)
        return answer


def _show(answer: Mapping[str, Any]) -> None:
    if not answer:
        return
    if not answer["cache_hit"]:
        print("  MISS" + (f", guarded: {answer['guarded']}" if "guarded" in answer else ""))
        return
    found = answer["cached_data"]
    print(f"  HIT, score {found['similarity_score']:.4f}, remembered: {found['cached_query']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Show a running server; 0 when it was healthy, else 1."""
    parser = argparse.ArgumentParser(prog="python -m cacher.semantic.client", description=__doc__)
    parser.add_argument("--base-url", default="http://localhost:8000", help="a running server")
    parser.add_argument("--delay", type=float, default=PAUSE_S, help="seconds between questions")
    parser.add_argument("--api-key", help="sent with every request")
    arguments = parser.parse_args(argv)
    try:
        number("--delay", arguments.delay, 0, 3600)
        client = SemanticCacheClient(arguments.base_url, api_key=arguments.api_key)
        with client:
            if client.check_health().get("status") != "healthy":
                print("start a server first: python -m cacher.semantic.server", file=sys.stderr)
                return 1
            client.raise_errors = True
            client.demonstrate_caching(arguments.delay)
            client.test_similarity_thresholds()
    except CacherError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("\nThat was the semantic cache.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
