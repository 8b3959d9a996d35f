"""The local model behind `OrderedLocalAPI`: the same bits whatever the batch, arrival and cache."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cacher
from cacher.pipelines import Cache, LocalLLM, OrderedLocalAPI
from cacher.pipelines.llm import sample_seed
from cacher.typedefs import Request

FOX = "Once upon a time there was a fox who lived in the deep wood with his friend, the hare."
HARE = "The hare said"
#: id -> prompt, samples, namespace; and the indices that it is to get.
ASKED = {
    "r1": (FOX, 3, "a", (0, 1, 2)), "r2": (HARE, 1, "a", (0,)), "r10": (FOX, 2, "a", (3, 4)),
    "r3": (FOX, 2, "b", (0, 1)), "q": (HARE, 2, "b", (0, 1)), "p": ("Then", 1, None, (0,)),
}  # fmt: skip
PIECES = sum(n for _, n, _, _ in ASKED.values())


def request(prompt: str, n: int, namespace: str | None, request_id: str = "1") -> Request:
    return Request(prompt=prompt, n=n, request_id=request_id, namespace=namespace)


def alone(model: cacher.Model, prompt: str, index: int) -> str:
    seed = sample_seed(42, request(prompt, 1, None).hash(), index)
    return model.generate(prompt, 6, temperature=0.9, top_k=50, top_p=1.0, seed=seed).text


@pytest.fixture(scope="module")
def wanted(model: cacher.Model) -> dict[str, list[str]]:
    """What each request is to get: drawn one by one from the model, without any pipeline."""
    return {
        request_id: [alone(model, prompt, index) for index in indices]
        for request_id, (prompt, _, _, indices) in ASKED.items()
    }


@settings(max_examples=12)
@given(
    order=st.permutations(list(ASKED)),
    max_batch=st.integers(1, 9),
    hardware=st.integers(1, PIECES),
    bought=st.lists(st.tuples(st.sampled_from([FOX, HARE]), st.integers(1, 4)), max_size=3),
    forget=st.booleans(),
)
def test_the_bits_depend_on_no_batch_no_arrival_and_no_cache(
    model: cacher.Model,
    wanted: dict[str, list[str]],
    order: list[str],
    max_batch: int,
    hardware: int,
    bought: list[tuple[str, int]],
    forget: bool,
) -> None:
    async def run() -> dict[str, list[str]]:
        async with (
            LocalLLM(model, max_new_tokens=6, max_batch=max_batch) as llm,
            OrderedLocalAPI(llm, Cache(), PIECES, hardware, timeout=0.005) as api,
        ):
            for prompt, n in bought:
                await api.request(request(prompt, n, "before"))
            if forget:
                model.drop_cached()
            asked = [request(*ASKED[request_id][:3], request_id) for request_id in order]
            answers = await asyncio.gather(*map(api.request, asked))
            return {name: answer.data for name, answer in zip(order, answers, strict=True)}

    assert asyncio.run(run()) == wanted


def fill(folder: str, n: int, **options: int) -> tuple[list[str], list[bool]]:
    """Ask for n samples through a pipeline on a folder."""

    async def run() -> tuple[list[str], list[bool]]:
        async with (
            LocalLLM("tales", max_new_tokens=6, **options) as llm,
            OrderedLocalAPI(llm, Cache(folder), 8, 8, timeout=0.005) as api,
        ):
            answer = await api.request(request(FOX, n, "a"))
            assert answer.cached is not None
            return answer.data, answer.cached

    return asyncio.run(run())


def test_119_a_list_begun_by_another_process_goes_on_as_if_it_were_ones_own(
    model: cacher.Model, tmp_path: Path
) -> None:
    code = (
        "import sys; from tests.pipelines.test_local_order import fill\n"
        "fill(sys.argv[1], 2, max_batch=1, threads=1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    data, cached = fill(str(tmp_path), 5)
    assert cached == [True, True, False, False, False]
    assert data == [alone(model, FOX, index) for index in range(5)]
