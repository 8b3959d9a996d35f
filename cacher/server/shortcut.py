"""Routes of operations: FastAPI describes them and says what is wrong; what is right goes past it.

FastAPI's way from a request to a function takes longer than most of our functions.  A request that
is plain and right (its body JSON that fits the schema, no query) is read here in a few lines; every
other one goes FastAPI's way, which refuses it, or takes what is unusual.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import Match
from starlette.types import Scope

from cacher.server.guard import JsonRequest, JsonRoute

Arguments = dict[str, Any]
Reader = Callable[[JsonRequest], Awaitable[Arguments | None]]


class OperationRoute(JsonRoute):
    """A route with a short cut."""

    #: Gives the arguments of the endpoint, None where FastAPI is to read them.
    read: Reader | None = None

    @cached_property
    def _ends(self) -> tuple[str, str]:
        return self.path.partition("{")[0], self.path.rpartition("}")[2]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for this route: there are a hundred, and one after another is asked.

        Most differ in how the path begins or ends, which costs less to see than a whole match.
        """
        path, (start, end) = scope["path"], self._ends
        if not (path.startswith(start) and path.endswith(end)) and not scope.get("root_path"):
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return a handler that takes the short cut where it can."""
        long_way = APIRoute.get_route_handler(self)

        async def handle(request: Request) -> Response:
            ours = JsonRequest(request.scope, request.receive)
            arguments = None if self.read is None else await self.read(ours)
            if arguments is None:
                return await long_way(ours)
            response: Response = await self.endpoint(request=ours, **arguments)
            return response

        return handle


def reader(
    body: type[BaseModel] | None, query: type[BaseModel] | None, *, optional: bool
) -> Reader:
    """Return what reads plain requests of an operation.

    Args:
        body: Schema of the body.
        query: Schema of the query.
        optional: Whether the body may be left out.
    """

    async def read(request: JsonRequest) -> Arguments | None:
        arguments: Arguments = dict(request.scope["path_params"])
        if query is not None:
            if request.scope["query_string"]:
                return None
            arguments["query"] = query()
        if body is not None and optional and not await request.body():
            arguments["body"] = None
        elif body is not None:
            try:
                arguments["body"] = body.model_validate(await request.json())
            except ValueError:  # it is no JSON, or does not fit
                return None
        return arguments

    return read
