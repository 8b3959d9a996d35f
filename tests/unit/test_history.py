from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cacher
from cacher import (
    CheckpointNotFoundError,
    Model,
    ParameterError,
    RevisionNotAvailableError,
    State,
    StateFileError,
)
from cacher.history import MAX_UNDO_BYTES


def ops(state: State) -> list[str]:
    return [event.op for event in state.history]


def content(state: State) -> tuple[object, ...]:
    return (state.token_ids, state.text, state.head_position, state.config)


def test_every_change_is_one_event_under_its_name(model: Model) -> None:
    before = datetime.now(UTC)
    state = model.state("Once upon a time")
    state.append(" there").forward(" was").generate(3, seed=1)
    list(state.stream(2, seed=1))
    state.edit(config={"temperature": 0.5}).edit(text="A fox").truncate(1).rollback(0)
    state.edit(metadata={"a": 1}).edit(append_text="Hello", config={"seed": 3})
    model.forward_all([state])
    model.generate_all([state], 2)
    assert ops(state) == [
        "create", "edit", "forward", "generate", "generate", "config", "edit", "edit", "rollback",
        "edit", "edit", "forward", "generate",
    ]  # fmt: skip
    events = state.history
    assert [event.revision for event in events] == list(range(1, state.revision + 1))
    assert [event.token_count for event in events[:6]] == [4, 5, 6, 9, 11, 11]
    assert [event.head_position for event in events[:5]] == [0, 0, 6, 9, 11]
    moments = [event.at for event in events]
    assert before <= moments[0] == state.created_at
    assert moments == sorted(moments)
    assert moments[-1] == state.modified_at


def test_looking_is_no_event(story: State) -> None:
    story.multi(2, 2)
    story.beam(2, 2)
    story.top_tokens()
    story.logits()
    story.evict()
    story.checkpoint("here")
    assert ops(story) == ["create"]
    assert story.revision == 1
    assert story.modified_at == story.created_at


def test_forks_and_merges_begin_anew(story: State) -> None:
    story.generate(2)
    story.checkpoint("c")
    fork = story.fork(at=3)
    assert (ops(fork), fork.checkpoints, fork.revision) == (["fork"], [], 1)
    assert fork.history[0].detail == {"forked_from": story.id}
    assert (fork.history[0].token_count, fork.history[0].head_position) == (3, 3)
    merged = cacher.merge([fork, story])
    assert ops(merged) == ["merge"]
    assert merged.history[0].detail == {"merged_from": [fork.id, story.id]}


def test_the_first_event_stands_while_a_stream_is_open(story: State) -> None:
    n_tokens = len(story)
    stream = story.fork().stream(4, seed=1)
    fork = stream._state
    next(stream)
    assert (fork.history[0].token_count, fork.history[0].head_position) == (n_tokens, 0)
    fork.append(" and")
    fork.truncate(n_tokens - 2)
    stream.close()
    counts = [event.token_count for event in fork.history]
    assert counts == [n_tokens, n_tokens + 2, n_tokens - 2, n_tokens - 2]
    fork.rollback(revision=1)
    assert fork.token_ids == story.token_ids


def test_a_checkpoint_brings_everything_back(story: State) -> None:
    story.generate(3, seed=4)
    made = story.checkpoint("before-answer")
    assert (made.name, made.revision, made.token_count) == ("before-answer", 2, len(story))
    assert story.checkpoints == [made]
    then = content(story)
    answer = story.generate(8)
    story.edit(text="Something else", config={"temperature": 0.1, "seed": 9})
    assert story.rollback(checkpoint="before-answer") is story
    assert content(story) == then
    assert story.revision == 5
    assert story.history[-1].op == "rollback"
    assert story.history[-1].detail == {"checkpoint": "before-answer", "revision": 2}
    assert story.generate(8) == answer, "draws depend on the position"
    story.rollback(checkpoint="before-answer")
    assert content(story) == then, "a checkpoint can be used again"


def test_checkpoints_have_names_and_an_end(story: State) -> None:
    for name in ("", "a/b", "../x", "-a", "a" * 129, "a b", "ä"):
        with pytest.raises(ParameterError, match="checkpoint name"):
            story.checkpoint(name)
    with pytest.raises(TypeError):
        story.checkpoint(5)  # type: ignore[arg-type]
    story.checkpoint("config")
    for i in range(63):
        story.checkpoint(f"c{i}")
    with pytest.raises(ParameterError, match="64"):
        story.checkpoint("one-more")
    story.append(" and")
    again = story.checkpoint("c5")
    assert again.revision == 2
    assert len(story.checkpoints) == 64
    assert [c.revision for c in story.checkpoints if c.name == "c5"] == [2]


def test_what_is_not_there_is_named(story: State) -> None:
    story.checkpoint("a")
    with pytest.raises(CheckpointNotFoundError, match="'b', there: 'a'"):
        story.rollback(checkpoint="b")
    for revision in (0, -1, 2, 2**62):
        with pytest.raises(RevisionNotAvailableError, match=rf"{revision}, allowed: 1 to 1"):
            story.rollback(revision=revision)
    for wrong in ({}, {"to": 1, "revision": 1}, {"checkpoint": "a", "revision": 1}):
        with pytest.raises(ParameterError, match="exactly one"):
            story.rollback(**wrong)  # type: ignore[arg-type]
    for wild in (True, "1", 1.0):
        with pytest.raises(TypeError):
            story.rollback(revision=wild)  # type: ignore[arg-type]
    assert story.revision == 1


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "generate", "truncate", "text", "config", "revision", "mark",
                         "checkpoint", "file"]),
        st.integers(0, 30),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=60)
@given(actions=ACTIONS)
def test_every_revision_can_be_had_again(
    model: Model, tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]
) -> None:
    """Against a list that keeps a copy of everything, through files, too."""
    path = tmp_path_factory.mktemp("history") / "state.json"
    state = model.state([300, 301, 302])
    seen = {1: content(state)}
    marks: dict[str, tuple[object, ...]] = {}
    for action, n in actions:
        if action == "append":
            state.append([310 + n] * (n % 4))
        elif action == "generate":
            state.generate(1 + n % 3, seed=n)
        elif action == "truncate":
            state.truncate(min(n, len(state)))
        elif action == "text":
            state.edit(text=[320 + n] * (n % 5), truncate_to=None)
        elif action == "config":
            state.edit(config={"temperature": n / 10, "mood": n})
        elif action == "revision":
            target = 1 + n % state.revision
            state.rollback(revision=target)
            assert content(state) == seen[target]
        elif action == "mark":
            state.checkpoint(f"c{n % 3}")
            marks[f"c{n % 3}"] = content(state)
        elif action == "checkpoint" and marks:
            name = sorted(marks)[n % len(marks)]
            state.rollback(checkpoint=name)
            assert content(state) == marks[name]
        elif action == "file":
            state.save(path)
            before = (state.history, state.checkpoints, content(state))
            state = model.restore(path)
            assert (state.history, state.checkpoints, content(state)) == before
        seen[state.revision] = content(state)
    for revision in range(1, state.revision + 1):
        twin = state._twin().rollback(revision=revision)
        assert content(twin) == seen[revision]
    assert content(state) == seen[state.revision], "a twin is apart"


def test_256_events_are_kept(model: Model) -> None:
    state = model.state([300])
    for i in range(300):
        state.truncate(0) if i % 2 else state.append([301 + i])
    assert len(state.history) == 256
    assert state.history[0].revision == 301 - 255
    with pytest.raises(RevisionNotAvailableError, match="45, allowed: 46 to 301"):
        state.rollback(revision=45)
    state.rollback(revision=46)
    assert state.token_ids == [301 + 44]


def test_what_undoes_events_is_bounded(model: Model) -> None:
    state = model.state([300])
    for i in range(150):
        state.edit(config={"filling": str(i) * 5000})
    held = sum(change.undo_bytes() for change in state._events())
    assert held <= MAX_UNDO_BYTES
    assert len(state.history) == 151
    with pytest.raises(RevisionNotAvailableError):
        state.rollback(revision=2)
    assert state.rollback(revision=149).config.extra["filling"] == "147" * 5000


@pytest.fixture
def saved(story: State, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    story.generate(3, seed=1)
    story.checkpoint("a")
    story.edit(truncate_to=4, config={"temperature": 0.2})
    path = tmp_path / "state.json"
    story.save(path)
    document: dict[str, Any] = json.loads(path.read_text())
    assert len(document["history"]) == 3
    return path, document


@pytest.mark.parametrize(
    ("key", "index", "name", "value"),
    [
        ("history", 1, "revision", 3), ("history", 2, "revision", 4), ("history", 0, "op", "made"),
        ("history", 0, "op", 5), ("history", 1, "at", "now"), ("history", 1, "at", None),
        ("history", 2, "token_count", 5), ("history", 2, "token_count", -1),
        ("history", 1, "head_position", 99), ("history", 2, "kept", 3), ("history", 2, "kept", 5),
        ("history", 2, "kept", "x"), ("history", 2, "removed", [1]),
        ("history", 2, "removed", [-1] * 8), ("history", 2, "removed", [4096] * 8),
        ("history", 2, "removed", [True] * 8), ("history", 2, "replaced", {"temperature": 11}),
        ("history", 2, "replaced", []), ("history", 0, "detail", []),
        ("checkpoints", 0, "name", "a/b"), ("checkpoints", 0, "name", None),
        ("checkpoints", 0, "shared", 5), ("checkpoints", 0, "shared", -1),
        ("checkpoints", 0, "token_ids", [4096]), ("checkpoints", 0, "token_ids", [1] * 1025),
        ("checkpoints", 0, "head_position", 40), ("checkpoints", 0, "config", {"seed": "x"}),
        ("checkpoints", 0, "created_at", "x"), ("checkpoints", 0, "revision", 0),
    ],
)  # fmt: skip
def test_damaged_pasts_are_refused(
    model: Model,
    saved: tuple[Path, dict[str, Any]],
    key: str,
    index: int,
    name: str,
    value: object,
) -> None:
    path, document = saved
    assert model.restore(path).checkpoints[0].name == "a"
    document[key][index][name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(StateFileError):
        model.restore(path)


def test_damaged_lists_are_refused(model: Model, saved: tuple[Path, dict[str, Any]]) -> None:
    path, document = saved
    for key, value in (
        ("history", document["history"][:2]),
        ("history", document["history"] * 100),
        ("history", [5]),
        ("checkpoints", document["checkpoints"] * 2),
        ("checkpoints", [None]),
        ("checkpoints", [{**document["checkpoints"][0], "name": f"c{i}"} for i in range(65)]),
    ):
        path.write_text(json.dumps({**document, key: value}))
        with pytest.raises(StateFileError):
            model.restore(path)


def test_how_it_began_is_remembered(model: Model, tmp_path: Path) -> None:
    state = model.state("Hello", config={"temperature": 0.3, "top_p": None, "mood": ["calm"]})
    state.append(" world").edit(config={"seed": 5})
    fork = state.fork()
    for s in (state, fork):
        assert s.initial_text == "Hello"
        assert s.initial_config == {"temperature": 0.3, "top_p": None, "mood": ["calm"]}
    fork.save(tmp_path / "s.json")
    again = model.restore(tmp_path / "s.json")
    assert (again.initial_text, again.initial_config) == (state.initial_text, state.initial_config)
    assert model.state([5]).initial_text is None
    assert model.state().initial_config == {}
