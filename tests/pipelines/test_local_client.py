"""`AsyncLocal` and `Local`: completions of a local model, kept and repeated."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import cacher
from cacher.pipelines.local import AsyncLocal, ChatCompletion, Local, LocalLLM
from cacher.typedefs import Request
from tests.pipelines.test_local import full

STORY = [{"role": "user", "content": "Once upon a time there was a fox who"}]


def local(model: Any, folder: Path, **options: Any) -> Local:
    return Local(model, cachedir=folder, **{"max_new_tokens": 12, **options})


def test_122_a_replay_in_another_process_returns_the_same_object(
    model: cacher.Model, tmp_path: Path
) -> None:
    with local(model, tmp_path) as client:
        answer, info = client.chat.completions.create(messages=STORY, n=3, metadata=True)
        assert info.cached == [False, False, False]
    code = (
        "import json, sys; from tests.pipelines.test_local_client import *\n"
        "with local('tales', sys.argv[1], threads=1) as client:\n"
        "    answer, info = client.chat.completions.create(messages=STORY, n=3, metadata=True)\n"
        "    stats = client.model.llm.engine.stats\n"
        "    print(json.dumps([answer.model_dump(), info.cached, stats.passes, stats.tokens]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    dumped, cached, *counts = json.loads(done.stdout)
    assert ChatCompletion.model_validate(dumped) == answer
    assert cached == [True, True, True]
    assert counts == [0, 0]


def test_a_completion_has_the_fields_of_openais(model: cacher.Model, tmp_path: Path) -> None:
    before = int(time.time())
    with local(model, tmp_path, temperature=0.8) as client:
        answer = client.chat.completions.create(model="any", messages=STORY, n=2, stop=" a")
        none = client.chat.completions.create(messages=STORY, n=0)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert before <= answer.created <= time.time()
    assert answer.model == "tales"
    assert [choice.index for choice in answer.choices] == [0, 1]
    plain = LocalLLM(model, max_new_tokens=12, temperature=0.8)
    asked = Request((), {"model": "any", "messages": STORY, "stop": " a"}, 2, "1", None)
    samples = asyncio.run(plain.draw(asked))
    for choice, sample in zip(answer.choices, samples, strict=True):
        assert (choice.message.role, choice.message.content) == ("assistant", sample.text)
        assert choice.finish_reason == sample.finish_reason
    assert {sample.finish_reason for sample in samples} <= {"stop", "length"}
    prompt = len(model.state(STORY[0]["content"]))
    new = sum(sample.completion_tokens for sample in samples)
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt, new)
    assert usage.total_tokens == prompt + new
    assert none.choices == []


@pytest.mark.parametrize("options", [{"temperature": 0.5}, {"seed": 1}, {"max_new_tokens": 11}])
def test_a_client_made_otherwise_has_samples_of_its_own(
    model: cacher.Model, tmp_path: Path, options: dict[str, Any]
) -> None:
    for made, cached in (({}, False), (options, False), ({}, True), (options, True)):
        with local(model, tmp_path, **made) as client:
            _, info = client.chat.completions.create(messages=STORY, metadata=True)
            assert info.cached == [cached]


def test_a_bad_request_fails_alone(model: cacher.Model, tmp_path: Path) -> None:
    async def main() -> list[Any]:
        async with AsyncLocal(model, cachedir=tmp_path, max_new_tokens=4) as client:
            create = client.chat.completions.create
            long = [{"role": "user", "content": "the fox " * 2000}]
            calls = [create(messages=m) for m in (STORY, long, STORY)]
            return await asyncio.gather(*calls, return_exceptions=True)

    first, error, second = asyncio.run(main())
    assert isinstance(error, cacher.ContextOverflowError)
    assert first.choices[0].message.content != second.choices[0].message.content


def test_many_calls_keep_the_batch_full(model: cacher.Model, tmp_path: Path) -> None:
    async def main() -> tuple[int, dict[str, int], float]:
        async with AsyncLocal(model, cachedir=tmp_path, max_new_tokens=24, stop=".") as client:
            create, llm = client.chat.completions.create, client.model.llm
            prompts = [f"Animal {i % 20} went to the river and the" for i in range(200)]
            work = asyncio.gather(*(create(messages=[{"content": p}]) for p in prompts))
            _, share = await full(llm, work)
            return llm.engine.stats.finished, client.stats(), share

    finished, stats, share = asyncio.run(main())
    assert stats["model_samples"] == finished == 200
    assert share > 0.75


def test_the_synchronous_client_works_within_a_running_loop(
    model: cacher.Model, tmp_path: Path
) -> None:
    async def main() -> Any:
        with local(model, tmp_path) as client:
            return client.chat.completions.create(messages=STORY)

    assert len(asyncio.run(main()).choices) == 1
