"""Queries that are answered from what was answered before."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from starlette.responses import Response

from cacher.schemas.semantic import (
    AloneHealth,
    CacheStats,
    Cleared,
    Dumped,
    EntriesQuery,
    EntryDeleted,
    EntryList,
    Loaded,
    Query,
    QueryAnswer,
    WarmedUp,
    Warmup,
)
from cacher.semantic.cache import SemanticCache
from cacher.semantic.entry import Answer, Entry, Hit
from cacher.server.encoding import JSON, dumps
from cacher.server.errors import ApiError
from cacher.server.operations import Call, Operation

TAG = "Semantic cache"


async def query(call: Call, body: Query) -> object:
    """Answer a query: with a remembered answer where one fits, else with a new one."""
    answer = await call.services.semantic.query(
        body.query,
        use_cache=body.use_cache,
        similarity_threshold=body.similarity_threshold,
        tenant=call.visit.tenant,
    )
    return _answer(answer)


def _answer(answer: Answer) -> dict[str, Any]:
    found = {
        "query": answer.query,
        "response": answer.response,
        "cache_hit": answer.cache_hit,
        "cached_data": None if answer.hit is None else _cached(answer.hit),
        "embedding_dimension": answer.embedding_dimension,
        "processing_time": answer.processing_time,
        "entry_id": answer.entry_id,
    }
    return found if answer.guarded is None else {**found, "guarded": answer.guarded}


def _cached(hit: Hit) -> dict[str, Any]:
    entry = hit.entry
    return {
        "cached_response": entry.response,
        "similarity_score": hit.similarity,
        "cached_query": entry.query,
        "cache_timestamp": entry.timestamp,
        "entry_id": entry.entry_id,
        "source": entry.source,
        "embedder": entry.embedder,
    }


async def stats(call: Call) -> object:
    """Tell how the cache fares."""
    semantic = call.services.semantic
    found = asdict(await semantic.stats(call.visit.tenant))
    return {
        **found,
        "errors": semantic.monitor.errors,
        "error_rate": semantic.monitor.error_rate,
        "alert": semantic.monitor.alert,
        "uptime": semantic.uptime,
    }


async def entries(call: Call, query: EntriesQuery) -> object:
    """List what is remembered, newest first."""
    listed, total = await call.services.semantic.run(
        SemanticCache.entries, query.limit, query.offset, tenant=call.visit.tenant
    )
    return {"entries": [_entry(one.entry, one.hits) for one in listed], "total": total}


def _entry(entry: Entry, hits: int) -> dict[str, Any]:
    return {
        "entry_id": entry.entry_id,
        "query": entry.query,
        "response": entry.response,
        "timestamp": entry.timestamp,
        "hits": hits,
        "source": entry.source,
        "embedder": entry.embedder,
    }


async def clear(call: Call) -> object:
    """Forget everything."""
    n = await call.services.semantic.run(SemanticCache.clear, tenant=call.visit.tenant)
    return {"cleared": n}


async def delete(call: Call, entry_id: str) -> object:
    """Forget an entry."""
    found = await call.services.semantic.run(
        SemanticCache.delete, entry_id, tenant=call.visit.tenant
    )
    if not found:
        raise ApiError(404, "entry_not_found", f"Entry not found: {entry_id[:256]}")
    return {"deleted": True, "entry_id": entry_id}


async def warmup(call: Call, body: Warmup) -> object:
    """Remember queries before anybody asks; those without an answer get one."""
    items = [
        one if isinstance(one, str) else one.query if one.response is None
        else (one.query, one.response)
        for one in body.queries
    ]  # fmt: skip
    done = await call.services.semantic.warmup(
        items, overwrite=body.overwrite, tenant=call.visit.tenant
    )
    return done._asdict()


async def dump(call: Call) -> object:
    """Write the file that the server's settings name."""
    file = _file(call)
    return {"entries": await call.services.semantic.dump(), "file": file}


async def load(call: Call) -> object:
    """Merge the file back that the server's settings name."""
    _file(call)
    n = await call.services.semantic.load_file()
    size = (await call.services.semantic.stats(call.visit.tenant)).cache_size
    return {"loaded": n, "cache_size": size}


def _file(call: Call) -> str:
    """The file's name; a client never learns its folder."""
    path = call.services.semantic.settings.PERSIST_PATH
    if not path:
        raise ApiError(400, "persistence_disabled", "This server keeps no file of its entries")
    return os.path.basename(path)


async def health(call: Call) -> object:
    """Tell that the service can answer; needs no key."""
    failure = call.services.semantic.failure
    if failure is None:
        return {"status": "healthy", "timestamp": time.time()}
    body = {"status": "unhealthy", "timestamp": time.time(), "detail": str(failure)}
    return Response(dumps(body), 503, media_type=JSON)


OPERATIONS = [
    Operation(
        method="POST", path="/query", handler=query, tag=TAG, body=Query, returns=QueryAnswer
    ),
    Operation(method="GET", path="/cache/stats", handler=stats, tag=TAG, returns=CacheStats),
    Operation(
        method="GET", path="/cache/entries", handler=entries, tag=TAG, query=EntriesQuery,
        returns=EntryList,
    ),
    Operation(
        method="DELETE", path="/cache/entries/{entry_id}", handler=delete, tag=TAG,
        returns=EntryDeleted,
    ),
    Operation(method="DELETE", path="/cache", handler=clear, tag=TAG, returns=Cleared),
    Operation(
        method="POST", path="/cache/warmup", handler=warmup, tag=TAG, body=Warmup,
        returns=WarmedUp,
    ),
    Operation(method="POST", path="/cache/dump", handler=dump, tag=TAG, returns=Dumped),
    Operation(method="POST", path="/cache/load", handler=load, tag=TAG, returns=Loaded),
]  # fmt: skip
#: Of the application that serves nothing else.
HEALTH = Operation(method="GET", path="/health", handler=health, tag=TAG, returns=AloneHealth)
