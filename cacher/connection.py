"""What the client stands on: requests and streams over HTTP, and what becomes of their answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any, Final, Self
from urllib.parse import quote

from cacher.checks import number, shown, string
from cacher.errors import CacherError, MissingExtraError, ParameterError

try:
    import httpx
except ImportError:
    raise MissingExtraError(
        "the client needs httpx, which is not installed: pip install 'cacher[client]'"
    ) from None


MAX_TIMEOUT = 1e6  # seconds
_KEY = re.compile(r"[!-~]{1,512}")


class _Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


#: An argument that is not sent.
UNSET: Final[Any] = _Unset()


class CacherAPIError(CacherError):
    """The server refused a request, or could not be reached.

    Attributes:
        message: A sentence.
        status_code: Of the response; None when there was none.
        details: The decoded body, or its text; ``"No response"`` when there was none.

    Example:
        >>> from cacher import CacherAPIError
        >>> CacherAPIError("State not found", 404, {"code": "state_not_found"}).status_code
        404
    """

    def __init__(self, message: str, status_code: int | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.details = details


class StateDict(dict[str, Any]):
    """A state as the server sent it: its fields by key, or as attributes; ``.id`` is its id."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self["state_id" if name == "id" else name]
        except KeyError:
            raise AttributeError(f"the state has no {name!r}") from None


class Connection:
    """Speaks to one server; an asynchronous context manager.

    Args:
        base_url: As of `cacher.CacherClient`, like the rest.
        timeout: Seconds to wait for a connection, and for each part of an answer.
        api_key: Sent with every request.
        api_prefix: ``"/v1"`` for the other dialect.
        transport: How requests travel; None is the network.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        timeout: float | None = 30.0,
        api_key: str | None = None,
        api_prefix: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = checked_address(base_url)
        self.api_prefix = string("api_prefix", api_prefix).rstrip("/")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http = httpx.AsyncClient(**http_options(timeout, api_key), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; again is fine, another request is not."""
        if not self._http.is_closed:
            self._enter()
            await self._http.aclose()

    # ---- requests

    def _enter(self) -> None:
        """Check that the client may be used here.

        Raises:
            RuntimeError: It is closed, or its connections belong to another event loop.
        """
        if self._http.is_closed:
            raise RuntimeError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("the client belongs to another event loop: make one in each")
        self._loop = loop

    def _url(self, path: str) -> str:
        self._enter()
        return f"{self.base_url}{self.api_prefix}{path}"

    async def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return as_object(await self._call("GET", path, params=sent(**query)))

    async def _post(self, path: str, **body: Any) -> dict[str, Any]:
        return as_object(await self._call("POST", path, json=sent(**body)))

    async def _records(
        self, path: str, body: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the records of a stream.

        Raises:
            CacherAPIError: The server refused, or an error ended the stream.
        """
        headers = {"Accept": "application/x-ndjson"}
        try:
            async with self._http.stream(
                "POST", self._url(path), json=body, headers=headers
            ) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                check_status(answer)
                async for line in answer.aiter_lines():
                    record = parsed(line, dict, answer.status_code)
                    problem = record.get("error")
                    if isinstance(problem, dict):
                        raise CacherAPIError(
                            str(problem.get("detail")), answer.status_code, problem
                        )
                    yield record
        except httpx.HTTPError as error:
            raise unreachable(error) from error

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, self._url(path), **options)
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        check_status(answer)
        return answer


def sent(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {name: value for name, value in arguments.items() if value is not UNSET}


def segment(value: str, name: str = "state_id") -> str:
    """Return an id as a part of a path, whatever it holds but nothing."""
    if not string(name, value):
        raise ParameterError(f"{name} is empty")
    part = quote(value, safe="")
    return part if value.strip(".") else part.replace(".", "%2E")  # "..": no step to another path


def decoded(answer: httpx.Response) -> Any:
    """Return JSON as what it says, anything else as bytes."""
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return parsed(answer.text, object, answer.status_code) if is_json else answer.content


def as_object(answer: httpx.Response) -> dict[str, Any]:
    """Return a JSON object."""
    found: dict[str, Any] = parsed(answer.text, dict, answer.status_code)
    return found


def http_options(timeout: float | None, api_key: str | None) -> dict[str, Any]:
    """Return the options of an HTTP client.

    Args:
        timeout: Seconds to wait for a connection, and for each part of an answer; None: any time.
        api_key: Sent with every request.

    Raises:
        ParameterError: One of them is not allowed.
    """
    if timeout is not None:
        timeout = number("timeout", timeout, 0, MAX_TIMEOUT, open_low=True)
    if api_key is not None and not _KEY.fullmatch(string("api_key", api_key)):
        raise ParameterError("api_key is not allowed: 1 to 512 visible ASCII characters")
    headers = {} if api_key is None else {"X-API-Key": api_key}
    return {"timeout": timeout, "follow_redirects": True, "headers": headers}


def blocking_client(timeout: float | None, api_key: str | None) -> httpx.Client:
    """Return an HTTP client whose calls wait; see `http_options`."""
    return httpx.Client(**http_options(timeout, api_key))


def ask(http: httpx.Client, method: str, url: str, **options: Any) -> dict[str, Any]:
    """Return the JSON object that a server answers.

    Raises:
        CacherAPIError: It refused, could not be reached, or answered something else.
    """
    try:
        answer = http.request(method, url, **options)
    except httpx.HTTPError as error:
        raise unreachable(error) from error
    check_status(answer)
    return as_object(answer)


def checked_address(base_url: str) -> str:
    """Return the address of a server, without a slash at its end.

    Raises:
        ParameterError: It is no address.
    """
    try:
        url = httpx.URL(string("base_url", base_url))
        good = url.scheme in ("http", "https") and url.host and (url.port or 0) < 65536
    except httpx.InvalidURL:
        good = False
    if not good:
        raise ParameterError(
            f"base_url is {shown(base_url)}, allowed: http://HOST:PORT, https://HOST and the like"
        )
    return base_url.rstrip("/")


def parsed(text: str, kind: type, status: int) -> Any:
    """Return JSON of that kind.

    Raises:
        CacherAPIError: The text is something else.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, kind) or found is None:
        raise CacherAPIError(f"another answer than expected: {shown(text)}", status, text)
    return found


def check_status(answer: httpx.Response) -> None:
    """Let success pass.

    Raises:
        CacherAPIError: The server refused.
    """
    if answer.status_code < 400:
        return
    try:
        details = answer.json()
    except ValueError:
        details = answer.text
    detail = details.get("detail") if isinstance(details, dict) else details
    raise CacherAPIError(
        f"the server answered {answer.status_code}: {detail}", answer.status_code, details
    )


def unreachable(error: httpx.HTTPError) -> CacherAPIError:
    """Return what is raised where no answer came."""
    reason = "not in time" if isinstance(error, httpx.TimeoutException) else str(error)
    return CacherAPIError(f"no response: {reason or type(error).__name__}", None, "No response")
