"""The client: checklist 116 to 119, and every method once."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest

import cacher
from cacher import CacherAPIError, CacherClient, connection
from cacher.client import UNSET, StateDict
from cacher.config import Settings
from tests.server.conftest import over_socket

Test = Callable[[CacherClient], Awaitable[None]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with over_socket() as found:
        yield found


@pytest.fixture(params=["", "/v1"])
def go(address: str, request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Run a test in an event loop, with a client."""

    def run(test: Test) -> None:
        async def main() -> None:
            async with CacherClient(f"{address}/", api_prefix=request.param, timeout=60) as client:
                await test(client)

        asyncio.run(main())

    return run


def test_116_118_the_documented_arguments(go: Callable[[Test], None]) -> None:
    async def test(c: CacherClient) -> None:
        state = await c.create_state(
            model_id="tales", text="Hello world", config={"temperature": 0.7, "top_p": 0.9}
        )
        assert isinstance(state, StateDict)
        assert state.id == state["state_id"] == state.state_id
        assert state.metadata["text"] == "Hello world"
        with pytest.raises(AttributeError, match="nothing_of_that_name"):
            _ = state.nothing_of_that_name
        found = await c.generate_tokens(
            state_id=state.id, max_tokens=5, temperature=0.8, top_p=0.9, stop_sequences=["zzz"]
        )
        assert len(found["tokens"]) == 5
        found = await c.generate_beam(
            state_id=state.id, num_beams=3, max_length=4, diversity_penalty=0.5,
            early_stopping=True,
        )  # fmt: skip
        assert len(found["beams"]) == 3
        found = await c.analyze_attention(state_id=state.id, layer=5, threshold=0.1)
        assert found["layer"] == 5
        found = await c.inspect_cache(state_id=state.id, key_name="k", layer_range=[0, 1])
        assert found["layers_returned"] == [0, 1]
        assert (await c.delete_state(state.id))["status"] == "deleted"

    go(test)


def test_117_streams(go: Callable[[Test], None], capsys: pytest.CaptureFixture[str]) -> None:
    async def test(c: CacherClient) -> None:
        state, twin = [await c.create_state("tales", "Hello world") for _ in range(2)]
        done = await c.generate_tokens(state.id, 6, seed=3, stream=True)
        assert done == {"status": "stream complete"}
        plain = await c.generate_token(twin.id, 6, seed=3)
        assert capsys.readouterr().out == plain["text"]
        records = [record async for record in c.stream_tokens(state.id, 4, temperature=0)]
        assert [record["step"] for record in records] == [1, 2, 3, 4]
        async for _record in c.stream_tokens(twin.id, 100):
            break

    go(test)


def test_119_errors(go: Callable[[Test], None], dead_port: int) -> None:
    async def test(c: CacherClient) -> None:
        with pytest.raises(CacherAPIError, match="404") as caught:
            await c.get_state("nobody")
        assert caught.value.status_code == 404
        assert caught.value.details["code"] == "state_not_found"
        assert isinstance(caught.value, cacher.CacherError)
        with pytest.raises(CacherAPIError) as caught:
            await anext(c.stream_tokens("nobody"))
        assert caught.value.status_code == 404
        async with CacherClient(f"http://127.0.0.1:{dead_port}") as dead:
            for call in (dead.get_state("x"), anext(dead.stream_tokens("x"))):
                with pytest.raises(CacherAPIError, match="no response") as caught:
                    await call
                assert (caught.value.status_code, caught.value.details) == (None, "No response")

    go(test)


def test_every_method(go: Callable[[Test], None]) -> None:
    async def test(c: CacherClient) -> None:
        state = await c.create_state("tales", "Hello world", metadata={"a": 1})
        assert (await c.get_state(state.id)) == state
        assert (await c.list_states(limit=1))["states"][0]["state_id"] == state.id
        assert (await c.update_config(state.id, {"seed": 5}))["config"]["seed"] == 5
        fork = await c.fork_state(state.id, at=1)
        assert (fork.text, fork.forked_from) == ("Hello", state.id)
        assert (await c.merge_states([state.id, fork.id])).text == "Hello world"
        assert (await c.diff_states(state.id, fork.id))["common_prefix_text"] == "Hello"
        await c.create_checkpoint(state.id, "here")
        found = await c.generate(state_id=state.id, max_new_tokens=3)
        assert found["head_position"] == 5
        assert (await c.rollback(state.id, checkpoint="here")).text == "Hello world"
        events = (await c.get_history(state.id))["events"]
        assert [e["op"] for e in events] == ["create", "config", "generate", "rollback"]
        assert (await c.edit_state(fork.id, append_text=" there")).text == "Hello there"
        assert (await c.get_tree(state.id))["children"][0]["state_id"] == fork.id
        assert (await c.get_tree(state.id, format="text")).splitlines()[0].startswith(state.id)
        assert (await c.list_checkpoints(state.id))["checkpoints"][0]["name"] == "here"
        both = await c.export_states([state.id, fork.id])
        assert [s["text"] for s in (await c.import_state(both))["states"]] == [
            "Hello world",
            "Hello there",
        ]
        document = await c.export_state(state.id)
        assert document["format"] == "cacher-state"
        packed = await c.export_state(state.id, format="binary", compress="gzip")
        for data in (document, packed):
            assert (await c.import_state(data)).text == "Hello world"
        greedy = await c.generate_beam(state.id, 3, 2, top_k=1, stop_sequences=["zzz"])
        assert len(greedy["beam_details"]) == 1
        judged = await c.create_state("tales", "Hello world", token_analysis=True)
        assert [one["token"] for one in judged.token_analysis] == ["Hello", " world"]
        assert len((await c.generate_multi(state.id, n=2, max_tokens=2))["continuations"]) == 2
        assert (await c.forward(" and", state_id=state.id))["token_count"] == 3
        tokens = (await c.tokenize("Hello world"))["tokens"]
        assert (await c.detokenize(tokens))["text"] == "Hello world"
        assert len((await c.get_top_n_tokens(state.id, n=2))["tokens"]) == 2
        assert (await c.analyze_tokens(state.id))["token_count"] == 3
        assert (await c.attention_heatmap(state.id, layer=0, head=1)).startswith("<!DOCTYPE html>")
        heads = (await c.head_importance(state.id, layer=2))["heads"]
        assert {head["layer"] for head in heads} == {2}
        assert (await c.get_cache_stats())["states_in_memory"] > 0
        found = await c.classify(state.id, labels=["happy", "sad"])
        assert len(found["scores"]) == 2
        assert (await c.get_embedding(state.id, token_index=0))["dimension"] == 256
        assert "tales" in [model["model_id"] for model in await c.list_models()]
        assert (await c.get_model("tales"))["model_type"] == "causal_lm"

    go(test)


def test_a_run_is_cancelled() -> None:
    async def main(address: str) -> None:
        async with CacherClient(address) as c:
            state = await c.create_state("tales", "Hello world")
            records = []
            async for record in c.stream_tokens(state.id, 1000, min_tokens=1000):
                if not records:
                    assert await c.cancel(record["request_id"])
                records.append(record)
            assert records[-1]["finish_reason"] == "cancelled"
            assert len(records) < 1000
            assert not await c.cancel(record["request_id"])

    with over_socket(MAX_TOKENS_PER_REQUEST=1000) as address:
        asyncio.run(main(address))


def test_what_is_not_given_is_not_sent() -> None:
    assert repr(UNSET) == "UNSET"
    signature = inspect.signature(CacherClient.generate_tokens)
    assert signature.parameters["temperature"].default is UNSET


def test_keys_are_sent_and_tenants_do_not_see_each_other() -> None:
    keys = Settings.from_env({"CACHER_API_KEYS": "ann:a-key,bob:b-key"}).API_KEYS

    async def main(address: str) -> None:
        async with (
            CacherClient(address, api_key="a-key") as ann,
            CacherClient(address, api_key="b-key") as bob,
            CacherClient(address) as nobody,
        ):
            mine = await ann.create_state("tales", "Hello", state_id="same")
            theirs = await bob.create_state("tales", "Other", state_id="same")
            assert (mine.id, theirs.id) == ("same", "same")
            assert (await ann.get_state("same")).text == "Hello"
            await ann.delete_state("same")
            assert (await bob.get_state("same")).text == "Other"
            assert (await ann.list_states())["total"] == 0
            with pytest.raises(CacherAPIError, match="401"):
                await nobody.list_models()

    with over_socket(API_KEY_REQUIRED=True, API_KEYS=keys) as address:
        asyncio.run(main(address))


def test_missing_httpx_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(cacher.MissingExtraError, match=r"pip install 'cacher\[client\]'"):
        importlib.reload(connection)
