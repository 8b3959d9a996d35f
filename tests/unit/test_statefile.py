from __future__ import annotations

import base64
import copy
import gc
import json
import os
import signal
import stat
import subprocess
import sys
import time
from array import array
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest

import cacher
from cacher import FileError, ModelMismatchError, State, StateFileError, statefile


def packed(kind: str, values: list[Any]) -> str:
    return base64.b64encode(array(kind, values)).decode()


def numbers(document: dict[str, Any], key: str, kind: str) -> array[Any]:
    return array(kind, base64.b64decode(document["stored_logits"][key]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


@pytest.fixture
def saved(story: State, path: Path) -> dict[str, Any]:
    story.generate(5, seed=1)
    story.append(" and")
    story.save(path)
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_everything_comes_back(model: cacher.Model, path: Path) -> None:
    state = model.state(
        "Once upon a time", config={"temperature": 0.1, "mood": "sad"}, metadata={"a": [1, None]}
    )
    fork = state.forward().fork()
    fork.generate(20, seed=3)
    fork.append(" and")
    fork.save(path)
    again = model.restore(path)
    for name in (
        "id",
        "text",
        "token_ids",
        "head_position",
        "config",
        "metadata",
        "revision",
        "forked_from",
    ):
        assert getattr(again, name) == getattr(fork, name), name
    assert again.logits().tobytes() == fork.logits().tobytes()
    assert again.generate(9).token_ids == fork.generate(9).token_ids


def test_stored_logits_come_back_bit_for_bit_and_run_no_model(
    model: cacher.Model, path: Path
) -> None:
    state = model.state("The king had a daughter", config={"top_k_logits": 7})
    state.generate(20, seed=2)
    state.save(path)
    again = model.restore(path)
    forwards = model.stats.forwards
    for name in ("logprobs", "top_ids", "top_logits"):
        i = ("logprobs", "top_ids", "top_logits").index(name)
        old, new = (s._core.scores(0, len(s), 7)[i] for s in (state, again))
        assert memoryview(old).tobytes() == memoryview(new).tobytes(), name
    assert [t.top_tokens for t in again] == [t.top_tokens for t in state]
    assert model.stats.forwards == forwards


@pytest.mark.parametrize("kept", ["none", "full"])
def test_only_the_largest_logits_are_stored(model: cacher.Model, path: Path, kept: str) -> None:
    state = model.state("The king had a daughter", config={"store_logits": kept})
    state.generate(5, seed=2)
    state.save(path)
    assert json.loads(path.read_text())["stored_logits"] is None
    again = model.restore(path)
    assert again.logprobs().tobytes() == state.logprobs().tobytes()
    assert again.analyze_tokens(include_logits=True) == state.analyze_tokens(include_logits=True)


def test_a_file_of_another_process_is_read(model: cacher.Model, path: Path) -> None:
    code = (
        "import cacher, sys; s = cacher.load('tales').state('Once upon a time');"
        "print(s.generate(8, seed=4).text); s.save(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert model.restore(path).text == "Once upon a time" + done.stdout.removesuffix("\n")


def test_the_file_is_private_and_nothing_else_is_left(story: State, path: Path) -> None:
    story.save(path)
    story.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["state.json"]


def test_the_documented_keys_are_there(saved: dict[str, Any], story: State) -> None:
    assert saved["version"] == 1
    assert saved["model_id"] == "tales"
    assert saved["text"] == story.text
    assert saved["token_ids"] == story.token_ids
    assert saved["head_position"] == len(story) - 1
    assert saved["fingerprint"] == story.model.fingerprint
    assert set(saved["metadata"]) >= {"created_at", "last_modified", "forked_from", "tags"}
    assert saved["metadata"]["created_at"].endswith("Z")
    assert isnan(numbers(saved, "logprobs", "f")[-1]), "the last token is pending"


def test_old_files_with_four_keys_are_read(model: cacher.Model, path: Path) -> None:
    old = {
        "model_id": "tales", "text": "Hello world", "config": {"temperature": 0.3},
        "metadata": {"created_at": "2025-03-04 09:15:27.123456", "last_modified": None},
    }  # fmt: skip
    path.write_text(json.dumps(old))
    state = model.restore(path)
    assert (state.text, state.head_position, state.config.temperature) == ("Hello world", 0, 0.3)
    state.save(path)
    assert json.loads(path.read_text())["metadata"]["created_at"] == "2025-03-04T09:15:27.123456Z"


def test_another_models_file_needs_leave(
    model: cacher.Model, saved: dict[str, Any], path: Path
) -> None:
    path.write_text(json.dumps(saved | {"fingerprint": "0" * 64, "model_id": "other"}))
    with pytest.raises(ModelMismatchError, match=r"'other'.*'tales'"):
        model.restore(path)
    state = model.restore(path, allow_mismatch=True)
    assert (state.text, state.head_position) == (saved["text"], 0)


def change(document: dict[str, Any], place: str, value: object) -> str:
    *parents, key = place.split(".")
    at = document
    for parent in parents:
        at = at[parent]
    at[key] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("version", 2), ("version", "1"), ("version", True), ("model_id", 5), ("model_id", None),
        ("fingerprint", 5), ("text", 5), ("text", "Hello"), ("text", "\ud800"),
        ("token_ids", "12"), ("token_ids", [1, "2"]), ("token_ids", [True]), ("token_ids", [1.0]),
        ("token_ids", [4096]), ("token_ids", [-1]), ("token_ids", [10**30]),
        ("token_ids", [1] * 1025),
        ("token_ids", {}), ("head_position", -1), ("head_position", 16), ("head_position", 1.5),
        ("revision", 0), ("revision", 2**60), ("state_id", "../x"), ("state_id", 5),
        ("config", []), ("config.temperature", 11), ("config.seed", "x"),
        ("config.store_logits", []),
        ("config.context_size", 0), ("metadata", 5), ("metadata.tags", "x"),
        ("metadata.created_at", "yesterday"), ("metadata.created_at", 5),
        ("metadata.forked_from", "a/b"), ("metadata.merged_from", [5]), ("history", {}),
        ("stored_logits", []), ("stored_logits.k", 0), ("stored_logits.k", 10**9),
        ("stored_logits.k", 19), ("stored_logits.logprobs", [0.0]), ("stored_logits.lse", None),
        ("stored_logits.lse", "x"), ("stored_logits.lse", "\ud800"), ("stored_logits.lse", ""),
        ("stored_logits.lse", "AAAA" * 41), ("stored_logits.lse", "=AAA" * 40),
        ("stored_logits.top_ids", packed("i", [4096] * 300)),
        ("stored_logits.top_ids", packed("i", [-2] * 300)),
        ("stored_logits.top_ids", packed("i", [-1, 5] * 150)),
        ("stored_logits.top_ids", packed("i", [5] * 299)), ("stored_logits.top_ids", [5] * 300),
        ("stored_logits.top_logits", packed("f", [3e38] * 300)),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(
    model: cacher.Model, saved: dict[str, Any], path: Path, place: str, value: object
) -> None:
    assert len(saved["token_ids"]) == 15
    path.write_text(change(saved, place, value))
    gc.collect()  # what tests before this one left
    live = model.stats.pages_live
    with pytest.raises(StateFileError, match=r"state\.json"):
        model.restore(path)
    assert model.stats.pages_live == live


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe{}", b'{"version": NaN}',
        b'{"version": 1e999}', b'{"version": Infinity}', b"[" * 200_000, b'{"a":' * 200_000,
        b'{"version": ' + b"9" * 10_000 + b"}", b"{}", b'{"model_id": "tales"} x', b"\x00" * 100,
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(model: cacher.Model, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(StateFileError):
        model.restore(path)


def test_every_truncation_is_refused(
    model: cacher.Model, saved: dict[str, Any], path: Path
) -> None:
    data = path.read_bytes()
    assert saved
    for end in range(0, len(data) - 3, 37):
        path.write_bytes(data[:end])
        with pytest.raises(StateFileError):
            model.restore(path)


def test_oversized_files_folders_and_absent_ones_are_refused(
    model: cacher.Model, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileError, match=r"state\.json.*No such file"):
        model.restore(path)
    with pytest.raises(FileError, match="directory"):
        model.restore(path.parent)
    with pytest.raises(StateFileError, match="not a regular file"):
        model.restore("/dev/zero")
    monkeypatch.setattr(statefile, "MAX_BYTES", 100)
    path.write_bytes(b" " * 101)
    with pytest.raises(StateFileError, match="100"):
        model.restore(path)


def test_a_save_that_fails_leaves_the_old_file(
    story: State, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.save(path)
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FileError, match="No space left"):
        story.append(" who").save(path)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == ["state.json"]
    with pytest.raises(FileError, match="nowhere"):
        story.save(path.parent / "nowhere" / "state.json")


SAVER = """
import sys, cacher
model = cacher.load("tales", threads=1)
states = [model.state([word] * 900, metadata={"word": word}) for word in (300, 400)]
print("ready", flush=True)
while True:
    for state in states:
        state.save(sys.argv[1])
"""


def test_kill_at_any_moment_leaves_a_whole_file(model: cacher.Model, path: Path) -> None:
    seen = set()
    for round_ in range(12):
        saver = subprocess.Popen([sys.executable, "-c", SAVER, path], stdout=subprocess.PIPE)
        assert saver.stdout is not None
        assert saver.stdout.readline() == b"ready\n"
        while not path.exists():
            time.sleep(0.001)
        time.sleep(0.0037 * round_)
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        state = model.restore(path)
        word = state.metadata["word"]
        assert state.token_ids == [word] * 900
        seen.add(word)
    assert seen <= {300, 400}


def test_a_state_longer_than_its_context_comes_back(model: cacher.Model, path: Path) -> None:
    model.state([300] * 8).edit(config={"context_size": 4}).save(path)
    assert len(model.restore(path)) == 8


def test_files_without_fingerprint_belong_to_the_model_they_name(
    model: cacher.Model, path: Path
) -> None:
    path.write_text(json.dumps({"model_id": "gpt2", "text": "Hello"}))
    with pytest.raises(ModelMismatchError, match="gpt2"):
        model.restore(path)
    assert model.restore(path, allow_mismatch=True).text == "Hello"


@pytest.mark.parametrize("key", ["created_at", "last_modified"])
@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_times_that_cannot_be_written_again_are_refused(
    model: cacher.Model, saved: dict[str, Any], path: Path, key: str, text: str
) -> None:
    saved["metadata"][key] = text
    path.write_text(json.dumps(saved))
    with pytest.raises(StateFileError, match=key):
        model.restore(path)


def test_probabilities_above_one_are_refused(
    model: cacher.Model, saved: dict[str, Any], path: Path
) -> None:
    for key in ("logprobs", "top_logits"):
        damaged = copy.deepcopy(saved)
        row = numbers(damaged, key, "f")
        row[20 if key == "top_logits" else 1] = 800.0
        damaged["stored_logits"][key] = packed("f", list(row))
        path.write_text(json.dumps(damaged))
        with pytest.raises(StateFileError, match=rf"{key}.*above 1"):
            model.restore(path)


def test_only_plain_files_are_written_and_read(
    model: cacher.Model, story: State, path: Path
) -> None:
    os.mkfifo(path)
    with pytest.raises(FileError, match="not a regular file"):
        story.save(path)
    assert path.is_fifo()
    with pytest.raises(StateFileError, match="not a regular file"):
        model.restore(path)


def test_odd_names_are_files_or_file_errors(model: cacher.Model, story: State, path: Path) -> None:
    longest = path.with_name("a" * 250 + ".json")
    story.save(longest)
    assert model.restore(os.fsencode(longest)).text == story.text
    for name in ("a\0b", "\ud800"):
        with pytest.raises(FileError, match=r"a.x00b|ud800"):
            story.save(name)
        with pytest.raises(FileError, match=r"a.x00b|ud800"):
            model.restore(name)


def test_what_is_no_number_is_computed_again(
    model: cacher.Model, saved: dict[str, Any], story: State, path: Path
) -> None:
    for key, kind in (("logprobs", "f"), ("lse", "d"), ("top_logits", "f")):
        for odd in (nan, -inf):
            damaged = copy.deepcopy(saved)
            row = numbers(damaged, key, kind)
            row[21 if key == "top_logits" else 1] = odd
            damaged["stored_logits"][key] = packed(kind, list(row))
            path.write_text(json.dumps(damaged))
            assert [t.logprob for t in model.restore(path)] == [t.logprob for t in story]


def test_what_would_take_too_much_memory_is_refused(model: cacher.Model, path: Path) -> None:
    path.write_bytes(b'{"model_id": [' + b"[]," * 4_000_001 + b"[]]}")
    with pytest.raises(StateFileError, match=r"more than 4000000 of"):
        model.restore(path)
