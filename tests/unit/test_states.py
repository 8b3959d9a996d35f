"""The registry of a service: found, changed in turn, stored; what fails has not happened."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest

import cacher
from cacher import (
    Engine,
    Model,
    ModelNotFoundError,
    ParameterError,
    StateBusyError,
    StateExistsError,
    StateImportError,
    StateNotFoundError,
    StoreError,
)
from cacher.states import States
from cacher.stores.base import Key
from cacher.stores.files import FileStore

T = TypeVar("T")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "states"


def with_states(
    model: Model, folder: Path, use: Callable[[States], Awaitable[T]], **options: Any
) -> T:
    def find(model_id: str) -> Model:
        if model_id != "tales":
            raise ModelNotFoundError(f"no model {model_id}")
        return model

    async def main() -> T:
        async with States(find, FileStore(folder), **options) as states:
            return await use(states)

    return asyncio.run(asyncio.wait_for(main(), 120))


def on_disk(folder: Path, state_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / f"{state_id}.json").read_text())
    return document


def test_what_returns_is_on_disk(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        state = await states.create("tales", "Hello world", state_id="a", metadata={"k": 1})
        assert on_disk(folder, "a")["text"] == "Hello world"
        assert (await states.get("a")).to_dict() == state.to_dict()
        async with states.change("a") as changing:
            changing.generate(3, seed=1)
            assert (await states.get("a")).text == "Hello world", "readers see it as it was"
            assert on_disk(folder, "a")["text"] == "Hello world"
        after = await states.get("a")
        assert len(after) == 5
        assert after.text == on_disk(folder, "a")["text"]
        assert [event.op for event in after.history] == ["create", "generate"]
        await states.delete("a")
        assert not (folder / "a.json").exists()
        for call in (states.get, states.delete):
            with pytest.raises(StateNotFoundError, match="State not found: a"):
                await call("a")

    with_states(model, folder, use)


def test_everything_survives_a_restart(model: Model, folder: Path) -> None:
    async def first(states: States) -> tuple[dict[str, object], list[int]]:
        await states.create("tales", "Once upon a time", state_id="a", config={"seed": 7})
        async with states.change("a") as state:
            state.generate(5)
            state.checkpoint("here")
        state = await states.get("a")
        return state.to_dict(), state.generate(10).token_ids

    async def second(states: States) -> tuple[dict[str, object], list[int]]:
        state = await states.get("a")
        shown = state.to_dict()
        assert [c.name for c in state.checkpoints] == ["here"]
        return shown, state.generate(10).token_ids

    assert with_states(model, folder, first) == with_states(model, folder, second)


def test_what_is_looked_at_does_not_change(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Hello", state_id="a")
        for _ in range(2):
            copy = await states.get("a")
            copy.generate(3)
            copy.checkpoint("x")
            assert len(await states.get("a")) == 1
        before = (folder / "a.json").read_bytes()
        async with states.change("a") as state:
            state.top_tokens()
            state.multi(2, 2)
        assert (folder / "a.json").read_bytes() == before
        kept = None
        async with states.change("a") as state:
            kept = state.append(" world")
        kept.append(" again")
        assert (await states.get("a")).text == "Hello world", "what was given out is a copy"

    with_states(model, folder, use)


def test_a_checkpoint_alone_is_stored(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Hello", state_id="a")
        async with states.change("a") as state:
            state.checkpoint("c")
        assert [c["name"] for c in on_disk(folder, "a")["checkpoints"]] == ["c"]
        assert (await states.get("a")).revision == 1

    with_states(model, folder, use)


def test_changes_come_in_the_order_they_were_asked_for(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", [300], state_id="a")

        async def add(i: int) -> None:
            async with states.change("a") as state:
                await asyncio.sleep(0.002 * (20 - i) / 20)
                state.append([310 + i])

        await asyncio.gather(*(add(i) for i in range(20)))
        state = await states.get("a")
        assert state.token_ids == [300, *range(310, 330)]
        assert state.revision == 21
        assert on_disk(folder, "a")["token_ids"] == state.token_ids

    with_states(model, folder, use)


def test_two_generations_on_one_state_both_count(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Once upon a time", state_id="a")
        async with Engine(model) as engine:

            async def go() -> int:
                async with states.change("a") as state:
                    return len((await engine.generate(state, 5, seed=1)).token_ids)

            assert await asyncio.gather(go(), go()) == [5, 5]
        assert len(await states.get("a")) == 14

    with_states(model, folder, use)


def test_waiting_has_an_end(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Hello", state_id="a")
        await states.create("tales", "Hello", state_id="b")
        async with states.change("a"):
            with pytest.raises(StateBusyError, match="state a is in use"):
                async with states.change("a"):
                    pass
            with pytest.raises(StateBusyError):
                await states.delete("a")
            async with states.change("b") as other:
                other.append(" world")
        async with states.change("a") as state:
            state.append(" there")

    with_states(model, folder, use, lock_timeout_s=0.05)


def test_what_was_generated_stays_when_a_client_leaves(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Once upon a time", state_id="a")
        heard = asyncio.Event()
        async with Engine(model) as engine:

            async def listen() -> None:
                async with (
                    states.change("a") as state,
                    aclosing(engine.stream(state, 500, seed=1)) as stream,
                ):
                    async for token in stream:
                        if token.position >= 5:
                            heard.set()

            listener = asyncio.create_task(listen())
            await heard.wait()
            listener.cancel()
            with pytest.raises(asyncio.CancelledError):
                await listener
        state = await states.get("a")
        assert 6 <= len(state) < 500
        assert on_disk(folder, "a")["token_ids"] == state.token_ids
        assert [event.op for event in state.history] == ["create", "generate"]

    with_states(model, folder, use)


def test_an_exception_keeps_what_was_done_before_it(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Hello", state_id="a")

        async def fail() -> None:
            async with states.change("a") as state:
                state.append(" world").edit(truncate_to=99)

        with pytest.raises(ParameterError):
            await fail()
        assert (await states.get("a")).text == "Hello world"

    with_states(model, folder, use)


def test_ids_are_taken_once_and_checked(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Hello", state_id="a")
        with pytest.raises(StateExistsError, match="a already"):
            await states.create("tales", "Else", state_id="a")
        outcomes = await asyncio.gather(
            *(states.create("tales", "x", state_id="b") for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(outcome, StateExistsError) for outcome in outcomes) == 4
        for wild in ("../a", "a/b", "", "config", "a" * 129):
            with pytest.raises(ParameterError):
                await states.create("tales", state_id=wild)
            with pytest.raises(StateNotFoundError):
                await states.get(wild)
        with pytest.raises(ModelNotFoundError):
            await states.create("other", "Hello")
        with pytest.raises(ParameterError, match="tenant"):
            await states.create("tales", tenant="../x")
        assert sorted(os.listdir(folder))[-2:] == ["a.json", "b.json"]

    with_states(model, folder, use)


def test_more_states_than_memory_are_all_there(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        ids = [(await states.create("tales", f"Number {i}")).id for i in range(5)]
        for i, state_id in enumerate(ids):
            assert (await states.get(state_id)).text == f"Number {i}"
        async with states.change(ids[0]) as state:
            state.append("!")
        assert (await states.get(ids[0])).text == "Number 0!"
        stats = await states.stats()
        assert stats.states_in_memory == 2
        assert stats.store.total_files == 5
        assert stats.evictions >= 3

    with_states(model, folder, use, max_in_memory=2)


def test_one_read_serves_all_who_ask(model: Model, folder: Path) -> None:
    with_states(model, folder, lambda states: states.create("tales", "Hello", state_id="a"))
    reads = []

    async def use(states: States) -> None:
        store = states._keeper.store
        load = store.load
        store.load = lambda key: reads.append(key) or load(key)  # type: ignore
        found = await asyncio.gather(*(states.get("a") for _ in range(20)))
        assert {state.text for state in found} == {"Hello"}

    with_states(model, folder, use)
    assert reads == [Key("", "a")]


def test_a_change_that_cannot_be_stored_has_not_happened(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Hello", state_id="a")
        (folder / "a.json").rename(folder / "aside")
        (folder / "a.json").mkdir()  # no file can take this name
        with pytest.raises((StoreError, StateBusyError)):
            async with states.change("a") as state:
                state.append(" world")
        (folder / "a.json").rmdir()
        (folder / "aside").rename(folder / "a.json")
        assert (await states.get("a")).text == "Hello"
        async with states.change("a") as state:
            state.append(" again")
        assert on_disk(folder, "a")["text"] == "Hello again"
        assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]

    with_states(model, folder, use)


def test_damaged_files_are_unknown_and_left_alone(
    model: Model, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    damaged = {"a": b"{", "b": b"[]", "c": b'{"model_id": "tales", "token_ids": [99999]}', "d": b""}
    for name, data in damaged.items():
        (folder / f"{name}.json").write_bytes(data)

    async def use(states: States) -> None:
        await states.create("tales", "Hello", state_id="good")
        for name in damaged:
            with pytest.raises(StateNotFoundError):
                await states.get(name)
            with pytest.raises(StateExistsError):
                await states.create("tales", state_id=name)
        found, total = await states.list_states()
        assert "good" in [summary.state_id for summary in found]
        assert total <= 2  # "c" has the right shape, as far as a list looks

    with_states(model, folder, use)
    for name, data in damaged.items():
        assert (folder / f"{name}.json").read_bytes() == data
        assert f"{name} is damaged" in caplog.text


def test_old_files_are_states(model: Model, folder: Path) -> None:
    folder.mkdir()
    old = {
        "model_id": "tales", "text": "Hello world", "config": {"temperature": 0.3},
        "metadata": {"created_at": "2025-03-04 09:15:27.123456", "last_modified": None},
    }  # fmt: skip
    (folder / "old.json").write_text(json.dumps(old))

    async def use(states: States) -> None:
        state = await states.get("old")
        assert (state.id, state.text, state.head_position) == ("old", "Hello world", 0)
        assert state.to_dict()["created_at"] == "2025-03-04T09:15:27.123456Z"
        assert (state.initial_text, state.initial_config) == ("Hello world", {"temperature": 0.3})
        found, total = await states.list_states()
        assert (total, found[0].state_id, found[0].created_at) == (1, "old", state._created)
        async with states.change("old") as changing:
            changing.append("!")
        assert (await states.list_states())[0][0].token_count == 3

    with_states(model, folder, use)


def test_forks_merges_and_trees(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Once upon", state_id="root")
        (left,) = await states.fork("root", new_id="left", config={"seed": 1})
        right, other = await states.fork("root", 2, at=1, metadata={"x": 1})
        assert (left.text, right.text, other.metadata) == ("Once upon", "Once", {"x": 1})
        assert left.forked_from == right.forked_from == "root"
        merged = await states.merge(["left", right.id], strategy="concat", new_id="m")
        assert on_disk(folder, "m")["metadata"]["merged_from"] == ["left", right.id]
        assert len(merged) == 3
        await states.delete("left")
        tree = await states.tree(right.id)
        assert [(level, node.state_id, node.deleted) for level, node in tree.nodes()] == [
            (0, "root", False), (1, "left", True), (2, "m", False), (1, right.id, False),
            (1, other.id, False),
        ]  # fmt: skip
        for wrong in ({"n": 0}, {"n": 33}, {"n": 2, "new_id": "x"}, {"at": 3}):
            with pytest.raises(ParameterError):
                await states.fork("root", **wrong)  # type: ignore[arg-type]
        with pytest.raises(ParameterError):
            await states.merge(["root", "root"])
        with pytest.raises(StateNotFoundError):
            await states.merge(["root", "left"])
        with pytest.raises(StateExistsError):
            await states.fork("root", new_id="m")

    with_states(model, folder, use)


def test_lists_have_pages(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        for i in range(5):
            await states.create("tales", "x" * i, state_id=f"s{i}")
        found, total = await states.list_states(2, 1)
        assert ([summary.state_id for summary in found], total) == (["s3", "s2"], 5)
        for wrong in ((0, 0), (1001, 0), (1, -1)):
            with pytest.raises(ParameterError):
                await states.list_states(*wrong)

    with_states(model, folder, use)


def test_exports_and_imports(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        await states.create("tales", "Once upon a time", state_id="a")
        async with states.change("a") as state:
            state.generate(3, seed=1)
        before = await states.get("a")
        data = await states.export_states("a", format="binary", compress="gzip")
        (copy,), batch = await states.import_states(data)
        assert not batch
        assert copy.id != "a"
        text = before.text
        assert copy.text == before.text
        assert copy.generate(6) == before.generate(6)
        assert (await states.get(copy.id)).history[-1].op == "import"
        with pytest.raises(StateExistsError):
            await states.import_states(data, on_conflict="error")
        async with states.change("a") as state:
            state.truncate(0)
        (back,), _ = await states.import_states(data, on_conflict="replace")
        assert back.id == "a"
        assert (await states.get("a")).text == text
        both = await states.export_states(["a", copy.id])
        again, batch = await states.import_states(both, on_conflict="new")
        assert batch
        assert len({state.id for state in again} | {"a", copy.id}) == 4
        for bad in (b"{", both.replace(b'"cacher-batch"', b'"cacher-b"')):
            with pytest.raises(StateImportError):
                await states.import_states(bad)
        assert (await states.list_states())[1] == 4

    with_states(model, folder, use)


def test_tenants_are_apart(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        text = "Once upon a time there was a little fox who lived in a wood"
        for tenant in ("", "red", "blue"):
            await states.create("tales", text, state_id="a", tenant=tenant)
        async with states.change("a", tenant="red") as state:
            state.append("!")
        await states.delete("a")
        assert (await states.get("a", tenant="red")).text.endswith("!")
        assert (await states.list_states(tenant="blue"))[1] == 1
        with pytest.raises(StateNotFoundError):
            await states.get("a")
        (await states.get("a", tenant="red")).forward()
        assert (await states.get("a", tenant="blue"))._core.ready() == 0, "caches are apart"

    with_states(model, folder, use)
    assert (folder / "tenants" / "red" / "a.json").exists()


def test_unused_states_go(model: Model, folder: Path) -> None:
    async def use(states: States) -> None:
        for name in ("a", "b"):
            await states.create("tales", "Hello", state_id=name)
        past = time.time() - 1000
        for name in ("a", "b"):
            os.utime(folder / f"{name}.json", (past, past))
        states._keeper._entries.clear()
        await states.get("b")
        assert await states.clean_up() == 1
        assert (await states.get("b")).text == "Hello"
        with pytest.raises(StateNotFoundError):
            await states.get("a")

    with_states(model, folder, use, max_age_s=500, clean_up_interval_s=0)


def test_the_clean_up_runs_at_the_start(model: Model, folder: Path) -> None:
    with_states(model, folder, lambda states: states.create("tales", "Hello", state_id="a"))
    past = time.time() - 1000
    os.utime(folder / "a.json", (past, past))

    async def use(_states: States) -> None:
        while (folder / "a.json").exists():
            await asyncio.sleep(0.005)

    with_states(model, folder, use, max_age_s=500)


def test_no_page_is_left(model: Model, folder: Path) -> None:
    gc.collect()  # states that failed tests hold in their tracebacks
    live = model.stats.pages_live

    async def use(states: States) -> None:
        await states.create("tales", "Once upon a time there was a king", state_id="a")
        async with states.change("a") as state:
            state.generate(20, seed=1)
            state.checkpoint("x")
        await states.fork("a", 3)
        await states.delete("a")

    with_states(model, folder, use)
    assert model.stats.pages_live == live


def test_two_processes_take_turns(model: Model, folder: Path) -> None:
    """Two registries over one folder, as two workers have: any serves any state."""

    async def main() -> None:
        async with (
            States(lambda _: model, FileStore(folder), shared=True) as one,
            States(lambda _: model, FileStore(folder), shared=True) as two,
        ):
            await one.create("tales", [300], state_id="a")

            async def add(states: States, i: int) -> None:
                async with states.change("a") as state:
                    state.append([310 + i])

            await asyncio.gather(*(add((one, two)[i % 2], i) for i in range(20)))
            for states in (one, two):
                state = await states.get("a")
                assert sorted(state.token_ids) == [300, *range(310, 330)]
                assert state.revision == 21
            await two.delete("a")
            with pytest.raises(StateNotFoundError):
                await one.get("a")

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_lost_lease_overwrites_nothing(model: Model, folder: Path) -> None:
    """A worker that slept past its lease finds that another one was there."""

    async def main() -> None:
        async with (
            States(lambda _: model, FileStore(folder), shared=True) as slow,
            States(lambda _: model, FileStore(folder), shared=True) as quick,
        ):
            await slow.create("tales", [300], state_id="a")

            async def sleep_too_long() -> None:
                async with slow.change("a") as state:
                    state.append([301])
                    index = slow._keeper.store._index  # type: ignore[attr-defined]
                    index._db.run("UPDATE leases SET until = 0")
                    async with quick.change("a") as winner:
                        winner.append([302])

            with pytest.raises(StateBusyError, match="another process"):
                await sleep_too_long()
            for states in (slow, quick):
                assert (await states.get("a")).token_ids == [300, 302]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_what_runs_when_states_are_closed_is_stored(model: Model, folder: Path) -> None:
    async def main() -> None:
        states = States(lambda _: model, FileStore(folder))
        makes = [
            asyncio.create_task(states.create("tales", "Hello", state_id=f"s{i}"))
            for i in range(30)
        ]
        await asyncio.sleep(0.02)
        await states.aclose()
        outcomes = await asyncio.gather(*makes, return_exceptions=True)
        for i, outcome in enumerate(outcomes):
            assert isinstance(outcome, cacher.State | StoreError), outcome
            if isinstance(outcome, cacher.State):
                assert on_disk(folder, f"s{i}")["text"] == "Hello"
        with pytest.raises(StoreError, match="closed"):
            await states.get("s0")

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_run_is_called_off_by_another_process(model: Model, folder: Path) -> None:
    async def main() -> None:
        async with (
            States(lambda _: model, FileStore(folder), shared=True) as one,
            States(lambda _: model, FileStore(folder), shared=True) as two,
            Engine(model) as engine,
        ):
            stream = engine.stream(model.state("Once upon a time"), 900, seed=1)
            watcher = asyncio.create_task(one.watch("run", stream.aclose, tenant="red"))
            await anext(stream)  # and then nobody reads on
            assert not await two.call_off("run")
            while not await two.call_off("run", tenant="red"):
                await asyncio.sleep(0.01)
            await watcher
            assert len([token async for token in stream]) <= 16
            assert not await two.call_off("run", tenant="red")
            over = asyncio.create_task(one.watch("over", stream.aclose))
            while not await two.call_off("over"):
                await asyncio.sleep(0.01)
            over.cancel()
            await asyncio.gather(over, return_exceptions=True)
            assert not await two.call_off("over")

    asyncio.run(asyncio.wait_for(main(), 60))
