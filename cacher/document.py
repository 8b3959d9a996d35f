"""A state as a JSON document: what files, stores and exports hold.  Read with suspicion.

A state is its tokens, configuration and lineage; KV pages are only a cache and are never written.
Floats are stored so that they come back bit for bit.  Format, version 1 (keys may be missing where
a default is given)::

    version          1
    state_id         the state's id (fresh)
    model_id         name of the model
    model_type       of the model: "causal_lm", "sequence_classification" or "encoder"
    fingerprint      the model's hash (model_id alone is checked)
    dtype, kv_dtype  as the model was loaded; the fingerprint tells them apart, these name them
                     (null)
    text             the text; equal to what token_ids decode to
    config           see StateConfig ({})
    metadata         created_at, last_modified, forked_from, merged_from, tags ({}); text and config
                     as first given (null, {})
    token_ids        list of ids (the text, encoded)
    head_position    0 .. len(token_ids) (0)
    revision         1, 2, ... (1)
    history          events: revision, op, at, token_count, head_position, detail; and what undoes
                     them: kept, removed ([]), replaced (null) ([])
    checkpoints      name, revision, created_at, head_position, config; their tokens are the first
                     `shared` of the state's, then token_ids ([])
    stored_logits    null, or {k, logprobs f32 [T], lse f64 [T], top_ids i32 [T][k], top_logits
                     f32 [T][k]}, where store_logits is "top_k"; see `cacher.scores`
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cacher.errors import ModelMismatchError, StateFileError
from cacher.identity import Identity
from cacher.past import checkpoint_entries, history_entries, restore_past
from cacher.scores import restore_scores, scores_of
from cacher.times import rfc3339
from cacher.typed import bounded, get, seconds
from cacher.window import check_length

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State

VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
JSON = json.JSONEncoder(allow_nan=False)
MAX_PARENTS = 16


# ---- writing


def to_document(state: State) -> dict[str, Any]:
    """Return the document's keys, but for the stored logits."""
    metadata = {
        "created_at": rfc3339(state.created_at),
        "last_modified": rfc3339(state.modified_at),
        "forked_from": state.forked_from,
        "merged_from": state.merged_from,
        "text": state.initial_text,
        "config": state.initial_config,
        "tags": dict(state.metadata),
    }
    return {
        "version": VERSION,
        "state_id": state.id,
        "model_id": state.model.name,
        "model_type": state.model.model_type,
        "fingerprint": state.model.fingerprint,
        **state.model.formats,
        "text": state.text,
        "config": state.config.to_dict(),
        "metadata": metadata,
        "token_ids": state.token_ids,
        "head_position": state.head_position,
        "revision": state.revision,
        "history": history_entries(state),
        "checkpoints": checkpoint_entries(state),
    }


def describe(state: State) -> dict[str, Any]:
    """Return what is shown of a state: plain JSON; see `State.to_dict`."""
    created, modified = rfc3339(state.created_at), rfc3339(state.modified_at)
    return {
        "state_id": state.id,
        "model_id": state.model.name,
        "model_type": state.model.model_type,
        "text": state.text,
        "head_position": state.head_position,
        "token_count": len(state),
        "config": state.config.to_dict(),
        "created_at": created,
        "modified_at": modified,
        "revision": state.revision,
        "forked_from": state.forked_from,
        "merged_from": state.merged_from,
        "metadata": {
            "state_id": state.id,
            "model_id": state.model.name,
            "text": state.initial_text,
            "config": state.initial_config,
            "created_at": created,
            "last_modified": modified,
            "forked_from": state.forked_from,
            "tags": dict(state.metadata),
        },
    }


def encode(state: State) -> bytes:
    """Return the whole document, a key on a line.

    Stored logits can be computed again: where they would make it larger than what is read, they
    are left out.

    Raises:
        StateFileError: It would be larger than 64 MiB all the same.
    """
    plain = to_document(state).items()
    lines = [f'  "{key}": {JSON.encode(value)}' for key, value in plain]
    for scores in (scores_of(state), None):
        last = f'  "stored_logits": {JSON.encode(scores)}'
        data = ("{\n" + ",\n".join([*lines, last]) + "\n}\n").encode()
        if len(data) <= MAX_BYTES:
            return data
    raise StateFileError(f"state {state.id} takes {len(data)} bytes as JSON, allowed: {MAX_BYTES}")


# ---- reading


def from_document(
    model: Model,
    document: dict[str, Any],
    *,
    allow_mismatch: bool = False,
    cache_salt: str | None = None,
) -> State:
    """Return the state that a document holds.

    Raises:
        StateFileError, ParameterError, TypeError: A value is not what it should be.
        ModelMismatchError: It belongs to another model.
    """
    version = get(document, "version", int, VERSION)
    if version != VERSION:
        raise StateFileError(f"version is {version}, allowed: {VERSION}")
    ours = _is_ours(model, document)
    if not ours and not allow_mismatch:
        fingerprint = document.get("fingerprint")
        known = "no fingerprint" if fingerprint is None else f"fingerprint {fingerprint[:64]!r}"
        theirs = {name: get(document, name, str, None) for name in model.formats}
        raise ModelMismatchError(
            f"the state belongs to model {document['model_id'][:200]!r} with {known}"
            f"{_formats(theirs)}, not to {model.name!r} with {model.fingerprint!r}"
            f"{_formats(model.formats)}"
        )
    metadata = get(document, "metadata", dict, {})
    state = model.state(
        config=get(document, "config", dict, {}),
        metadata=get(metadata, "tags", dict, {}),
        state_id=get(document, "state_id", str, None),
        cache_salt=cache_salt,
    )
    _restore_tokens(state, document, ours)
    _restore_lineage(state, document, metadata)
    if ours:
        state._head = bounded(document, "head_position", 0, len(state), 0)
        restore_past(state, document)
        restore_scores(state, document.get("stored_logits"))
    _restore_beginning(state, document, metadata)
    return state


def _formats(dtypes: dict[str, str | None]) -> str:
    known = [f"{name} {value[:8]!r}" for name, value in dtypes.items() if value is not None]
    return f" ({', '.join(known)})" if known else ""


def _is_ours(model: Model, document: dict[str, Any]) -> bool:
    model_id = get(document, "model_id", str)
    fingerprint = get(document, "fingerprint", str, None)
    if fingerprint is None:
        return bool(model_id == model.name)
    return bool(fingerprint == model.fingerprint)


def _restore_tokens(state: State, document: dict[str, Any], ours: bool) -> None:
    text = get(document, "text", str, None)
    ids = get(document, "token_ids", list, None) if ours else None
    if ids is None:
        ids = state.model.tokenizer.encode(text) if text else []
    if not all(type(token_id) is int for token_id in ids):
        raise StateFileError("token_ids holds something that is not an integer")
    state._core.append(ids)  # the context_size may be smaller: it was lowered later
    check_length(len(state), state.config, state.model.n_ctx)
    if text is not None and ours and state.model._tokenizer is not None and state.text != text:
        raise StateFileError("text is not what token_ids decode to")


def _restore_lineage(state: State, document: dict[str, Any], metadata: dict[str, Any]) -> None:
    from cacher.lineage import Merged

    state._revision = bounded(document, "revision", 1, 2**53, 1)
    state._created = seconds(metadata, "created_at", state._created)
    state._modified = seconds(metadata, "last_modified", state._created)
    parent = get(metadata, "forked_from", str, None)
    state._forked_from = None if parent is None else Identity(parent)
    parents = get(metadata, "merged_from", list, None)
    if parents is not None:
        if not all(isinstance(parent, str) for parent in parents) or len(parents) > MAX_PARENTS:
            raise StateFileError("merged_from must be a list of at most 16 state ids")
        state._merged = Merged(tuple(map(Identity, parents)), ())


def _restore_beginning(state: State, document: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Restore what the state was made from; an old file says nothing but what it holds."""
    state._begun()
    text = get(metadata, "text", str, None)
    config = get(metadata, "config", dict, None)
    if "history" not in document and "text" not in metadata and "config" not in metadata:
        text, config = get(document, "text", str, None), get(document, "config", dict, None)
    state.model.default_config.updated(config)  # as suspicious as any other
    state._given = (text, config or {})
