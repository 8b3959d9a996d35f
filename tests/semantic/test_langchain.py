"""The cache of LangChain's models, with models of LangChain's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import (
    FakeListChatModel,
    FakeListLLM,
    GenericFakeChatModel,
)
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation

import cacher
from cacher import SemanticCache
from cacher.semantic.langchain import LangChainCache

A, B = "What is machine learning?", "Can you explain machine learning?"
FAR = "How do I bake bread?"
ANSWER = [Generation(text="Programs that learn.")]


@pytest.fixture
def cache(make: Callable[..., SemanticCache]) -> LangChainCache:
    return LangChainCache(make())


@pytest.fixture
def everywhere(cache: LangChainCache) -> Iterator[LangChainCache]:
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


def chat(*messages: BaseMessage) -> str:
    """A prompt as LangChain's chat models give it to a cache."""
    return dumps(list(messages))


def said(text: str, **fields: Any) -> list[ChatGeneration]:
    return [ChatGeneration(message=AIMessage(text, **fields), generation_info={"stop": "end"})]


def test_texts_that_mean_the_same_share_an_answer(cache: LangChainCache) -> None:
    assert cache.lookup(A, "model a") is None
    cache.update(A, "model a", ANSWER)
    for prompt in (A, B):
        assert cache.lookup(prompt, "model a") == ANSWER
        assert asyncio.run(cache.alookup(prompt, "model a")) == ANSWER
    assert cache.lookup(FAR, "model a") is None
    assert asyncio.run(cache.alookup(FAR, "model a")) is None


def test_models_and_settings_never_share(cache: LangChainCache) -> None:
    cache.update(A, "model a", ANSWER)
    cache.update(A, "model b", [Generation(text="of b")])
    for settings in ("model c", "model a ", "", "model a---[('stop', None)]"):
        assert cache.lookup(A, settings) is None
        assert cache.lookup(B, settings) is None
    assert cache.lookup(B, "model b") == [Generation(text="of b")]
    long = "word " * 3000  # only its own answer: in a tenant that all share
    cache.update(long, "model a", ANSWER)
    assert cache.lookup(long, "model a") == ANSWER
    assert cache.lookup(long, "model b") is None


def test_the_guard_is_asked(cache: LangChainCache) -> None:
    cache.update("How do I turn on dark mode?", "m", ANSWER)
    assert cache.lookup("How do I turn off dark mode?", "m") is None


def test_chats_share_by_their_question(cache: LangChainCache) -> None:
    system = SystemMessage("You are a teacher.")
    answer = said("Programs that learn.")
    cache.update(chat(system, HumanMessage(A)), "m", answer)
    assert cache.lookup(chat(system, HumanMessage(A)), "m") == answer
    assert cache.lookup(chat(system, HumanMessage(B)), "m") == answer
    assert cache.lookup(chat(system, HumanMessage(FAR)), "m") is None
    for other in (
        chat(HumanMessage(B)),
        chat(SystemMessage("You are a pirate."), HumanMessage(B)),
        chat(system, system, HumanMessage(B)),
        chat(system, HumanMessage(B, name="Ann")),
        chat(system, HumanMessage(B, additional_kwargs={"tone": "rude"})),
        chat(HumanMessage(B), system),
        B,
    ):
        assert cache.lookup(other, "m") is None
        assert cache.lookup(other.replace(B, A), "m") is None


def test_what_has_a_history_gets_only_its_own_answer(cache: LangChainCache) -> None:
    def history(question: str, reply: str = "Yes.") -> str:
        return chat(HumanMessage("Is it so?"), AIMessage(reply), HumanMessage(question))

    answer = said("Programs that learn.")
    cache.update(history(A), "m", answer)
    assert cache.lookup(history(A), "m") == answer
    assert asyncio.run(cache.alookup(history(A), "m")) == answer
    for other in (history(B), history(A, "No."), chat(HumanMessage(A)), chat(HumanMessage(B))):
        assert cache.lookup(other, "m") is None
    parts = chat(HumanMessage([{"type": "text", "text": A}]))
    cache.update(parts, "m", answer)
    assert cache.lookup(parts, "m") == answer
    assert cache.lookup(chat(HumanMessage([{"type": "text", "text": B}])), "m") is None


def test_what_the_embedder_does_not_read_is_not_compared(cache: LangChainCache) -> None:
    """MiniLM reads 256 tokens: texts that differ behind them have the same vector."""
    one, two = "猫" * 300 + " cats", "猫" * 300 + " dogs"
    cache.update(one, "m", ANSWER)
    assert cache.lookup(one, "m") == ANSWER
    assert cache.lookup(two, "m") is None
    wide = LangChainCache(cache._cache, name="wide", max_length=32_768)
    start = "word " * 300
    wide.update(start + "cats", "m", ANSWER)
    assert wide.lookup(start + "dogs", "m") is None
    assert wide.lookup(start + "cats", "m") == ANSWER


@pytest.mark.parametrize(
    "prompt", ["", " \n", "\0", "[]", "[1]", "{}", "[" * 100_000, "\ud800", "😀" * 40_000]
)
def test_any_prompt_is_a_prompt(cache: LangChainCache, prompt: str) -> None:
    assert cache.lookup(prompt, "m") is None
    cache.update(prompt, "m", ANSWER)
    assert cache.lookup(prompt, "m") == ANSWER
    assert cache.lookup(prompt + "x" * 2000, "m") is None


def test_answers_come_back_as_they_were(cache: LangChainCache) -> None:
    usage = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    answers: list[Any] = [
        [
            Generation(
                text="a\0\n😀", generation_info={"finish_reason": "stop", "x": [1, 2.5, None]}
            )
        ],
        [Generation(text=""), Generation(text="two"), Generation(text="\ud800")],
        said("plain", usage_metadata=usage, response_metadata={"model": "m"}, id="run-1"),
        said([{"type": "text", "text": "part"}, {"type": "reasoning", "reasoning": "so"}]),
        said("escaped", additional_kwargs={"lc": 1, "type": "constructor", "id": ["os", "system"]}),
        [],
    ]
    for n, answer in enumerate(answers):
        cache.update(f"{A} {n}", f"m{n}", answer)
        found = cache.lookup(f"{A} {n}", f"m{n}")
        assert found == answer
        assert found is not None
        assert [type(each) for each in found] == [type(each) for each in answer]


def test_an_answer_that_calls_tools_is_for_its_own_prompt(cache: LangChainCache) -> None:
    call = {"name": "book", "args": {"seats": 2}, "id": "1", "type": "tool_call"}
    answer = said("", tool_calls=[call])
    cache.update(chat(HumanMessage("Book a table.")), "m", answer)
    assert cache.lookup(chat(HumanMessage("Book a table.")), "m") == answer
    assert cache.lookup(chat(HumanMessage("Please book a table.")), "m") is None


@pytest.mark.parametrize(
    "answer",
    [
        [Generation(text="x" * 70_000)],
        [Generation(text="x", generation_info={"value": float("nan")})],
        [Generation(text="x", generation_info={"value": object()})],
        [Generation(text="x", generation_info={"value": (1, 2)})],
        [ChatGeneration(message=HumanMessage("no answer"))],
    ],
)
def test_what_does_not_come_back_is_not_kept(cache: LangChainCache, answer: Any) -> None:
    cache.update(A, "m", answer)
    assert cache.lookup(A, "m") is None


def test_no_stored_data_names_a_class(
    cache: LangChainCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.update(A, "m", ANSWER)
    (tenant,) = [each for each in cache._cache.tenants() if not each.endswith("exact")]
    evil = {"lc": 1, "type": "constructor", "id": ["builtins", "exec"], "kwargs": {"x": "1/0"}}
    for data in (
        "", "null", "{}", "[1]",
        '[{"text": null}]', '[{"text": 1}]', '[{"message": {}}]', "[" * 10**5,
        json.dumps([evil]), json.dumps([{"message": evil}]), json.dumps([{"text": evil}]),
    ):  # fmt: skip
        cache._cache.put(A, data, tenant=tenant)
        caplog.clear()
        assert cache.lookup(A, "m") is None
        assert "holds no answer of a model" in caplog.text
    cache.update(A, "m", ANSWER)
    assert cache.lookup(A, "m") == ANSWER


def test_clearing_forgets_this_cache_only(make: Callable[..., SemanticCache]) -> None:
    shared = make()
    shared.put(A, "of somebody else")
    one, two = LangChainCache(shared, name="one"), LangChainCache(shared, name="one-")
    for cache in (one, two):
        cache.update(A, "m", ANSWER)
        cache.update("long " * 300, "m", ANSWER)
    asyncio.run(one.aclear())
    assert one.lookup(A, "m") is None
    assert one.lookup("long " * 300, "m") is None
    assert two.lookup(B, "m") == ANSWER
    assert two.lookup("long " * 300, "m") == ANSWER
    assert len(shared.entries()[0]) == 1
    two.clear()
    assert two.lookup(A, "m") is None


def test_clearing_reaches_what_was_stored_before(
    make: Callable[..., SemanticCache], tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'entries.sqlite3'}"
    with make(store=store) as first:
        LangChainCache(first).update(A, "m", ANSWER)
        LangChainCache(first).update(A, "other", ANSWER)
    second = make(store=store)
    cache = LangChainCache(second)
    assert cache.lookup(B, "m") == ANSWER
    cache.clear()
    assert cache.lookup(B, "m") is cache.lookup(A, "other") is None
    assert second._store is not None
    assert second._store.tenants() == []


def test_partitions_are_bounded(make: Callable[..., SemanticCache]) -> None:
    cache = LangChainCache(make(), max_partitions=2)
    for n in range(5):
        cache.update(A, f"model {n}", [Generation(text=str(n))])
    for n in range(5):
        assert cache.lookup(A, f"model {n}") == [Generation(text=str(n))]
        assert (cache.lookup(B, f"model {n}") is not None) == (n < 2)
    assert len(cache._cache.tenants()) == 3


@pytest.mark.parametrize("name", ["", "a.b", "a b", "ä", "x" * 65])
def test_names_are_checked(make: Callable[..., SemanticCache], name: str) -> None:
    with pytest.raises(cacher.ParameterError, match="letters, digits"):
        LangChainCache(make(), name=name)


def test_chat_models_use_it(everywhere: LangChainCache) -> None:
    model = FakeListChatModel(responses=["first", "second", "third"])
    assert model.invoke(A).content == "first"
    assert model.invoke(B).content == "first"
    assert model.invoke([SystemMessage("Be brief."), HumanMessage(B)]).content == "second"
    assert model.invoke(B, stop=["x"]).content == "third", "other settings"
    assert asyncio.run(model.ainvoke(B)).content == "first"
    everywhere.clear()
    assert model.invoke(B).content == "first", "the list begins anew"
    assert model.invoke(A).content == "first"


@pytest.mark.usefixtures("everywhere")
def test_text_models_use_it() -> None:
    model = FakeListLLM(responses=["first", "second", "third"])
    assert model.invoke(A) == model.invoke(B) == asyncio.run(model.ainvoke(A)) == "first"
    assert model.invoke(FAR) == "second"
    assert model.batch([FAR, B]) == ["second", "first"]


def test_streams_of_messages_are_cached(everywhere: LangChainCache) -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("only once")]))
    assert model.invoke(A).content == "only once"
    assert model.invoke(B).content == "only once"
    assert everywhere.lookup(A, "another") is None


@pytest.mark.usefixtures("everywhere")
def test_lookups_at_the_same_time() -> None:
    model = FakeListLLM(responses=["first", "second"])
    model.invoke(A)

    async def ask() -> list[str]:
        return await asyncio.gather(*[model.ainvoke(prompt) for prompt in [A, B] * 20])

    assert asyncio.run(ask()) == ["first"] * 40


def test_a_missing_package_is_one_sentence() -> None:
    code = """
import sys
sys.modules["langchain_core"] = None
import cacher
try:
    import cacher.semantic.langchain
except cacher.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("needs LangChain: pip install 'cacher[langchain]'\n")
