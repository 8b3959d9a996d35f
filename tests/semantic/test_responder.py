"""What answers: the same in-process and through an engine, whatever it is asked."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import cacher
from cacher.semantic.responder import (
    FunctionResponder,
    LmResponder,
    Responder,
    Response,
    TemplateResponder,
)

QUESTIONS = ["Who lives in the forest?", "x", "fox " * 8000, "Ä\nÖ", "<|endoftext|>"]


def through_an_engine(model: cacher.Model, query: str, tenant: str = "") -> Response:
    async def main() -> Response:
        async with cacher.Engine(model) as engine:
            return await LmResponder(model, engine=engine).arespond(query, tenant=tenant)

    return asyncio.run(main())


@pytest.mark.parametrize("query", QUESTIONS, ids=lambda query: query[:12])
def test_an_answer_is_one_line_and_the_same_everywhere(model: cacher.Model, query: str) -> None:
    responder = LmResponder(model)
    answer = responder(query)
    assert answer
    assert answer.source in ("lm:tales", "template")
    assert answer.source == "template" or "\n" not in answer
    for other in (
        asyncio.run(responder.arespond(query)),
        through_an_engine(model, query),
        through_an_engine(model, query, "ann"),
    ):
        assert (other, other.source) == (answer, answer.source)


def test_it_is_the_greedy_continuation(model: cacher.Model) -> None:
    state = model.state("Question: Who lives in the forest?\nAnswer:")
    text = state.generate(64, temperature=0.0).text.partition("\n")[0].strip()
    assert LmResponder(model)("Who lives in the forest?") == text
    state = model.state("Question: Who lives in the forest?\nAnswer:")
    text = state.generate(3, temperature=0.0).text.partition("\n")[0].strip()
    assert LmResponder(model, max_tokens=3)("Who lives in the forest?") == text


def test_a_run_that_is_cut_gives_no_answer(model: cacher.Model) -> None:
    async def main() -> None:
        engine = cacher.Engine(model)
        asking = asyncio.create_task(
            LmResponder(model, max_tokens=4096, engine=engine).arespond(
                "What is the capital of France?"
            )
        )
        while not engine.stats.running:
            assert not asking.done()
            await asyncio.sleep(0.001)
        await engine.aclose()
        with pytest.raises(cacher.EngineClosedError):
            await asking

    asyncio.run(main())


def test_the_template_is_one_sentence_with_the_query() -> None:
    responder = TemplateResponder()
    answer = responder("Why?")
    assert "Why?" in answer
    assert answer.source == "template"
    assert asyncio.run(responder.arespond("Why?")) == answer


MODULE = """
import asyncio
def plain(query): return query.upper()
async def late(query):
    await asyncio.sleep(0)
    return query.upper()
def handed(query): return late(query)
def nothing(query): return ""
def number(query): return 5
def long(query): return "x" * 100_000
answer = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "answers_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "answers_of_a_test", raising=False)
    return "answers_of_a_test"


@pytest.mark.parametrize("name", ["plain", "late", "handed"])
def test_functions_answer(module: str, name: str) -> None:
    responder: Responder = FunctionResponder(f"{module}:{name}")
    for answer in (responder("why?"), asyncio.run(responder.arespond("why?"))):
        assert (answer, answer.source) == ("WHY?", name)


def test_long_answers_are_cut(module: str) -> None:
    assert FunctionResponder(f"{module}:long")("why?") == "x" * 65_536


@pytest.mark.parametrize(("name", "error"), [("nothing", ValueError), ("number", TypeError)])
def test_what_is_no_answer_is_refused(module: str, name: str, error: type[Exception]) -> None:
    responder = FunctionResponder(f"{module}:{name}")
    with pytest.raises(error, match=name):
        responder("why?")
    with pytest.raises(error, match=name):
        asyncio.run(responder.arespond("why?"))


@pytest.mark.parametrize("name", ["no_such_module:f", "answers_of_a_test:no", "textwrap:no"])
def test_functions_that_are_not_there(module: str, name: str) -> None:
    assert module
    with pytest.raises(cacher.ParameterError, match="cannot be imported"):
        FunctionResponder(name)
    with pytest.raises(cacher.ParameterError, match="is a int, allowed: a function"):
        FunctionResponder(f"{module}:answer")
