from __future__ import annotations

import contextlib
import gzip
import json
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cacher
from cacher import ImportTooLargeError, Model, State, StateImportError, wire

FORMS = [(f, c) for f in ("json", "binary") for c in ("none", "gzip")]


@pytest.fixture
def grown(story: State) -> State:
    story.generate(3, seed=2)
    story.checkpoint("a")
    story.edit(text="Once upon a time", config={"temperature": 0.4, "mood": "sad"}).forward()
    story.edit(metadata={"of": ["mine"]}).append(" and")
    return story


@pytest.mark.parametrize(("form", "compress"), FORMS)
def test_everything_arrives(model: Model, grown: State, form: Any, compress: Any) -> None:
    data = cacher.export_states(grown, format=form, compress=compress)
    assert data.startswith(b"\x1f\x8b" if compress == "gzip" else b"{" if form == "json" else
                           b"CACHERST")  # fmt: skip
    (again,) = cacher.import_states(data, model)
    for name in ("id", "text", "token_ids", "head_position", "config", "metadata", "checkpoints",
                 "forked_from", "created_at", "initial_text", "initial_config"):  # fmt: skip
        assert getattr(again, name) == getattr(grown, name), name
    assert again.history[:-1] == grown.history
    assert (again.history[-1].op, again.revision) == ("import", grown.revision + 1)
    assert again.generate(9) == grown.generate(9)
    for state in (again, grown):
        state.rollback(checkpoint="a")
    assert again.token_ids == grown.token_ids


@pytest.mark.parametrize(("form", "compress"), FORMS)
def test_batches_keep_their_order(model: Model, form: Any, compress: Any) -> None:
    states = [model.state(f"The {word}") for word in ("fox", "hare", "owl")]
    data = cacher.export_states(states, format=form, compress=compress)
    assert wire.read(data, 10**6).batch
    asked: list[str] = []

    def find(model_id: str) -> Model:
        asked.append(model_id)
        return model

    again = cacher.import_states(data, find)
    assert [state.id for state in again] == [state.id for state in states]
    assert asked == ["tales"] * 3
    assert wire.read(cacher.export_states(states[:1], format=form), 10**6).batch
    assert not wire.read(cacher.export_states(states[0], format=form), 10**6).batch


def test_the_documented_shape(grown: State) -> None:
    document = json.loads(cacher.export_states(grown))
    assert (document["format"], document["version"]) == ("cacher-state", 1)
    assert document["state"] == grown.to_dict()
    assert document["token_ids"] == grown.token_ids
    assert len(document["history"]) == grown.revision
    assert [c["name"] for c in document["checkpoints"]] == ["a"]
    batch = json.loads(cacher.export_states([grown]))
    assert batch == {"format": "cacher-batch", "version": 1, "states": [document]}


def test_a_state_file_is_taken_too(model: Model, grown: State, tmp_path: Path) -> None:
    grown.save(tmp_path / "s.json")
    (again,) = cacher.import_states((tmp_path / "s.json").read_bytes(), model)
    assert again.token_ids == grown.token_ids
    old = {"model_id": "tales", "text": "Hello", "config": {}, "metadata": {}}
    assert cacher.import_states(json.dumps(old).encode(), model)[0].text == "Hello"


def test_limits_hold_before_and_after_decompression(model: Model) -> None:
    data = cacher.export_states(model.state("Hello"))
    for form in (data, gzip.compress(data)):
        cacher.import_states(form, model, max_bytes=len(data))
        with pytest.raises(ImportTooLargeError, match=r"100 bytes"):
            cacher.import_states(form, model, max_bytes=100)
    with pytest.raises(ImportTooLargeError):
        cacher.import_states(gzip.compress(data), model, max_bytes=len(data) - 1)


def test_a_bomb_never_expands_past_the_limit(model: Model) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(300)) + packer.flush()
    assert len(bomb) < 2**20
    tracemalloc.start()
    with pytest.raises(ImportTooLargeError):
        cacher.import_states(bomb, model, max_bytes=2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_garbage_is_refused(model: Model, grown: State) -> None:
    good = cacher.export_states(grown, format="binary")
    packed = gzip.compress(good)
    for data in (
        b"", b"x", b"[]", b"null", b"{}", b"\xff", b"\x1f\x8b", b"\x1f\x8b" + b"x" * 50,
        b"CACHERST",
        b'{"format": "other"}', b'{"format": 5}', b'{"format": "cacher-state"}',
        b'{"format": "cacher-state", "version": 2, "state": {}}',
        b'{"format": "cacher-batch", "version": 1, "states": []}',
        b'{"format": "cacher-batch", "version": 1, "states": [{"model_id": "tales"}]}',
        b'{"format": "cacher-batch", "version": 1, "states": 5}',
        b'{"format": "cacher-state", "version": 1, "state": []}', b"[" * 100_000,
        good + b"x", good[:-1], packed[:-1], packed + b"x", packed + packed, gzip.compress(packed),
        good[:8] + struct.pack("<H", 2) + good[10:], good[:10] + b"\x03" + good[11:],
        good[:12] + b"\x02" + good[13:], b"PK\x03\x04",
    ):  # fmt: skip
        with pytest.raises(StateImportError):
            cacher.import_states(data, model)
    for wild in (None, "text", 5, [b"x"]):
        with pytest.raises(TypeError):
            cacher.import_states(wild, model)  # type: ignore[arg-type]


def test_another_models_states_are_refused(model: Model, grown: State) -> None:
    document = json.loads(cacher.export_states(grown))
    document["fingerprint"] = "0" * 64
    with pytest.raises(StateImportError, match="tales"):
        cacher.import_states(json.dumps(document).encode(), model)

    def nowhere(model_id: str) -> Model:
        raise cacher.ModelNotFoundError(model_id)

    with pytest.raises(cacher.ModelNotFoundError):
        cacher.import_states(cacher.export_states(grown), nowhere)


def test_one_bad_state_stops_them_all(model: Model) -> None:
    live = model.stats.pages_live
    document = json.loads(cacher.export_states([model.state("Hello"), model.state("World")]))
    document["states"][1]["token_ids"] = [10**6]
    with pytest.raises(StateImportError):
        cacher.import_states(json.dumps(document).encode(), model)
    assert model.stats.pages_live == live


@settings(max_examples=150)
@given(data=st.data())
def test_flipped_bytes_never_surprise(model: Model, data: st.DataObject) -> None:
    """Whatever a byte becomes: an import, or its own error."""
    form = data.draw(st.sampled_from(["json", "binary"]))
    state = model.state("Once upon a time", state_id="a").append(" there")
    state.checkpoint("c")
    whole = bytearray(cacher.export_states(state, format=form))
    if form == "binary" and data.draw(st.booleans()):  # behind the checksum
        at = data.draw(st.integers(20, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
        whole[16:20] = struct.pack("<I", zlib.crc32(whole[20:]))
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StateImportError):
        (again,) = cacher.import_states(bytes(whole), model)
        for checkpoint in again.checkpoints:
            again.rollback(checkpoint=checkpoint.name)


def test_wrong_arguments_are_named(story: State) -> None:
    for wrong in ({"format": "xml"}, {"compress": "zip"}):
        with pytest.raises(cacher.ParameterError, match="allowed"):
            cacher.export_states(story, **wrong)  # type: ignore[arg-type]
    with pytest.raises(cacher.ParameterError, match="0 states"):
        cacher.export_states([])
    with pytest.raises(cacher.ParameterError, match="twice"):
        cacher.export_states([story, story])
    with pytest.raises(cacher.ParameterError, match="101 states"):
        cacher.export_states([story.fork() for _ in range(101)])
