"""What states remember: history, trees, checkpoints; and how they travel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse, Response

from cacher.schemas.bookkeeping import (
    Checkpoint,
    Checkpoints,
    ExportBatch,
    ExportDocument,
    ExportMany,
    ExportQuery,
    History,
    ImportQuery,
    NewCheckpoint,
    Rollback,
    TreeNode,
    TreeQuery,
)
from cacher.schemas.states import StateObject, StateObjects
from cacher.server.encoding import JSON
from cacher.server.operations import Call, Operation
from cacher.server.routes.service import TEXT
from cacher.server.routes.states import TAG
from cacher.times import rfc3339

if TYPE_CHECKING:
    from cacher import types

BINARY = "application/octet-stream"
GZIP = "application/gzip"


async def history(call: Call, state_id: str) -> object:
    """Return what happened to a state."""
    state = await call.state(state_id)
    return {
        "state_id": state_id,
        "events": [
            {
                "revision": event.revision,
                "op": event.op,
                "at": rfc3339(event.at),
                "token_count": event.token_count,
                "head_position": event.head_position,
                "detail": event.detail,
            }
            for event in state.history
        ],
    }


async def tree(call: Call, state_id: str, query: TreeQuery) -> object:
    """Return the branches of a state's family."""
    found = await call.services.states.tree(state_id, tenant=call.visit.tenant)
    if query.format == "json":
        return found.to_dict()
    text = found.to_text() if query.format == "text" else found.to_mermaid()
    return PlainTextResponse(text)


async def create_checkpoint(call: Call, state_id: str, body: NewCheckpoint) -> object:
    """Remember a state as it is now, under a name."""
    async with call.writing(state_id) as state:
        return {"state_id": state_id, **_checkpoint(state.checkpoint(body.name))}


async def list_checkpoints(call: Call, state_id: str) -> object:
    """List the checkpoints of a state."""
    state = await call.state(state_id)
    return {"state_id": state_id, "checkpoints": [_checkpoint(c) for c in state.checkpoints]}


def _checkpoint(found: types.Checkpoint) -> dict[str, Any]:
    return {
        "name": found.name,
        "revision": found.revision,
        "token_count": found.token_count,
        "created_at": rfc3339(found.created_at),
    }


async def rollback(call: Call, state_id: str, body: Rollback) -> object:
    """Go back to a checkpoint or a revision; that is a new revision."""
    async with call.writing(state_id) as state:
        if body.checkpoint is not None:
            state.rollback(checkpoint=body.checkpoint)
        else:
            state.rollback(revision=body.revision)
        return state.to_dict()


async def export_state(call: Call, state_id: str, query: ExportQuery) -> object:
    """Export a state; other servers with the same model can import it."""
    data = await call.services.states.export_states(
        state_id, format=query.format, compress=query.compress, tenant=call.visit.tenant
    )
    plain = JSON if query.format == "json" else BINARY
    return Response(data, media_type=GZIP if query.compress == "gzip" else plain)


async def export_states(call: Call, body: ExportMany) -> object:
    """Export several states together."""
    data = await call.services.states.export_states(body.state_ids, tenant=call.visit.tenant)
    return Response(data, media_type=JSON)


async def import_states(call: Call, query: ImportQuery) -> object:
    """Import what was exported, in any of its forms."""
    states, several = await call.services.states.import_states(
        await call.request.body(),
        on_conflict=query.on_conflict,
        max_bytes=call.settings.MAX_IMPORT_BYTES,
        tenant=call.visit.tenant,
    )
    if several:
        return {"states": [state.to_dict() for state in states]}
    return states[0].to_dict()


EXPORTS: dict[str, Any] = {
    kind: {"schema": {"type": "string", "contentMediaType": kind}} for kind in (BINARY, GZIP)
}
OPERATIONS = [
    Operation(
        method="POST", path="/states/export", handler=export_states, tag=TAG, body=ExportMany,
        returns=ExportBatch,
    ),
    Operation(
        method="POST", path="/states/import", handler=import_states, tag=TAG, query=ImportQuery,
        returns=StateObject | StateObjects,
        request_content={JSON: {"schema": {"type": "object"}}, **EXPORTS},
    ),
    Operation(
        method="GET", path="/states/{state_id}/history", handler=history, tag=TAG, returns=History
    ),
    Operation(
        method="GET", path="/states/{state_id}/tree", handler=tree, tag=TAG, query=TreeQuery,
        returns=TreeNode, content=TEXT,
    ),
    Operation(
        method="GET", path="/states/{state_id}/checkpoints", handler=list_checkpoints, tag=TAG,
        returns=Checkpoints,
    ),
    Operation(
        method="POST", path="/states/{state_id}/checkpoints", handler=create_checkpoint, tag=TAG,
        body=NewCheckpoint, returns=Checkpoint,
    ),
    Operation(
        method="POST", path="/states/{state_id}/rollback", handler=rollback, tag=TAG,
        body=Rollback, returns=StateObject,
    ),
    Operation(
        method="GET", path="/states/{state_id}/export", handler=export_state, tag=TAG,
        query=ExportQuery, returns=ExportDocument, content=EXPORTS,
    ),
]  # fmt: skip
