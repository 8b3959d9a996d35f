"""Exported states as bytes: JSON or binary, plain or gzip.

The JSON form of one state is ``{"format": "cacher-state", "version": 1, "fingerprint", "state",
"token_ids", "history", "checkpoints"}``, of several ``{"format": "cacher-batch", "version": 1,
"states": [...]}``.  The binary form holds the same, little-endian::

    8 bytes  CACHERST
    u16      version, 1
    u16      1: one state, 2: a batch
    u32      number of states
    u32      CRC-32 of all that follows
    each state:  u32 bytes of JSON, u32 number of tokens, the JSON without token_ids, i32 token_ids

Reading trusts nothing: limits hold before and after decompression, and nothing is ever executed.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from cacher.checks import MAX_INT64, integer, shown
from cacher.document import VERSION, describe, to_document
from cacher.errors import CacherError, ImportTooLargeError, StateImportError
from cacher.transfer import MAX_STATES
from cacher.typed import get, objects, parse

if TYPE_CHECKING:
    from cacher.state import State

MAGIC = b"CACHERST"
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 64 * 1024
ONE, BATCH = 1, 2
HEAD = struct.Struct("<8sHHII")
STATE_HEAD = struct.Struct("<II")


class Exported(NamedTuple):
    """What an export holds: the documents of its states, and whether it is a batch."""

    documents: list[dict[str, Any]]
    batch: bool


# ---- writing


def write(documents: list[dict[str, Any]], *, batch: bool, binary: bool, compressed: bool) -> bytes:
    """Return exported documents as bytes."""
    data = _binary(documents, batch) if binary else _json(documents, batch)
    if not compressed:
        return data
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def document(state: State) -> dict[str, Any]:
    """Return the JSON form of one state."""
    flat = to_document(state)
    return {
        "format": "cacher-state",
        "version": VERSION,
        "fingerprint": flat["fingerprint"],
        "state": describe(state),
        **{key: flat[key] for key in ("token_ids", "history", "checkpoints")},
    }


def _json(documents: list[dict[str, Any]], batch: bool) -> bytes:
    whole = {"format": "cacher-batch", "version": VERSION, "states": documents}
    return json.dumps(whole if batch else documents[0], allow_nan=False).encode()


def _binary(documents: list[dict[str, Any]], batch: bool) -> bytes:
    body = bytearray()
    for document in documents:
        ids = _little_endian(array("i", document.pop("token_ids")))
        text = json.dumps(document, allow_nan=False).encode()
        body += STATE_HEAD.pack(len(text), len(ids)) + text + ids.tobytes()
    kind = BATCH if batch else ONE
    return HEAD.pack(MAGIC, VERSION, kind, len(documents), zlib.crc32(body)) + bytes(body)


def _little_endian(ids: array[int]) -> array[int]:
    if sys.byteorder == "big":
        ids.byteswap()
    return ids


# ---- reading


def read(data: bytes | bytearray | memoryview, max_bytes: int) -> Exported:
    """Return the documents of an export, as files hold them; no state is made yet.

    Raises:
        StateImportError: It is none.
        ImportTooLargeError: It is larger than `max_bytes`.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data must be bytes, got {type(data).__name__}")
    max_bytes = integer("max_bytes", max_bytes, 1, MAX_INT64)
    plain = bytes(data) if len(data) <= max_bytes else _too_large(max_bytes)
    if plain.startswith(GZIP_MAGIC):
        plain = _decompressed(plain, max_bytes)
    try:
        return _read_binary(plain) if plain.startswith(MAGIC) else _read_json(plain)
    except StateImportError:
        raise
    except CacherError as error:
        raise StateImportError(f"the state cannot be imported: {error}") from error


def _too_large(max_bytes: int) -> bytes:
    raise ImportTooLargeError(f"the import takes more than the {max_bytes} bytes allowed")


def _decompressed(data: bytes, max_bytes: int) -> bytes:
    """Expand gzip, a piece at a time: what would exceed the limit is never made."""
    unpacker = zlib.decompressobj(wbits=31)
    plain = bytearray()
    rest, piece = data, b"more"
    try:
        while not unpacker.eof and (rest or piece):
            piece = unpacker.decompress(rest, CHUNK_BYTES)
            rest = unpacker.unconsumed_tail
            plain += piece
            if len(plain) > max_bytes:
                _too_large(max_bytes)
    except zlib.error as error:
        raise StateImportError(f"the import is damaged gzip: {error}") from None
    if not unpacker.eof or unpacker.unused_data:
        raise StateImportError("the import is gzip that ends too early or goes on behind its end")
    return bytes(plain)


def _read_json(data: bytes) -> Exported:
    document = parse(data)
    kind = get(document, "format", str, None)
    if kind == "cacher-batch":
        _check_version(document)
        states = objects(document, "states", MAX_STATES)
        if not states:
            raise StateImportError("the import holds no states")
        return Exported([_flat(state) for state in states], batch=True)
    return Exported([_flat(document) if kind is not None else document], batch=False)


def _check_version(document: dict[str, Any]) -> None:
    version = get(document, "version", int)
    if version != VERSION:
        raise StateImportError(f"version is {shown(version)}, allowed: {VERSION}")


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Turn an exported state into the document of a file."""
    if document.get("format") != "cacher-state":
        raise StateImportError(
            f'format is {shown(document.get("format"))}, allowed: "cacher-state", "cacher-batch"'
        )
    _check_version(document)
    state = get(document, "state", dict)
    metadata = {
        **get(state, "metadata", dict, {}),
        "created_at": state.get("created_at"),
        "last_modified": state.get("modified_at"),
        "forked_from": state.get("forked_from"),
        "merged_from": state.get("merged_from"),
    }
    outer = {
        key: document[key]
        for key in ("fingerprint", "token_ids", "history", "checkpoints")
        if key in document
    }
    return {**state, "version": VERSION, "metadata": metadata, "stored_logits": None, **outer}


def _read_binary(data: bytes) -> Exported:
    if len(data) < HEAD.size:
        raise StateImportError(
            f"the import ends after {len(data)} of {HEAD.size} bytes of its head"
        )
    _magic, version, kind, n_states, checksum = HEAD.unpack_from(data)
    if version != VERSION:
        raise StateImportError(f"version is {version}, allowed: {VERSION}")
    if kind not in (ONE, BATCH) or not 1 <= n_states <= (MAX_STATES if kind == BATCH else 1):
        raise StateImportError(f"kind {kind} with {n_states} states is not allowed")
    body = memoryview(data)[HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise StateImportError("the import is damaged: its checksum is another")
    documents = []
    at = 0
    for _ in range(n_states):
        document, at = _read_state(body, at)
        documents.append(document)
    if at != len(body):
        raise StateImportError(f"the import goes on for {len(body) - at} bytes behind its end")
    return Exported(documents, batch=kind == BATCH)


def _read_state(body: memoryview, at: int) -> tuple[dict[str, Any], int]:
    if len(body) - at < STATE_HEAD.size:
        raise StateImportError("the import ends too early")
    n_text, n_ids = STATE_HEAD.unpack_from(body, at)
    at += STATE_HEAD.size
    end = at + n_text + 4 * n_ids
    if end > len(body):
        raise StateImportError("the import ends too early")
    document = parse(bytes(body[at : at + n_text]))
    ids = array("i", bytes(body[at + n_text : end]))
    return {**_flat(document), "token_ids": _little_endian(ids).tolist()}, end
