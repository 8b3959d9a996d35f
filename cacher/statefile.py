"""A state on disk: one JSON file, written whole or not at all, read with suspicion.

A state is its tokens, configuration and lineage; KV pages are only a cache and are never written.
Floats are stored so that they come back bit for bit.  Format, version 1 (keys may be missing where
a default is given)::

    version          1
    state_id         the state's id (fresh)
    model_id         name of the model
    model_type       "causal_lm"
    fingerprint      the model's hash (model_id alone is checked)
    text             the text; equal to what token_ids decode to
    config           see StateConfig ({})
    metadata         created_at, last_modified, forked_from, merged_from, tags ({})
    token_ids        list of ids (the text, encoded)
    head_position    0 .. len(token_ids) (0)
    revision         1, 2, ... (1)
    history          [] (kept for servers)
    checkpoints      [] (kept for servers)
    stored_logits    null, or {k, logprobs [T], lse [T], top_ids [T][k], top_logits [T][k]} with
                     null where nothing is known
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cacher.errors import CacherError, FileError, ModelMismatchError, StateFileError
from cacher.identity import Identity
from cacher.state import State

if TYPE_CHECKING:
    from cacher.model import Model

VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
CERTAIN = 1e-3  # a log-probability is at most 0, but for rounding


# ---- writing


def save(state: State, path: str | os.PathLike[str]) -> None:
    """Write a state; see `State.save`."""
    document = to_document(state)
    lines = ",\n".join(f"  {json.dumps(key)}: {value}" for key, value in document.items())
    _write_atomically(os.fsdecode(path), f"{{\n{lines}\n}}\n".encode())


def to_document(state: State) -> dict[str, str]:
    """Return the file's keys with their values as JSON text."""
    metadata = {
        "created_at": _timestamp(state._created),
        "last_modified": _timestamp(state._modified),
        "forked_from": state.forked_from,
        "merged_from": state.merged_from,
        "tags": dict(state.metadata),
    }
    plain: dict[str, object] = {
        "version": VERSION,
        "state_id": state.id,
        "model_id": state.model.name,
        "model_type": "causal_lm",
        "fingerprint": state.model.fingerprint,
        "text": state.text,
        "config": state.config.to_dict(),
        "metadata": metadata,
        "token_ids": state.token_ids,
        "head_position": state.head_position,
        "revision": state.revision,
        "history": [],
        "checkpoints": [],
    }
    document = {key: json.dumps(value, allow_nan=False) for key, value in plain.items()}
    document["stored_logits"] = _scores_json(state)
    return document


def _scores_json(state: State) -> str:
    """Return what the state remembers of its evaluation, as JSON."""
    length, k = len(state), state._store_top_k
    if not length or not k:
        return "null"
    logprobs, ids, logits = state._core.scores(0, length, k)
    lse = state._core.lse(0, length).tolist()
    rows = zip(ids.tolist(), logits.tolist(), lse, strict=True)
    top_ids, top_logits = [], []
    for row_ids, row_logits, known in rows:
        complete = not math.isnan(known) and row_ids[-1] >= 0
        top_ids.append("[" + ",".join(map(str, row_ids)) + "]" if complete else "null")
        top_logits.append("[" + ",".join(map(_float32, row_logits)) + "]" if complete else "null")
    parts = {
        "k": str(k),
        "logprobs": f"[{','.join(map(_float32, logprobs.tolist()))}]",
        "lse": f"[{','.join('null' if math.isnan(x) else repr(x) for x in lse)}]",
        "top_ids": f"[{','.join(top_ids)}]",
        "top_logits": f"[{','.join(top_logits)}]",
    }
    return "{" + ", ".join(f'"{key}": {value}' for key, value in parts.items()) + "}"


def _float32(value: float) -> str:
    """Nine digits name a float32 exactly, also when they are read as a double first."""
    return f"{value:.9g}" if math.isfinite(value) else "null"


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _write_atomically(path: str, data: bytes) -> None:
    """Write to a temporary name beside `path`, sync, rename, and sync the folder."""
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".cacher-{os.urandom(8).hex()}.tmp")
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(errno.EINVAL, "it is there and not a regular file")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except (OSError, ValueError) as error:  # a path with a NUL or half a character is a ValueError
        raise FileError(f"state file {path!r} cannot be written: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# ---- reading


def restore(model: Model, path: str | os.PathLike[str], *, allow_mismatch: bool = False) -> State:
    """Read a state; see `Model.restore`."""
    name = os.fsdecode(path)
    document = _parse(_read(name), name)
    try:
        return _from_document(model, document, allow_mismatch)
    except ModelMismatchError:
        raise
    except (CacherError, TypeError) as error:
        raise StateFileError(f"state file {name!r}: {error}") from error


def _open_at_once(name: str, flags: int) -> int:
    """Open without waiting: for a pipe, a writer might never come."""
    return os.open(name, flags | os.O_NONBLOCK)


def _read(name: str) -> bytes:
    try:
        with open(name, "rb", opener=_open_at_once) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_BYTES + 1) if regular else b""
    except (OSError, ValueError) as error:
        raise FileError(f"state file {name!r} cannot be read: {_reason(error)}") from error
    if not regular:
        raise StateFileError(f"state file {name!r} is not a regular file")
    if len(data) > MAX_BYTES:
        raise StateFileError(f"state file {name!r} is larger than the {MAX_BYTES} bytes allowed")
    return data


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(data.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are ValueErrors
        raise StateFileError(f"state file {name!r} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise StateFileError(f"state file {name!r} holds {type(document).__name__}, not an object")
    return document


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _from_document(model: Model, document: dict[str, Any], allow_mismatch: bool) -> State:
    version = _get(document, "version", int, VERSION)
    if version != VERSION:
        raise StateFileError(f"version is {version}, allowed: {VERSION}")
    model_id = _get(document, "model_id", str)
    fingerprint = _get(document, "fingerprint", str, None)
    ours = model_id == model.name if fingerprint is None else fingerprint == model.fingerprint
    if not ours and not allow_mismatch:
        known = "no fingerprint" if fingerprint is None else f"fingerprint {fingerprint[:64]!r}"
        raise ModelMismatchError(
            f"the state belongs to model {model_id[:200]!r} with {known}, "
            f"not to {model.name!r} with {model.fingerprint!r}"
        )
    metadata = _get(document, "metadata", dict, {})
    state = model.state(
        config=_get(document, "config", dict, {}),
        metadata=_get(metadata, "tags", dict, {}),
        state_id=_get(document, "state_id", str, None),
    )
    _restore_tokens(state, document, ours)
    _restore_lineage(state, document, metadata)
    if ours:
        state._head = _bounded(document, "head_position", 0, len(state), 0)
        _restore_scores(state, document.get("stored_logits"))
    return state


def _restore_tokens(state: State, document: dict[str, Any], ours: bool) -> None:
    text = _get(document, "text", str, None)
    ids = _get(document, "token_ids", list, None) if ours else None
    if ids is None:
        ids = state.model.tokenizer.encode(text) if text else []
    if not all(type(token_id) is int for token_id in ids):
        raise StateFileError("token_ids holds something that is not an integer")
    state._core.append(ids)  # the context_size may be smaller: it was lowered later
    if text is not None and ours and state.model._tokenizer is not None and state.text != text:
        raise StateFileError("text is not what token_ids decode to")


def _restore_lineage(state: State, document: dict[str, Any], metadata: dict[str, Any]) -> None:
    from cacher.lineage import Merged

    state._revision = _bounded(document, "revision", 1, 2**53, 1)
    state._created = _seconds(metadata, "created_at", state._created)
    state._modified = _seconds(metadata, "last_modified", state._created)
    parent = _get(metadata, "forked_from", str, None)
    state._forked_from = None if parent is None else Identity(parent)
    parents = _get(metadata, "merged_from", list, None)
    if parents is not None:
        if not all(isinstance(parent, str) for parent in parents) or len(parents) > 16:
            raise StateFileError("merged_from must be a list of at most 16 state ids")
        state._merged = Merged(tuple(map(Identity, parents)), ())
    for key in ("history", "checkpoints"):
        _get(document, key, list, [])


def _restore_scores(state: State, stored: object) -> None:
    """Check every value, then hand them to the core."""
    from array import array

    if stored is None:
        return
    if not isinstance(stored, dict):
        raise StateFileError("stored_logits must be an object or null")
    length, vocab = len(state), state.model.vocab_size
    k = _bounded(stored, "k", 1, min(1000, vocab), 1)
    logprobs = _row(stored, "logprobs", length)
    if any(x > CERTAIN for x in logprobs):
        raise StateFileError("logprobs holds a probability above 1")
    lse = _row(stored, "lse", length)
    top_ids, top_logits = (_get(stored, key, list) for key in ("top_ids", "top_logits"))
    if len(top_ids) != length or len(top_logits) != length:
        raise StateFileError(f"top_ids and top_logits must have {length} entries")
    ids, logits = array("i"), array("f")
    rows = zip(top_ids, top_logits, lse, strict=True)
    for position, (row_ids, row_logits, total) in enumerate(rows):
        if row_ids is None or row_logits is None:
            ids.extend([-1] * k)
            logits.extend([0.0] * k)
            continue
        if not _numbers(row_ids, k, int) or not all(0 <= i < vocab for i in row_ids):
            raise StateFileError(f"top_ids[{position}] must be {k} token ids below {vocab}")
        if not _numbers(row_logits, k, float) or not all(abs(x) <= 3.4e38 for x in row_logits):
            raise StateFileError(f"top_logits[{position}] must be {k} numbers")
        if any(x - total > CERTAIN for x in row_logits):
            raise StateFileError(f"top_logits[{position}] holds a probability above 1")
        ids.extend(row_ids)
        logits.extend(row_logits)
    state._core.restore_scores(0, array("f", logprobs), k, ids, logits)
    state._core.restore_lse(0, array("d", lse))


# ---- typed reading

_REQUIRED: Any = object()


def _get(document: Mapping[str, Any], key: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = document.get(key, default)
    if value is _REQUIRED:
        raise StateFileError(f"{key} is missing")
    if (value is default or value is None) and default is not _REQUIRED:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise StateFileError(f"{key} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _bounded(document: Mapping[str, Any], key: str, low: int, high: int, default: int) -> int:
    value: int = _get(document, key, int, default)
    if not low <= value <= high:
        raise StateFileError(f"{key} is {value}, allowed: {low} to {high}")
    return value


def _numbers(row: object, n: int, kind: type) -> bool:
    allowed = (int,) if kind is int else (int, float)
    return isinstance(row, list) and len(row) == n and all(type(x) in allowed for x in row)


def _row(document: Mapping[str, Any], key: str, n: int) -> list[float]:
    """Return n numbers, NaN for null."""
    row = [math.nan if x is None else x for x in _get(document, key, list)]
    if not _numbers(row, n, float) or any(abs(x) > 3.4e38 for x in row):
        raise StateFileError(f"{key} must be {n} numbers or nulls")
    return row


def _seconds(metadata: Mapping[str, Any], key: str, default: float) -> float:
    """Read RFC 3339, or the older ``YYYY-MM-DD HH:MM:SS.ffffff``, which is UTC."""
    text = _get(metadata, key, str, None)
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).timestamp()  # which holds no year before 1 or after 9999
    except (ValueError, OverflowError):
        raise StateFileError(f"{key} is {text[:40]!r}, allowed: YYYY-MM-DDTHH:MM:SSZ") from None
