"""What the client stands on: requests and streams over HTTP, and what becomes of their answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, Final, Self
from urllib.parse import quote

from cacher.errors import CacherError, MissingExtraError

try:
    import httpx
except ImportError:
    raise MissingExtraError(
        "the client needs httpx, which is not installed: pip install 'cacher[client]'"
    ) from None


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
        base_url: Where the server is.
        timeout: Seconds to wait for a connection, and for each part of an answer.
        api_key: Sent with every request.
        api_prefix: ``"/v1"`` for the other dialect.
        transport: How requests travel; None is the network.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        timeout: float = 30.0,
        api_key: str | None = None,
        api_prefix: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.api_prefix = api_prefix.rstrip("/")
        self._http = httpx.AsyncClient(
            timeout=timeout,
            follow_redirects=True,
            headers={} if api_key is None else {"X-API-Key": api_key},
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # ---- requests

    def _url(self, path: str) -> str:
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
                _check(answer)
                async for line in answer.aiter_lines():
                    record = json.loads(line)
                    if "error" in record:
                        problem = record["error"]
                        raise CacherAPIError(problem["detail"], answer.status_code, problem)
                    yield record
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, self._url(path), **options)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        _check(answer)
        return answer


def sent(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {name: value for name, value in arguments.items() if value is not UNSET}


def segment(state_id: str) -> str:
    """Return an id as a part of a path, whatever it holds."""
    return quote(state_id, safe="")


def decoded(answer: httpx.Response) -> Any:
    """Return JSON as what it says, anything else as bytes."""
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.json() if is_json else answer.content


def as_object(answer: httpx.Response) -> dict[str, Any]:
    """Return a JSON object."""
    found: dict[str, Any] = answer.json()
    return found


def _check(answer: httpx.Response) -> None:
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


def _unreachable(error: httpx.HTTPError) -> CacherAPIError:
    return CacherAPIError(f"no response: {error or type(error).__name__}", None, "No response")
