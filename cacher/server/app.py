"""The application: routes, layers of safety, what is shared."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cacher.config import Settings
from cacher.errors import CacherError, DeviceError, ModelError
from cacher.niels_gpt.config import ChatSettings
from cacher.semantic.settings import SemanticSettings
from cacher.server import errors
from cacher.server.errors import Answer
from cacher.server.gate import Gate
from cacher.server.guard import Guard
from cacher.server.journal import Faults, Journal, log
from cacher.server.operations import Operation, add, document
from cacher.server.routes import (
    analysis,
    bookkeeping,
    chat,
    generation,
    models,
    semantic,
    service,
    states,
)
from cacher.server.services import Services

OPERATIONS = (
    *generation.OPERATIONS,
    *bookkeeping.OPERATIONS,  # /states/export before /states/{state_id}
    *states.OPERATIONS,
    *analysis.OPERATIONS,
    *models.OPERATIONS,
    *semantic.OPERATIONS,
    *chat.OPERATIONS,
    *service.OPERATIONS,
)
DESCRIPTION = """Language-model states that live on the server: create one, continue it, branch it,
look inside it, without sending its text again.  Equal requests with equal seeds have equal answers.

Every path is served with and without `/v1`, and with and without a slash at its end."""


class OneSlash:
    """Takes one slash off the end of a path: both spellings are one route, without a redirect."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["path"].endswith("/") and scope["path"] != "/":
            scope["path"] = scope["path"][:-1]
        await self.app(scope, receive, send)


class Start:
    """Says in one sentence why the application cannot start, where that is no fault of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""

        async def saying(message: Message) -> None:
            error = sys.exc_info()[1]  # the router sends this while it handles the error
            if message["type"] == "lifespan.startup.failed" and isinstance(error, CacherError):
                message["message"] = str(error)
            await send(message)

        await self.app(scope, receive, saying if scope["type"] == "lifespan" else send)


def create_app(
    settings: Settings,
    semantic: SemanticSettings | None = None,
    chat: ChatSettings | None = None,
) -> FastAPI:
    """Return the application that serves everything.

    Args:
        settings: What it serves, and to whom.
        semantic: Of the semantic cache; None: the defaults.
        chat: Of the chat API; None: the defaults.

    Raises:
        DeviceError: The settings ask for a device that is not there.
        ParameterError: Settings do not go together.

    Example:
        >>> from cacher.config import Settings
        >>> from cacher.server.app import create_app
        >>> create_app(Settings()).title
        'Cacher API v3'
    """
    services = Services(settings, semantic or SemanticSettings(), chat or ChatSettings())
    return assemble(services, OPERATIONS, DESCRIPTION)


def assemble(services: Services, operations: Iterable[Operation], description: str) -> FastAPI:
    """Return an application.

    Args:
        services: What its requests share.
        operations: What it serves.
        description: For people who read its document.

    Raises:
        DeviceError: The settings ask for a device that is not there.
    """
    settings = services.settings
    if settings.DEVICE != "cpu":
        raise DeviceError(
            f"CACHER_DEVICE is {settings.DEVICE!r}, which is not available: this version computes "
            "on the CPU, allowed: 'cpu'"
        )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await services.open()
        try:
            yield
        finally:
            await services.close()

    app = FastAPI(
        title=settings.API_TITLE,
        version=settings.API_VERSION,
        description=description,
        openapi_url=None,  # the routes of these are ours
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=_layers(settings, services),
        exception_handlers={
            HTTPException: _routing_error,
            RequestValidationError: _schema_error,
            **dict.fromkeys(errors.ANSWERED, _package_error),
        },
        strict_content_type=False,
    )
    app.state.services = services
    app.state.refusals = {}
    for operation in operations:
        add(app, services, operation)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _layers(settings: Settings, services: Services) -> list[Middleware]:
    """Outermost first."""
    journal = Middleware(Journal, metrics=services.metrics, visitors=services.visitors)
    spelling = [] if services.chat_only else [Middleware(OneSlash)]  # the other API has one
    layers = [Middleware(Start), *spelling, journal]
    if settings.ENABLE_CORS:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.ALLOWED_ORIGINS,
                allow_credentials="*" not in settings.ALLOWED_ORIGINS,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["X-Request-ID", "Retry-After"],
            )
        )
    layers += [Middleware(Faults), Middleware(Gate, settings=settings)]
    chat_bytes = services.chat.settings.max_body_bytes
    return [*layers, Middleware(Guard, settings=settings, chat_bytes=chat_bytes)]


async def _package_error(request: Request, error: Exception) -> Response:
    answer = errors.answer(error)
    if answer is None:
        raise error
    if answer.status >= 500 or (isinstance(error, ModelError) and answer.detail != str(error)):
        log.warning("%s: %s", type(error).__name__, error)
    return answer.response(request.scope)


async def _schema_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    make = errors.chat_validation if errors.speaks_chat(request.scope) else errors.validation
    return make(error.errors()).response(request.scope)


async def _routing_error(request: Request, error: Exception) -> Response:
    """What the router says: no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return Answer(404, "route_not_found", "Not Found").response(request.scope)
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        return Answer(
            405, "method_not_allowed", "Method Not Allowed", None, {"Allow": allowed}
        ).response(request.scope)
    if error.status_code == 400:  # FastAPI could not read the body
        return errors.refused("The body is no JSON", kind="json_invalid").answer.response(
            request.scope
        )
    return Answer(error.status_code, "http_error", str(error.detail)).response(request.scope)


def _methods(request: Request) -> set[str]:
    """The methods of the most exact path that matches."""
    path, found = None, set[str]()
    for route in request.app.routes:
        if path is None and route.matches(request.scope)[0] is not Match.NONE:
            path = route.path
        if path is not None and route.path == path:
            found |= route.methods or set()
    return found
