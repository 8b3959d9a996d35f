"""The table of operations, and how an entry of it becomes a route.

An operation is written once, under its shortest path.  It is served at every spelling: with and
without ``/v1``, and under ``/analyze`` as under ``/analysis``.  What differs between the two
dialects is asked of `Call.prefixed`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from annotated_types import Le
from fastapi import Body, FastAPI, Path, Query, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, create_model
from starlette.responses import Response

from cacher.config import Settings
from cacher.engine import LONG_TEXT
from cacher.schemas.base import ErrorBody, ValidationErrorBody
from cacher.schemas.config import MAX_SEED
from cacher.server.encoding import JSON, json_response
from cacher.server.journal import CLIENT_LEFT, Visit, visit
from cacher.server.presence import Attended, ClientLeft, until_ended
from cacher.server.services import Services
from cacher.server.shortcut import OperationRoute, Reader, reader
from cacher.server.streaming import Records, RecordStream, form_of

if TYPE_CHECKING:
    from cacher.engine import Engine, EngineStream
    from cacher.model import Model
    from cacher.state import State

P = ParamSpec("P")
T = TypeVar("T")

_BUILDING = threading.Lock()  # of the document: it takes a second, and is built once

PREFIX = "/v1"
WORDS = ("/analysis", "/analyze")
BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
PATH_PARAMETERS = {
    "state_id": "Id of the state.",
    "model_id": "Id of the model; it may contain slashes.",
    "entry_id": "Id of the entry of the semantic cache.",
}
STATUS_TEXTS = {
    400: "The request is well formed and cannot be carried out.",
    401: "An API key is required, and missing or wrong.",
    404: "There is no such thing.",
    413: "The body is too large.",
    415: "The body is compressed.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "A fault of the server.",
    503: "Busy, or the request took too long; it may be tried again.",
}

Handler = Callable[..., Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing the server can do.

    Attributes:
        method: GET, POST, PATCH or DELETE.
        path: The unprefixed one, ``/analysis`` for the word that has two.
        handler: Called with a `Call`, the parameters of the path by name, and ``body`` and
            ``query`` where the operation has them.  Its docstring is the documentation.
        tag: Its group in the documentation.
        body: Schema of the body.
        optional: Whether the body may be left out.
        query: Schema of the query.
        returns: Schema of the answer.
        content: What else it answers, by media type, for the documentation.
        request_content: What it reads where that is no JSON of a schema.
        versioned: Whether it is served under ``/v1``, too.
        read: Makes what reads its requests; None: the strict way.
        refusal: Schema of its errors.
        problems: Schema of the answer to a request that breaks its schema.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    body: type[BaseModel] | None = None
    optional: bool = False
    query: type[BaseModel] | None = None
    returns: Any = None
    content: Mapping[str, Any] = field(default_factory=dict)
    request_content: Mapping[str, Any] = field(default_factory=dict)
    versioned: bool = True
    read: Callable[[type[BaseModel]], Reader] | None = None
    refusal: type[BaseModel] = ErrorBody
    problems: type[BaseModel] = ValidationErrorBody

    def paths(self) -> Iterator[str]:
        """Yield every spelling."""
        spellings = [self.path]
        if self.path.startswith(WORDS[0] + "/"):
            spellings.append(WORDS[1] + self.path.removeprefix(WORDS[0]))
        for prefix in ("", PREFIX) if self.versioned else ("",):
            for path in spellings:
                yield prefix + path


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler knows of its request besides the arguments.

    Attributes:
        services: Everything that requests share.
        request: The request itself.
        visit: Its id and tenant.
        prefixed: Whether it came to a ``/v1`` path: dialect V.
    """

    services: Services
    request: Request
    visit: Visit
    prefixed: bool

    @property
    def settings(self) -> Settings:
        """The server's settings."""
        return self.services.settings

    async def state(self, state_id: str) -> State:
        """Return a copy of a state, to look at."""
        return await self.services.states.get(state_id, tenant=self.visit.tenant)

    def writing(self, state_id: str) -> AbstractAsyncContextManager[State]:
        """Have a state alone, to change it; the change is stored when the block is left."""
        return self.services.states.change(state_id, tenant=self.visit.tenant)

    @asynccontextmanager
    async def making(
        self,
        model: Model,
        config: Mapping[str, object] | None,
        text: str | None,
        *,
        streams: bool,
    ) -> AsyncIterator[State]:
        """Have a new state; it is stored when the block is left, but for errors.

        A client that leaves a stream knows the state's id and has seen its tokens: that is stored,
        too.
        """
        salt = self.visit.tenant or None
        make = partial(model.state, text, config=config, cache_salt=salt)
        long = len(text or "") > LONG_TEXT
        state = await self.services.engine(model).run(make) if long else make()
        try:
            yield state
        except (asyncio.CancelledError, GeneratorExit):
            if streams:
                await self.services.states.add(state, tenant=self.visit.tenant)
            raise
        await self.services.states.add(state, tenant=self.visit.tenant)

    def engine(self, state: State) -> Engine:
        """Return the engine of a state's model."""
        return self.services.engine(state.model)

    async def run(
        self, state: State, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of a state off the event loop, to its end or until nobody waits for it."""
        return await until_ended(self.engine(state), state, function, *args, **kwargs)

    def cancellable(self, stream: EngineStream) -> AbstractContextManager[None]:
        """Let `Services.cancel` find a run while the block lasts."""
        return self.services.running(self.visit.tenant, self.visit.request_id, stream)

    def stream(self, records: Records) -> Response:
        """Return a response that streams, in the format that the client accepts."""
        return RecordStream(
            records,
            form_of(self.request.headers.get("accept", "")),
            together=self.settings.STREAM_CHUNK_SIZE,
            idle_s=self.settings.IDLE_TIMEOUT,
            timeout_s=self.settings.REQUEST_TIMEOUT,
            metrics=self.services.metrics,
        )


def add(app: FastAPI, services: Services, operation: Operation) -> None:
    """Serve an operation at all its paths."""
    app.state.refusals |= dict.fromkeys((operation.refusal, operation.problems))
    schema = operation.body
    if schema is not None:
        schema = bounded(schema, services.settings.MAX_TOKENS_PER_REQUEST)
    endpoint = _endpoint(services, operation, schema)
    summary, _, description = inspect.cleandoc(operation.handler.__doc__ or "").partition("\n")
    for path in operation.paths():
        slug = re.sub(r"\W+", "_", f"{operation.method.lower()}{path}").strip("_")
        app.router.add_api_route(
            path,
            endpoint,
            methods=[operation.method],
            response_model=operation.returns,
            responses=_responses(operation),
            summary=summary.rstrip("."),
            description=description.strip() or summary,
            tags=[operation.tag],
            operation_id=slug,
            openapi_extra=_request_content(operation),
            route_class_override=OperationRoute,
        )
        route = app.router.routes[-1]
        assert isinstance(route, OperationRoute)
        if operation.read is not None and schema is not None:
            route.read = operation.read(schema)
        else:
            route.read = reader(schema, operation.query, optional=operation.optional)


def _endpoint(services: Services, operation: Operation, schema: type[BaseModel] | None) -> Handler:
    timeout = services.settings.REQUEST_TIMEOUT

    async def endpoint(request: Request, **arguments: Any) -> Response:
        if operation.optional and arguments["body"] is None:
            assert operation.body is not None
            arguments["body"] = operation.body()
        prefixed = request.scope["path"].startswith(PREFIX + "/")
        call = Call(services, request, visit(request.scope), prefixed)
        await request.body()  # what comes after it is the news that the client has left
        try:
            async with Attended(request.receive), asyncio.timeout(timeout):
                result = await operation.handler(call, **arguments)
        except ClientLeft:
            return Response(status_code=CLIENT_LEFT)
        return result if isinstance(result, Response) else await json_response(result)

    endpoint.__signature__ = _signature(operation, schema)  # type: ignore[attr-defined]
    return endpoint


def _signature(operation: Operation, schema: type[BaseModel] | None) -> inspect.Signature:
    """What FastAPI reads: the parameters of the path, the query, the body."""
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("request", kind, annotation=Request)]
    for name in re.findall(r"{(\w+)", operation.path):
        described = Annotated[str, Path(description=PATH_PARAMETERS[name])]
        parameters.append(inspect.Parameter(name, kind, annotation=described))
    if operation.query is not None:
        query = Annotated[operation.query, Query()]  # type: ignore[name-defined]
        parameters.append(inspect.Parameter("query", kind, annotation=query))
    if schema is not None:
        accepted: Any = schema | None if operation.optional else schema
        default = None if operation.optional else inspect.Parameter.empty
        body = Annotated[accepted, Body()]
        parameters.append(inspect.Parameter("body", kind, annotation=body, default=default))
    return inspect.Signature(parameters)


def bounded(schema: type[BaseModel], limit: int) -> type[BaseModel]:
    """Return a schema whose numbers of new tokens go to `limit`.

    Example:
        >>> from cacher.schemas.generation import GenerateToken
        >>> bounded(GenerateToken, 7).model_json_schema()["properties"]["max_tokens"]["anyOf"][0]
        {'maximum': 7, 'minimum': 1, 'type': 'integer'}
    """
    names = getattr(schema, "limited", ())
    if not names:
        return schema
    fields: dict[str, Any] = {}
    for name in names:
        info = copy(schema.model_fields[name])
        info.metadata = [*info.metadata, Le(limit)]
        fields[name] = (info.annotation, info)
    return create_model(schema.__name__, __base__=schema, __doc__=schema.__doc__, **fields)


def _responses(operation: Operation) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {
        status: _refusal(text, operation.refusal) for status, text in STATUS_TEXTS.items()
    }
    found[422] = _refusal("The request breaks its schema.", operation.problems)
    if operation.content:
        found[200] = {"content": dict(operation.content)}
    return found


def _refusal(text: str, schema: type[BaseModel]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    return {"description": text, "content": {JSON: {"schema": reference}}}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, the schemas of errors included."""
    with _BUILDING:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    template = "#/components/schemas/{model}"
    schemas = found["components"]["schemas"]
    for schema in app.state.refusals:
        described = schema.model_json_schema(ref_template=template)
        schemas |= described.pop("$defs", {})
        schemas[schema.__name__] = described
    _exact_bounds(schemas)
    return found


def _exact_bounds(found: Any) -> None:
    """Write bounds that FastAPI's models have made floats of as the integers they are."""
    for key, value in list(found.items() if isinstance(found, dict) else enumerate(found)):
        if key in BOUNDS and isinstance(value, float) and value.is_integer():
            found[key] = min(int(value), MAX_SEED)
        elif isinstance(value, (dict, list)):
            _exact_bounds(value)


def _request_content(operation: Operation) -> dict[str, Any] | None:
    if not operation.request_content:
        return None
    return {"requestBody": {"required": True, "content": dict(operation.request_content)}}
