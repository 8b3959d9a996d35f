"""Who may come in: host names, API keys, rate limits."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time

from limits import parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cacher.config import Settings
from cacher.errors import MissingExtraError
from cacher.server.errors import Answer
from cacher.server.journal import log, visit
from cacher.variables import ApiKey

OPEN_PATHS = frozenset({"/health", "/v1/health"})
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")
STORE_SECONDS = 1.0  # for an answer of the store of rates
STORE_PAUSE_S = 5.0  # after one that did not come: no request waits meanwhile
UNAUTHORIZED = Answer(
    401, "unauthorized", "Invalid or missing API key", None, {"WWW-Authenticate": "Bearer"}
)
INVALID_HOST = Answer(400, "invalid_host", "The Host header names a host that is not served here")


class RateLimiter:
    """Counts requests in moving windows.

    Where the store is a Redis server and does not answer, this process counts for itself until it
    does: a limit that is looser for a while is better than no service, or no limit.

    Args:
        rate: Such as ``600/minute``, several separated by ``;``.
        store: Where they are counted, as of the `limits` library: ``memory://``, ``redis://...``.
    """

    def __init__(self, rate: str, store: str) -> None:
        self._rates = parse_many(rate)
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._shared: MovingWindowRateLimiter | None = None
        self._ask_again = 0.0
        if store.startswith("memory"):
            return
        try:
            storage = storage_from_string(
                f"async+{store}", implementation="redispy", wrap_exceptions=True,
                socket_timeout=STORE_SECONDS, socket_connect_timeout=STORE_SECONDS,
            )  # fmt: skip
        except ConfigurationError:
            raise MissingExtraError(
                "rate limits counted in Redis need its package: pip install 'cacher[redis]'"
            ) from None
        self._shared = MovingWindowRateLimiter(storage)

    async def wait(self, key: str) -> float:
        """Count a request; return 0, or the seconds until the next one is allowed."""
        if self._shared is not None and time.monotonic() >= self._ask_again:
            try:
                return await self._count(self._shared, key)
            except StorageError as error:
                self._ask_again = time.monotonic() + STORE_PAUSE_S
                log.warning(
                    "rate limits: Redis does not answer (%s); this process counts for itself",
                    error.storage_error,
                )
        return await self._count(self._own, key)

    async def _count(self, limiter: MovingWindowRateLimiter, key: str) -> float:
        for rate in self._rates:
            if not await limiter.hit(rate, key):
                reset, _left = await limiter.get_window_stats(rate, key)
                return max(1.0, reset - time.time())
        return 0.0


class Gate:
    """Lets in who is allowed, and notes whose request it is."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.keys = settings.API_KEYS
        self.required = settings.API_KEY_REQUIRED
        self.hosts = settings.ALLOWED_HOSTS
        self.limiter = (
            RateLimiter(settings.RATE_LIMIT, settings.RATE_LIMIT_STORE)
            if settings.RATE_LIMIT
            else None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer who may not come in, pass on the others."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if not self._serves(",".join(headers.getlist("host")) or None):
            return await INVALID_HOST.send(scope, receive, send)
        if scope["path"] not in OPEN_PATHS:
            key = self._key(headers)
            tenant = visit(scope).tenant = "" if key is None else key.tenant
            if self.limiter is not None:
                client = scope.get("client") or ("unknown",)
                who = f"address {client[0]}" if key is None else f"key {tenant} {key.digest.hex()}"
                seconds = await self.limiter.wait(who)
                if seconds:
                    return await _limited(seconds).send(scope, receive, send)
            if key is None and self.required:
                return await UNAUTHORIZED.send(scope, receive, send)
        return await self.app(scope, receive, send)

    def _serves(self, host: str | None) -> bool:
        if host is None:
            return "*" in self.hosts  # HTTP/1.0
        match = HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].lower()
        return any(
            allowed in ("*", name) or (allowed.startswith("*.") and name.endswith(allowed[1:]))
            for allowed in self.hosts
        )

    def _key(self, headers: Headers) -> ApiKey | None:
        given = headers.get("x-api-key")
        if given is None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            given = token.strip() if scheme.lower() == "bearer" else None
        if given is None:
            return None
        digest = hashlib.sha256(given.encode("latin-1")).digest()
        found = None
        for key in self.keys:  # all of them: the time tells nothing
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found


def _limited(seconds: float) -> Answer:
    return Answer(
        429, "rate_limited", "Too many requests", None, {"Retry-After": str(math.ceil(seconds))}
    )
