"""States: creating, reading, branching."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cacher.errors import WrongModelTypeError
from cacher.schemas.states import (
    ConfigOfState,
    CreateState,
    Diff,
    Difference,
    Edit,
    Fork,
    Merge,
    Page,
    StateDeleted,
    StateList,
    StateObject,
    StateObjects,
    TopQuery,
    TopTokens,
    UpdateConfig,
)
from cacher.server.operations import Call, Operation
from cacher.times import rfc3339, utc

if TYPE_CHECKING:
    from cacher.schemas.config import ConfigChanges

TAG = "State Management"


def sent(config: ConfigChanges | None) -> dict[str, Any] | None:
    """Return a configuration as it was sent; None when there was none."""
    return None if config is None else config.sent()


async def create_state(call: Call, body: CreateState) -> object:
    """Create a state.  Its text is laid on the tape; nothing is computed yet."""
    model = await call.services.model(body.model_id)
    if body.model_type not in ("auto", model.model_type):
        raise WrongModelTypeError(
            f"{model.name!r} is a {model.model_type} model, not {body.model_type}"
        )
    if body.token_analysis:
        model._require("token_analysis")  # before there is a state
    state = await call.services.states.create(
        body.model_id,
        body.text,
        config=sent(body.config),
        metadata=body.metadata,
        state_id=body.state_id,
        tenant=call.visit.tenant,
    )
    answer = state.to_dict()
    if body.token_analysis:
        found = await call.run(state, state.analyze_tokens)
        answer["token_analysis"] = [
            {"token": token.text, "probability": token.probability} for token in found.tokens
        ]
    return answer


async def list_states(call: Call, query: Page) -> object:
    """List states, newest first."""
    found, total = await call.services.states.list_states(
        query.limit, query.offset, tenant=call.visit.tenant
    )
    return {
        "states": [
            {
                "state_id": one.state_id,
                "model_id": one.model_id,
                "model_type": one.model_type,
                "token_count": one.token_count,
                "head_position": one.head_position,
                "created_at": rfc3339(utc(one.created_at)),
                "modified_at": rfc3339(utc(one.modified_at)),
                "forked_from": one.forked_from,
            }
            for one in found
        ],
        "total": total,
        "limit": query.limit,
        "offset": query.offset,
    }


async def get_state(call: Call, state_id: str) -> object:
    """Return a state."""
    return (await call.state(state_id)).to_dict()


async def delete_state(call: Call, state_id: str) -> object:
    """Delete a state.  Its forks live on."""
    await call.services.states.delete(state_id, tenant=call.visit.tenant)
    return {
        "state_id": state_id,
        "message": "State deleted successfully",
        "status": "deleted",
        "metadata": {"message": f"State with ID: {state_id} deleted"},
    }


async def edit_state(call: Call, state_id: str, body: Edit) -> object:
    """Change a state's text, configuration or tags."""
    async with call.writing(state_id) as state:
        await call.run(
            state,
            state.edit,
            text=body.text,
            append_text=body.append_text,
            truncate_to=body.truncate_to,
            config=sent(body.config),
            metadata=body.metadata,
        )
        return state.to_dict()


async def update_config(call: Call, body: UpdateConfig) -> object:
    """Replace keys of a state's configuration."""
    async with call.writing(body.state_id) as state:
        state.edit(config=body.config.sent())
        return {"state_id": body.state_id, "config": state.config.to_dict()}


async def top_tokens(call: Call, state_id: str, query: TopQuery) -> object:
    """Return what the model thinks comes next."""
    state = await call.state(state_id)
    n = min(query.n, state.model.vocab_size)
    found = await call.run(state, state.top_tokens, n)
    return {"state_id": state_id, "tokens": found}


async def fork_state(call: Call, state_id: str, body: Fork) -> object:
    """Fork a state: independent copies that share what is computed."""
    forks = await call.services.states.fork(
        state_id,
        body.n,
        at=body.at,
        config=sent(body.config),
        metadata=body.metadata,
        new_id=body.state_id,
        tenant=call.visit.tenant,
    )
    if body.n == 1:
        return forks[0].to_dict()
    return {"states": [fork.to_dict() for fork in forks]}


async def merge_states(call: Call, body: Merge) -> object:
    """Make one state of several.  They stay as they are."""
    state = await call.services.states.merge(
        body.state_ids,
        strategy=body.strategy,
        separator=body.separator,
        on_conflict=body.on_conflict,
        new_id=body.state_id,
        tenant=call.visit.tenant,
    )
    return {**state.to_dict(), "conflicts": [asdict(found) for found in state.merge_conflicts]}


async def diff_states(call: Call, body: Diff) -> object:
    """Compare two states."""
    from cacher.lineage import diff

    a, b = body.state_ids
    found = diff(await call.state(a), await call.state(b))
    return {
        "state_ids": [a, b],
        "same_model": found.same_model,
        "identical": found.identical,
        "common_prefix_tokens": found.common_prefix_tokens,
        "common_prefix_text": found.common_prefix_text,
        "only_in": dict(zip((a, b), found.only_in, strict=True)),
        "config_changes": found.config_changes,
    }


OPERATIONS = [
    Operation(
        method="POST", path="/states", handler=create_state, tag=TAG, body=CreateState,
        returns=StateObject,
    ),
    Operation(
        method="GET", path="/states", handler=list_states, tag=TAG, query=Page, returns=StateList
    ),
    Operation(
        method="POST", path="/states/config", handler=update_config, tag=TAG, body=UpdateConfig,
        returns=ConfigOfState,
    ),
    Operation(
        method="POST", path="/states/merge", handler=merge_states, tag=TAG, body=Merge,
        returns=StateObject,
    ),
    Operation(
        method="POST", path="/states/diff", handler=diff_states, tag=TAG, body=Diff,
        returns=Difference,
    ),
    Operation(
        method="GET", path="/states/{state_id}", handler=get_state, tag=TAG, returns=StateObject
    ),
    Operation(
        method="DELETE", path="/states/{state_id}", handler=delete_state, tag=TAG,
        returns=StateDeleted,
    ),
    Operation(
        method="PATCH", path="/states/{state_id}", handler=edit_state, tag=TAG, body=Edit,
        returns=StateObject,
    ),
    Operation(
        method="GET", path="/states/{state_id}/top_tokens", handler=top_tokens, tag=TAG,
        query=TopQuery, returns=TopTokens,
    ),
    Operation(
        method="POST", path="/states/{state_id}/fork", handler=fork_state, tag=TAG, body=Fork,
        optional=True, returns=StateObject | StateObjects,
    ),
]  # fmt: skip
