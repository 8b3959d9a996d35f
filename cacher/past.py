"""History and checkpoints of a state as JSON; see `cacher.document` for the keys."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, get_args

from cacher.checks import MAX_INT32, MAX_INT64, JsonObject, shown
from cacher.errors import StateFileError
from cacher.history import (
    MAX_CHECKPOINTS,
    MAX_EVENTS,
    Change,
    Mark,
    Op,
    check_checkpoint_name,
    within_bounds,
)
from cacher.times import rfc3339, utc
from cacher.typed import bounded, get, objects, seconds, token_ids
from cacher.window import check_length

if TYPE_CHECKING:
    from cacher.params import StateConfig
    from cacher.state import State


def history_entries(state: State) -> list[dict[str, object]]:
    """Return the state's events with what undoes them."""
    return [_entry(state, change) for change in state._events()]


def _entry(state: State, change: Change) -> dict[str, object]:
    event = state._event(change)
    entry: dict[str, object] = {
        "revision": event.revision,
        "op": event.op,
        "at": rfc3339(event.at),
        "token_count": event.token_count,
        "head_position": event.head_position,
        "detail": event.detail,
    }
    if change.kept is not None:
        entry["kept"] = change.kept
    if change.removed:
        entry["removed"] = array("i", change.removed).tolist()
    if change.replaced is not None:
        entry["replaced"] = change.replaced.to_dict()
    return entry


def checkpoint_entries(state: State) -> list[dict[str, object]]:
    """Return the state's checkpoints; their tokens as what they add to the state's."""
    entries = []
    for mark in state._marks.values():
        shared = state._core.common_prefix(mark.core)
        entries.append(
            {
                "name": mark.name,
                "revision": mark.revision,
                "token_count": len(mark.core),
                "created_at": rfc3339(utc(mark.at)),
                "head_position": mark.head,
                "config": mark.config.to_dict(),
                "shared": shared,
                "token_ids": mark.core.tokens(shared).tolist(),
            }
        )
    return entries


def restore_past(state: State, document: dict[str, Any]) -> None:
    """Give a state the history and the checkpoints of its document.

    Raises:
        StateFileError, ParameterError, TypeError: A value is not what it should be.
    """
    past: list[Change] = []
    for entry in objects(document, "history", MAX_EVENTS):
        past.append(_change(state, entry, past[-1] if past else None))
    if past:
        if past[-1].revision != state._revision or past[-1].token_count > len(state):
            raise StateFileError("history does not end with the state's revision and tokens")
        state._past = within_bounds(tuple(past))
    marks: dict[str, Mark] = {}
    for entry in objects(document, "checkpoints", MAX_CHECKPOINTS):
        mark = _mark(state, entry)
        if mark.name in marks:
            raise StateFileError(f"there are two checkpoints {shown(mark.name)}")
        marks[mark.name] = mark
    state._marks = marks


def _change(state: State, entry: dict[str, Any], before: Change | None) -> Change:
    revision = bounded(entry, "revision", 1, MAX_INT64)
    if before is not None and revision != before.revision + 1:
        raise StateFileError(f"history goes from revision {before.revision} to {revision}")
    op: Op = get(entry, "op", str)
    if op not in get_args(Op):
        raise StateFileError(f"op is {shown(op)}, allowed: {', '.join(get_args(Op))}")
    token_count = bounded(entry, "token_count", 0, MAX_INT32)
    head = bounded(entry, "head_position", 0, token_count)
    kept, removed, replaced = None, b"", None
    if before is not None and entry.get("kept") is not None:
        kept = bounded(entry, "kept", 0, min(token_count, before.token_count))
        ids = token_ids(entry, "removed", state.model.vocab_size)
        if kept + len(ids) != before.token_count:
            raise StateFileError(
                f"revision {revision} kept {kept} and removed {len(ids)} of "
                f"{before.token_count} tokens"
            )
        removed = array("i", ids).tobytes()
        replaced = _config(state, entry, "replaced")
    detail = JsonObject("detail", get(entry, "detail", dict, {})) or None
    at = seconds(entry, "at")
    return Change(revision, op, at, token_count, head, kept, removed, replaced, detail)


def _mark(state: State, entry: dict[str, Any]) -> Mark:
    name = check_checkpoint_name(get(entry, "name", str))
    core = state._core.fork()
    core.truncate(bounded(entry, "shared", 0, len(core)))
    core.append(token_ids(entry, "token_ids", state.model.vocab_size))
    config = _config(state, entry, "config") or state.model.default_config
    check_length(len(core), config, state.model.n_ctx)
    return Mark(
        name,
        bounded(entry, "revision", 1, MAX_INT64),
        seconds(entry, "created_at"),
        core,
        bounded(entry, "head_position", 0, len(core)),
        config,
    )


def _config(state: State, entry: dict[str, Any], key: str) -> StateConfig | None:
    config = get(entry, key, dict, None)
    return None if config is None else state.model.default_config.updated(config)
