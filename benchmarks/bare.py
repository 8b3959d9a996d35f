"""What any FastAPI application pays: one route of each kind, served as ours are.

``python benchmarks/bare.py PORT``
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

ANSWER = {"state_id": "5b1c0c0e-9f55-4f7e-8f0a-2b1f3c7f9e10", "text": "Once upon a time"}
EVENT = b"data: " + b"x" * 800 + b"\n\n"  # as long as a record of a short story's token

app = FastAPI()


class Body(BaseModel):
    """Some body."""

    model_id: str
    text: str


class Events(BaseModel):
    """How many events to send."""

    n: int


@app.get("/bare/{name}")
async def get(name: str) -> dict[str, Any]:
    return {**ANSWER, "name": name}


@app.post("/bare")
async def post(body: Body) -> dict[str, Any]:
    return {**ANSWER, "model_id": body.model_id}


@app.post("/events")
async def events(body: Events) -> StreamingResponse:
    async def sent() -> AsyncIterator[bytes]:
        for _ in range(body.n):
            await asyncio.sleep(0)  # as tokens come: one at a time
            yield EVENT

    return StreamingResponse(sent(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", access_log=False,
        log_level="warning", server_header=False, timeout_keep_alive=600,
    )  # fmt: skip
