"""A Redis server and what can go wrong with it, for the stores that keep things there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cacher.errors import MissingExtraError, StoreError

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RedisServer:
    """A server's connections, shared by threads.

    Attributes:
        client: Every call waits at most `TIMEOUT_S`, a few times where the connection broke.
    """

    def __init__(self, url: str, what: str) -> None:
        """Connect to a server.

        Args:
            url: ``redis://host:port/database``, or ``rediss://``, ``unix://``.
            what: Is kept there, in the plural, for messages.

        Raises:
            MissingExtraError: The client is not installed.
            StoreError: The server cannot be reached.
        """
        try:
            import redis
        except ImportError:
            raise MissingExtraError(
                f"{what} in Redis need its client: pip install 'cacher[redis]'"
            ) from None
        self._what = what
        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError, ValueError)
        with self.trouble("opened"):
            self.client: redis.Redis = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
            self.client.ping()
        self._warn_of_what_is_not_durable()

    def _warn_of_what_is_not_durable(self) -> None:
        with contextlib.suppress(*self._errors):  # a managed server may not tell
            told: dict[str, str] = self.client.config_get("append*")
            if (told.get("appendonly"), told.get("appendfsync")) != ("yes", "always"):
                log.warning(
                    "Redis does not put every write on disk (appendonly %s, appendfsync %s): the "
                    "last %s can be lost with the machine",
                    told.get("appendonly"), told.get("appendfsync"), self._what,
                )  # fmt: skip

    @contextlib.contextmanager
    def trouble(self, verb: str) -> Iterator[None]:
        """Turn what the client raises into a StoreError."""
        try:
            yield
        except self._errors as error:
            raise StoreError(f"the {self._what} in Redis cannot be {verb}: {error}") from error


def milliseconds(seconds: float) -> int:
    """Return a time as Redis takes it, at least the shortest there is."""
    return max(1, round(seconds * 1000))
