"""Liveness, health, counters, pages."""

from __future__ import annotations

import asyncio
import time
from importlib import resources
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

from cacher.schemas.service import Health, TestAnswer
from cacher.server.encoding import JSON, dumps
from cacher.server.operations import Call, Operation

TAG = "Service"
HTML = {"text/html": {"schema": {"type": "string"}}}
TEXT = {"text/plain": {"schema": {"type": "string"}}}


async def test(_call: Call) -> object:
    """Tell that the server answers."""
    return {"message": "Test endpoint works!"}


async def health(call: Call) -> object:
    """Tell that the server is alive; needs no key."""
    return {
        "status": "healthy",
        "timestamp": time.time(),
        "ok": True,
        "model_ready": call.services.chat.ready,
    }


async def metrics(call: Call) -> object:
    """Return the counters in Prometheus' text format."""
    text = await asyncio.to_thread(call.services.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4")


async def studio(_call: Call) -> object:
    """Return the page of the server."""
    return page("index.html")


async def docs(_call: Call) -> object:
    """Return the documentation of the routes; it needs no network."""
    return page("docs.html")


async def openapi(call: Call) -> object:
    """Return the OpenAPI document."""
    app: FastAPI = call.request.app
    found = getattr(app.state, "openapi_json", None)
    if found is None:
        found = app.state.openapi_json = await asyncio.to_thread(lambda: dumps(app.openapi()))
    return Response(found, media_type=JSON)


def page(name: str) -> Response:
    """Return a page that comes with the package; it may load nothing from elsewhere."""
    text = resources.files("cacher.server").joinpath("static", name).read_text("utf-8")
    policy = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


OPERATIONS = [
    Operation(
        method="GET",
        path="/openapi.json",
        handler=openapi,
        tag=TAG,
        returns=dict[str, Any],
        versioned=False,
    ),
    Operation(method="GET", path="/test", handler=test, tag=TAG, returns=TestAnswer),
    Operation(method="GET", path="/health", handler=health, tag=TAG, returns=Health),
    Operation(
        method="GET", path="/metrics", handler=metrics, tag=TAG, content=TEXT, versioned=False
    ),
    Operation(method="GET", path="/", handler=studio, tag=TAG, content=HTML, versioned=False),
    Operation(method="GET", path="/docs", handler=docs, tag=TAG, content=HTML, versioned=False),
]
