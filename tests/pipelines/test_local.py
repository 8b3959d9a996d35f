"""The package's own model behind the pipelines' protocols: samples, seeds, errors and time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

import pytest

import cacher
from cacher import Engine
from cacher.pipelines.llm import LocalLLM
from cacher.typedefs import Batch, Request, Response, derived
from cacher.typedefs import hash as key_of

T = TypeVar("T")
FOX = "Once upon a time there was a fox who lived in the deep wood with his friend, the hare."


def ask(prompt: Any = FOX, n: int = 1, request_id: str = "1", **kwargs: Any) -> Request:
    return Request(args=(), kwargs=kwargs, n=n, request_id=request_id, namespace="t", prompt=prompt)


def at(index: int, request: Request) -> Request:
    """The request as a cacher passes it on."""
    return derived(request, sample_index=index)


def run(main: Awaitable[T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(main, 60)

    return asyncio.run(bounded())


def use(llm: LocalLLM, used: Callable[[LocalLLM], Awaitable[T]]) -> T:
    async def main() -> T:
        async with llm:
            return await used(llm)

    return run(main())


def texts(llm: LocalLLM, request: Request) -> list[str]:
    return use(llm, lambda it: it.request(request)).data


def drawn(model: cacher.Model, request: Request, index: int, n: int = 12, seed: int = 42) -> str:
    """Sample `index` of a request by the rule of the specification, from the plain model."""
    hashed = sha256(
        seed.to_bytes(8, "little") + key_of(request).encode() + index.to_bytes(8, "little")
    ).digest()
    said = model.generate(
        request.prompt, n, temperature=0.8, top_k=50, top_p=1.0,
        seed=int.from_bytes(hashed[:8], "little"),
    )  # fmt: skip
    return said.text


def llm_of(model: cacher.Model | Engine, **options: Any) -> LocalLLM:
    return LocalLLM(model, **{"max_new_tokens": 12, "temperature": 0.8, **options})


def test_119_a_sample_is_the_same_alone_in_company_and_after_a_restart(model: cacher.Model) -> None:
    prompts = [FOX, "The hare said", *(f"Number {i} ran" for i in range(6))]
    wanted = [[drawn(model, ask(prompt), i) for i in range(3)] for prompt in prompts]
    assert len(set(wanted[0])) == 3
    for prompt, samples in zip(prompts[:2], wanted, strict=False):
        assert texts(llm_of(model), ask(prompt, 3)) == samples
        assert texts(llm_of(model), at(1, ask(prompt, 2))) == samples[1:]
        alone = llm_of(model)
        assert [texts(alone, at(i, ask(prompt))) for i in (2,)] == [samples[2:]]
    model.drop_cached()
    eight = [at(i % 3, ask(prompt, 3 - i % 3)) for i, prompt in enumerate(prompts)]
    answers = use(llm_of(model), lambda llm: llm.batch_request(Batch(eight)))
    for i, answer in enumerate(answers):
        assert answer == Response(wanted[i][i % 3 :], None, None)


def test_119_another_process_draws_the_same(model: cacher.Model) -> None:
    code = (
        "import asyncio; from tests.pipelines.test_local import *\n"
        "llm = llm_of(cacher.load('tales', threads=1), max_batch=1)\n"
        "print(ascii(asyncio.run(llm.request(ask(n=2))).data))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    begun = [drawn(model, ask(), i) for i in range(2)]
    assert done.stdout == f"{begun!a}\n"
    assert texts(llm_of(model), at(2, ask(n=1))) == [drawn(model, ask(), 2)]


def test_without_an_index_samples_are_counted_by_key(model: cacher.Model) -> None:
    async def used(llm: LocalLLM) -> None:
        first, second, other = await llm.batch_request(
            Batch([ask(n=2), ask(n=1, request_id="2"), ask("The hare said")])
        )
        assert [*first.data, *second.data] == [drawn(model, ask(), i) for i in range(3)]
        assert other.data == [drawn(model, ask("The hare said"), 0)]
        assert (await llm.request(ask())).data == [drawn(model, ask(), 3)]
        assert (await llm.request(at(0, ask()))).data == [drawn(model, ask(), 0)]
        assert (await llm.request(ask())).data == [drawn(model, ask(), 4)]

    use(llm_of(model), used)


def test_the_seed_has_64_bits(model: cacher.Model) -> None:
    assert texts(llm_of(model, seed=2**64 - 1), ask()) == [drawn(model, ask(), 0, seed=2**64 - 1)]
    asked = ask(seed=7)
    assert texts(llm_of(model), asked) == [drawn(model, asked, 0, seed=7)]


def test_at_temperature_0_all_samples_are_equal(model: cacher.Model) -> None:
    greedy = model.generate(FOX, 12, temperature=0).text
    assert texts(llm_of(model, temperature=0), ask(n=3)) == [greedy] * 3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_new_tokens"])
def test_a_request_overrides_what_the_model_was_made_with(model: cacher.Model, name: str) -> None:
    wanted = model.generate(FOX, 5, temperature=0).text
    asked = ask(**{name: 5, "temperature": 0.0, "top_k": None, "user": "ignored"})
    assert texts(llm_of(model), asked) == [wanted]

    @dataclass(frozen=True)
    class Asked(Request):
        temperature: float

    field = Asked((), {name: 5}, 1, "1", None, 0.0, prompt=FOX)
    assert texts(llm_of(model), field) == [wanted]


def test_a_stop_sequence_ends_a_sample_and_is_no_part_of_it(model: cacher.Model) -> None:
    whole = model.generate(FOX, 30, temperature=0).text
    stop = whole[10:14]
    cut = whole[: whole.index(stop)]
    options = {"temperature": 0, "max_new_tokens": 30}
    assert texts(llm_of(model, **options, stop=stop), ask()) == [cut]
    assert texts(llm_of(model, **options), ask(stop=[stop, "~"])) == [cut]
    assert texts(llm_of(model, **options, stop=stop), ask(stop=[])) == [whole]


def test_the_prompt_is_found_where_it_was_put(model: cacher.Model) -> None:
    message = {"role": "user", "content": FOX}
    parts = {"role": "user", "content": [{"type": "text", "text": FOX}]}
    forms: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (FOX, (), {}), ([message], (), {}), (None, (), {"messages": [message]}),
        (None, (), {"messages": [parts]}), (None, (), {"prompt": FOX}), (None, (FOX,), {}),
        (None, ([message],), {}),
    ]  # fmt: skip
    asked = [Request(args, kwargs, 1, "1", None, prompt=p) for p, args, kwargs in forms]
    llm = llm_of(model, temperature=0)
    answers = use(llm, lambda llm: llm.batch_request(Batch(asked)))
    assert [answer.data for answer in answers] == [answers[0].data] * len(forms)
    two = [{"role": "system", "content": "One."}, {"role": "user", "content": "Two."}]
    wanted = model.generate("One.\nTwo.", 12, temperature=0).text
    assert texts(llm_of(model, temperature=0), ask(two)) == [wanted]


def test_a_chat_model_reads_what_its_tokenizer_makes_of_messages(model: cacher.Model) -> None:
    class Chat:
        def apply_chat_template(
            self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool
        ) -> str:
            assert not tokenize
            assert add_generation_prompt
            return "".join(f"{m['role']}: {m['content']}\n" for m in conversation) + "fox:"

    wanted = model.generate("user: Who?\nfox:", 12, temperature=0).text
    for asked in (ask("Who?"), ask([{"role": "user", "content": "Who?"}])):
        assert texts(llm_of(model, temperature=0, tokenizer=Chat()), asked) == [wanted]


def test_121_who_cannot_be_run_fails_alone(model: cacher.Model) -> None:
    full = [*model.tokenizer.encode("a " * 1024)][:1024]
    bad = {
        "long": (ask("the fox " * 2000), cacher.ContextOverflowError, "1024"),
        "full": (ask(model.tokenizer.decode(full)), cacher.ContextOverflowError, "no room|1024"),
        "nothing": (ask(None), ValueError, "no prompt"),
        "cold": (ask(temperature=-1), cacher.ParameterError, "temperature is -1"),
        "stop": (ask(stop=5), TypeError, "stop"),
        "seed": (ask(seed=-1), cacher.ParameterError, "seed is -1"),
        "few": (ask(max_tokens=0), cacher.ParameterError, "max_tokens is 0"),
        "number": (ask(5), TypeError, "int"),
        "picture": (
            ask([{"role": "user", "content": [{"type": "image_url"}]}]), ValueError, "image_url",
        ),
        "surrogate": (ask("\ud800"), cacher.EncodingError, "D800"),
    }  # fmt: skip

    async def used(llm: LocalLLM) -> None:
        asked = [ask(), *(request for request, _, _ in bad.values()), ask("The hare said")]
        first, *failed, last = await llm.batch_request(Batch(asked))
        assert first.data == [drawn(model, ask(), 0)]
        assert last.data == [drawn(model, ask("The hare said"), 0)]
        for (request, kind, words), error in zip(bad.values(), failed, strict=True):
            assert isinstance(error, kind), request
            with pytest.raises(kind, match=words):
                await llm.request(request)
        assert (await llm.request(ask(n=0))).data == []

    use(llm_of(model), used)


@contextmanager
def watched(late: list[float]) -> Iterator[None]:
    """Notes how late a timer of 10 ms is."""

    async def tick() -> None:
        while True:
            due = time.perf_counter() + 0.01
            await asyncio.sleep(0.01)
            late.append(time.perf_counter() - due)

    ticking = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        ticking.cancel()


def test_120_the_event_loop_is_never_kept_waiting(model: cacher.Model) -> None:
    worst = []

    async def used(llm: LocalLLM) -> None:
        for _ in range(3):  # somebody else may use the machine for a moment
            late: list[float] = []
            with watched(late):
                await llm.batch_request(Batch([ask(f"{i} {FOX}") for i in range(8)]))
            assert len(late) > 1
            worst.append(max(late))

    use(llm_of(model, max_new_tokens=64), used)
    assert min(worst) < 0.1


def test_cancelling_stops_within_a_token(model: cacher.Model) -> None:
    async def used(llm: LocalLLM) -> None:
        asked = Batch([ask(f"{i} {FOX}", max_tokens=800) for i in range(4)])
        batch = asyncio.ensure_future(llm.batch_request(asked))
        several = asyncio.ensure_future(llm.request(ask("The hare", 4, max_tokens=800)))
        while llm.engine.stats.tokens < 8:
            await asyncio.sleep(0.001)
        batch.cancel()
        several.cancel()
        for task in (batch, several):
            with pytest.raises(asyncio.CancelledError):
                await task
        stats = llm.engine.stats
        assert (stats.running, stats.waiting, stats.cancelled) == (0, 0, 8)
        assert stats.tokens < 8 * 800
        assert (await llm.request(at(0, ask()))).data == [drawn(model, ask(), 0)]

    use(llm_of(model), used)


def test_equal_prompts_are_read_once(model: cacher.Model) -> None:
    async def used(llm: LocalLLM) -> None:
        model.drop_cached()
        before = model.stats.tokens_computed
        asked = [ask(n=4, max_tokens=1), *(ask(request_id=str(i), max_tokens=1) for i in range(8))]
        await llm.batch_request(Batch(asked))
        # The last token of each sample is drawn, but never read.
        assert model.stats.tokens_computed - before == len(model.state(FOX))

    use(llm_of(model), used)


async def full(llm: LocalLLM, work: Awaitable[T]) -> tuple[T, float]:
    """Return what work returns, and which share of 8 places was taken, from the first token on."""
    working = asyncio.ensure_future(work)
    running = []
    while not working.done():
        stats = llm.engine.stats
        running += [stats.running] if stats.tokens else []
        await asyncio.sleep(0.001)
    return await working, sum(running) / len(running) / 8


def test_a_thousand_requests_keep_the_batch_full(model: cacher.Model) -> None:
    prompts = [f"{i} {FOX}" for i in range(10)]

    async def used(llm: LocalLLM) -> None:
        asked = [ask(prompts[i // 100], request_id=str(i), stop=".") for i in range(1000)]
        answers, share = await full(llm, llm.batch_request(Batch(asked)))
        assert len({answer.data[0] for answer in answers}) > 500
        stats = llm.engine.stats
        assert stats.finished == 1000
        assert stats.rejected == 0
        assert share > 0.75  # 0.97 where nobody else uses the machine

    use(llm_of(model, max_new_tokens=6), used)


def test_one_model_serves_one_event_loop_after_another(model: cacher.Model) -> None:
    llm = llm_of(model, max_batch=1)
    wanted = [drawn(model, ask(), i) for i in range(4)]
    assert run(llm.request(ask(n=4))).data == wanted
    assert run(llm.request(at(0, ask(n=4)))).data == wanted
    assert len(llm._desks) == 1  # what the first loop had is gone
    run(llm.aclose())
    with pytest.raises(cacher.EngineClosedError):
        run(llm.request(ask()))


def test_an_engine_that_is_given_is_used_and_left_open(model: cacher.Model) -> None:
    async def main() -> None:
        async with Engine(model) as engine:
            async with llm_of(engine, max_batch=3) as llm:
                answer = await llm.request(ask(n=6))
                assert answer.data == [drawn(model, ask(), i) for i in range(6)]
            assert engine.stats.finished == 6
            state = model.state(FOX)
            assert (await engine.generate(state, 1)).token_ids
            running = asyncio.ensure_future(llm.request(ask(max_tokens=900)))
            while not engine.stats.running:
                await asyncio.sleep(0.001)
        with pytest.raises(cacher.EngineClosedError):
            await running

    run(main())


def test_arguments_are_checked(model: cacher.Model, tiny_folder: Any) -> None:
    for options, words in (
        ({"max_batch": 0}, "max_batch is 0"), ({"max_batch": 257}, "max_batch is 257"),
        ({"max_new_tokens": 0}, "max_tokens is 0"), ({"temperature": -1}, "temperature is -1"),
        ({"seed": 2**64}, "seed is"), ({"stop": ""}, "stop sequence"), ({"top_p": 2}, "top_p is 2"),
    ):  # fmt: skip
        with pytest.raises(cacher.ParameterError, match=words):
            LocalLLM(model, **options)  # type: ignore[arg-type]
    with pytest.raises(cacher.WrongModelTypeError):
        LocalLLM("minilm")
    with pytest.raises(cacher.TokenizerError):
        LocalLLM(tiny_folder)
    assert repr(LocalLLM(model)) == "<LocalLLM 'tales', seed 42>"
