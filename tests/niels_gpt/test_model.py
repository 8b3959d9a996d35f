"""Both generations as models: the test vectors, the laws of the core, the KV cache, the speed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cacher
from cacher.niels_gpt.model import GPT, KVCache, allocate_kv_cache, decode_step, prefill
from tests.models import niels
from tests.niels_gpt.vectors import PROMPT, VECTORS, Vectors
from tests.reference import niels as reference

Array = np.ndarray
SLIDES = {"context_strategy": "slide"}
SAMPLING = {"temperature": 0.9, "top_k": 50, "seed": 42}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[int, cacher.Model]:
    folder = tmp_path_factory.mktemp("small")
    return {
        generation: cacher.load(niels.write_checkpoint(folder / f"{generation}.pt", generation))
        for generation in (1, 2)
    }


@pytest.fixture(params=[1, 2])
def generation(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def windows(model: cacher.Model, ids: list[int], n: int, **sampling: Any) -> list[int]:
    """Generate by plain passes: each step reads the last T tokens, from position 0."""
    seen = list(ids)
    for step in range(n):
        state = model.state(seen[-model.n_ctx :])
        logits = state.logits()
        if not sampling:
            seen.append(int(np.argmax(logits)))
            continue
        uniform = splitmix(sampling["seed"], step)
        seen.append(draw(logits, sampling["temperature"], sampling["top_k"], uniform))
    return seen[len(ids) :]


def splitmix(seed: int, step: int) -> float:
    """The number of the documented generator after `step` others."""
    mask = 2**64 - 1
    z = (seed + (step + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def kept(logits: Array, temperature: float, top_k: int) -> tuple[Array, Array]:
    """Ids and probabilities of what is drawn from, the most probable first."""
    ids = np.argsort(-logits, kind="stable")[:top_k]
    scores = logits[ids].astype(np.float64) / temperature
    weights = np.exp(scores - scores[0])
    return ids, weights / weights.sum()


def draw(logits: Array, temperature: float, top_k: int, uniform: float) -> int:
    ids, p = kept(logits, temperature, top_k)
    return int(ids[min(np.searchsorted(np.cumsum(p), uniform, side="right"), top_k - 1)])


# ---- 89, 90, 110: the vectors


def check_vectors(model: cacher.Model, generation: int, want: Vectors) -> None:
    state = model.state(PROMPT)
    logits = state.logits(0)
    table = niels.vector_tensors(generation)["tok_emb.weight"]
    assert np.asarray(model._core.embedding(0))[:3] == pytest.approx(table[0, :3])
    for name, row in want.weights.items():
        values = niels.vector_tensors(generation)[name].reshape(-1)[: len(row)]
        assert values == pytest.approx(row, abs=1e-6)
    assert logits[-1][list(want.logits)] == pytest.approx(list(want.logits.values()), abs=1e-3)
    best = np.argsort(-logits[-1])[:5]
    assert best.tolist() == list(want.best)
    assert logits[-1][best] == pytest.approx(list(want.best.values()), abs=1e-3)
    assert {int(np.argmax(logits[0])): logits[0].max()} == {
        token: pytest.approx(value, abs=1e-3) for token, value in want.first.items()
    }
    row = state.attention(1, 0, first=len(PROMPT) - 1)[0]
    assert [*row[:8], *row[-4:]] == pytest.approx(want.attention, abs=5e-4)
    assert windows(model, PROMPT, 12) == want.greedy
    _, p = kept(logits[-1], 0.9, 50)
    assert p[:3] == pytest.approx(want.probabilities, abs=5e-4)
    assert -(p * np.log(p)).sum() == pytest.approx(want.entropy, abs=5e-4)


def test_89_the_vectors_of_generation_1(small: dict[int, cacher.Model]) -> None:
    check_vectors(small[1], 1, VECTORS[1])
    row = small[1].state(PROMPT).attention(0, 1)[3]
    assert row[:4] == pytest.approx([0.0413, 0.1678, 0.7309, 0.0600], abs=5e-4)
    assert not row[4:].any()
    reply = bytes(windows(small[1], PROMPT, 8)).decode(errors="replace").strip()
    assert reply == "\x10\ufffd\x10Fi\ufffd\ufffd\ufffd"


def test_90_the_vectors_of_generation_2(small: dict[int, cacher.Model]) -> None:
    check_vectors(small[2], 2, VECTORS[2])


def test_110_sampled_tokens(small: dict[int, cacher.Model], generation: int) -> None:
    want = VECTORS[generation].sampled
    assert windows(small[generation], PROMPT, 8, **SAMPLING) == want
    state = small[generation].state(PROMPT)  # the core's own draws, as far as the context goes
    assert state.generate(4, **SAMPLING, top_p=1, random="splitmix64").token_ids == want[:4]


def test_text_is_bytes(small: dict[int, cacher.Model], generation: int) -> None:
    model = small[generation]
    assert model.state("user: hi\nassistant: ").token_ids == PROMPT
    assert model.info.architecture == f"niels{generation}"
    assert model.name == f"{generation}.pt"


# ---- against the reference, in float64


@pytest.mark.parametrize(
    "size",
    [
        niels.Size(T=70, C=24, L=3, H=3, d_ff=40),
        niels.Size(T=40, C=64, L=1, H=1, d_ff=7),
        niels.Size(T=33, C=20, L=2, H=10, d_ff=48),
    ],
)
@pytest.mark.parametrize("theta", [10000.0, 37.5])
def test_logits_and_attention_are_the_reference_s(
    tmp_path: Path, generation: int, size: niels.Size, theta: float
) -> None:
    weights = niels.random_tensors(generation, size, seed=size.C, scale=0.3)
    path = niels.write_checkpoint(
        tmp_path / "a.pt", generation, size=size, weights=weights,
        cfg=niels.model_cfg(size, rope_theta=theta),
    )  # fmt: skip
    model = cacher.load(path)
    ids = np.random.default_rng(1).integers(0, 256, size.T).tolist()
    want, attention = reference.forward(weights, size, ids, theta)
    state = model.state(ids)
    np.testing.assert_allclose(state.logits(0), want, atol=2e-4)
    for layer in range(size.L):
        np.testing.assert_allclose(state.attention(layer), attention[layer], atol=2e-5)


# ---- the laws


@pytest.mark.parametrize("isa", ["generic", "avx2", None])
def test_the_laws_hold(tmp_path: Path, generation: int, isa: str | None) -> None:
    """The same bits: alone, in a batch, in chunks, after a fork, on threads, by any kernels."""
    size = niels.Size(T=60, C=48, L=2, H=3, d_ff=50)
    weights = niels.random_tensors(generation, size)
    path = niels.write_checkpoint(tmp_path / "a.pt", generation, size=size, weights=weights)
    ids = np.random.default_rng(2).integers(0, 256, 50).tolist()
    plain = cacher.load(path, threads=1).state(ids).logits(0)
    model = cacher.load(path, threads=2, isa=isa)
    states = [model.state(ids), *(model.state(ids[i:]) for i in range(1, 6))]
    model._core.eval([state._core for state in states], 0, 7)
    np.testing.assert_array_equal(states[0].logits(0), plain)
    step = model.state(ids[:17])
    rows = [step.logits()]
    for token in ids[17:]:
        rows.append(step.append([token]).logits())
    np.testing.assert_array_equal(rows, plain[16:])
    forked = states[0].fork()
    forked.truncate(33)
    np.testing.assert_array_equal(forked.append(ids[33:]).logits(), plain[-1])


# ---- 92 to 94: the KV cache


def test_92_prefill_and_decode_step_are_plain_passes(
    small: dict[int, cacher.Model], generation: int
) -> None:
    gpt = GPT(small[generation])
    ids = np.random.default_rng(3).integers(0, 256, gpt.T).tolist()
    for n in (1, 2, 15, 16, 17, gpt.T - 1):
        cache = allocate_kv_cache(gpt)
        logits, row = prefill(gpt, ids[:n], cache, trace_layer=1)
        np.testing.assert_array_equal(logits, gpt([ids[:n]]))
        want, trace = gpt.forward_with_attn_trace(np.array([ids[:n]]), 1)
        np.testing.assert_array_equal(row, trace["attn_row"])
        assert cache.t == n
        after, row = decode_step(gpt, ids[n], cache, trace_layer=0)
        want, trace = gpt.forward_with_attn_trace([ids[: n + 1]], 0, return_full_attn=True)
        np.testing.assert_array_equal(after, want[:, -1])
        np.testing.assert_array_equal(row, trace["attn_full"][:, :, -1])
        assert row.shape == (1, gpt.H, n + 1)
        assert cache.t == n + 1


def test_the_cache_holds_rotated_keys_and_plain_values(
    small: dict[int, cacher.Model], generation: int
) -> None:
    model = small[generation]
    cache = allocate_kv_cache(model)
    assert isinstance(cache, KVCache)
    shape = (2, 1, 2, 24, 4)
    assert cache.k.shape == cache.v.shape == shape
    assert cache.t == 0
    assert not cache.k.any()
    assert not cache.v.any()
    prefill(model, np.array([PROMPT]), cache)
    weights = {k: v.astype(np.float64) for k, v in niels.vector_tensors(generation).items()}
    x = weights["tok_emb.weight"][PROMPT]
    if generation == 1:
        x = reference.layer_norm(
            x, weights["blocks.0.ln1.weight"], weights["blocks.0.ln1.bias"], 1e-5
        )
    else:
        x = reference.rms_norm(x, weights["blocks.0.ln1.weight"], 1e-5)
    _, keys, values = np.split(x @ weights["blocks.0.attn.qkv.weight"].T, 3, -1)
    heads = reference.split_heads(keys, 4), reference.split_heads(values, 4)
    np.testing.assert_allclose(cache.k[0, 0, :, :20], reference.rotate(heads[0], 1e4), atol=1e-5)
    np.testing.assert_allclose(cache.v[0, 0, :, :20], heads[1], atol=1e-5)
    assert not cache.k[:, :, :, 20:].any()


def cached(model: cacher.Model, ids: list[int], n: int) -> list[int]:
    """Generate with the cache; past the window each step reads the last T tokens anew."""
    seen = list(ids)
    cache = allocate_kv_cache(model)
    logits = prefill(model, seen, cache)[0, -1]
    for _ in range(n):
        seen.append(int(np.argmax(logits)))
        if cache.t < cache.T:
            logits = decode_step(model, seen[-1], cache)[0]
        else:
            logits = prefill(model, seen[-cache.T :], allocate_kv_cache(model))[0, -1]
    return seen[len(ids) :]


def test_93_greedy_with_and_without_cache_for_100_models(tmp_path: Path) -> None:
    rng = np.random.default_rng(93)
    for case in range(100):
        heads = int(rng.integers(1, 4))
        size = niels.Size(
            T=int(rng.integers(4, 30)), C=heads * 2 * int(rng.integers(1, 5)),
            L=int(rng.integers(1, 4)), H=heads, d_ff=int(rng.integers(1, 40)),
        )  # fmt: skip
        generation = 1 + case % 2
        weights = niels.random_tensors(generation, size, seed=case, scale=0.5)
        path = niels.write_checkpoint(tmp_path / "a.pt", generation, size=size, weights=weights)
        model = cacher.load(path, threads=1)
        ids = rng.integers(0, 256, int(rng.integers(1, size.T + 1))).tolist()
        got = cached(model, ids, 12)
        assert got == windows(model, ids, 12)
        assert got == without_ties(weights, size, ids, got)


def without_ties(
    weights: dict[str, Array], size: niels.Size, ids: list[int], got: list[int]
) -> list[int]:
    """The reference's tokens along `got`, which is believed where two logits are nearly equal."""
    tokens = []
    for step, token in enumerate(got):
        logits = reference.forward(weights, size, [*ids, *got[:step]][-size.T :])[0][-1]
        second, first = np.sort(logits)[-2:]
        tokens.append(int(np.argmax(logits)) if first - second > 2e-3 else token)
    return tokens


def test_94_a_full_cache_takes_no_more(small: dict[int, cacher.Model]) -> None:
    model = small[1]
    cache = allocate_kv_cache(model)
    prefill(model, list(range(24)), cache)
    before = cache.k
    with pytest.raises(ValueError, match="full"):
        decode_step(model, 1, cache)
    assert cache.t == 24
    np.testing.assert_array_equal(cache.k, before)
    with pytest.raises(ValueError, match="holds 24 positions"):
        prefill(model, [1], cache)


def test_wrong_calls_say_what_is_wrong(small: dict[int, cacher.Model]) -> None:
    gpt = GPT(small[1])
    for x in ([1, 2], [[]], [[1], [2]], 3, "ab"):
        with pytest.raises(cacher.ParameterError):
            gpt(x)
    with pytest.raises(cacher.ContextOverflowError):
        gpt([[1] * 25])
    with pytest.raises(cacher.TokenIdError):
        gpt([[256]])
    with pytest.raises(ValueError, match="1 to 24"):
        prefill(gpt, [1] * 25, allocate_kv_cache(gpt))
    with pytest.raises(ValueError, match="no ids"):
        prefill(gpt, [], allocate_kv_cache(gpt))
    with pytest.raises(ValueError, match="another model"):
        prefill(small[2], [1], allocate_kv_cache(gpt))
    with pytest.raises(ValueError, match="batch_size"):
        allocate_kv_cache(gpt, 2)
    with pytest.raises(cacher.LayerOutOfRangeError):
        gpt.forward_with_attn_trace([[1]], 2)


def test_a_cache_gives_its_memory_back(small: dict[int, cacher.Model]) -> None:
    model = small[2]
    before = model.stats.pages_live  # other tests' failures may hold some
    cache = allocate_kv_cache(model)
    prefill(model, [7, *PROMPT], cache)
    assert model.stats.pages_live == before + 2
    del cache
    assert model.stats.pages_live == before


# ---- 106: the floor of speed


def test_106_the_floor_of_speed(tmp_path: Path) -> None:
    """One thread: at least 200 traced tokens per second in the window, 5 past it."""
    size = niels.SEEN[1]
    weights = niels.random_tensors(1, size, scale=0.05)
    path = niels.write_checkpoint(tmp_path / "a.pt", 1, size=size, weights=weights)
    model = cacher.load(path, threads=1)
    state = model.state(list(range(100)))
    state.logits()
    began = time.process_time()
    steps = list(state.stream(100, temperature=0, trace_layer=3))
    assert 100 / (time.process_time() - began) > 200
    assert len(steps) == 100
    ids = [i % 256 for i in range(300)]
    began = time.process_time()
    for step in range(5):
        window = model.state(ids[step : step + size.T])
        window.logits()
        window.attention(3, first=size.T - 1)
    assert 5 / (time.process_time() - began) > 5


# ---- past the window


def test_a_state_that_slides_sees_the_last_tokens(
    small: dict[int, cacher.Model], generation: int
) -> None:
    """The same tokens as plain passes over the last T tokens, however the state came to its own."""
    model, want = small[generation], windows(small[generation], PROMPT, 40)
    state = model.state(PROMPT, config=SLIDES)
    assert state.generate(40, temperature=0).token_ids == want
    assert state.dropped_tokens == 60 - 24
    parts = model.state(PROMPT, config=SLIDES)
    for n in (1, 3, 1, 20, 15):
        parts.generate(n, temperature=0)
    assert parts.token_ids == state.token_ids
    forked = state.fork()
    forked.truncate(47)
    forked.generate(13, temperature=0)
    assert forked.token_ids == state.token_ids
    everything = [*PROMPT, *want]
    logits = state.logits(0)
    for position in (0, 22, 23, 24, 40, 59):
        seen = model.state(everything[max(0, position - 23) : position + 1])
        np.testing.assert_array_equal(logits[position], seen.logits())
    judged, entropy, ranks = state.logprobs(), state.entropy(), state.ranks()
    for position in (1, 23, 24, 25, 40, 59):
        seen = model.state(everything[max(0, position - 24) : position])
        scores = seen.logits().astype(np.float64)
        log_p = scores - np.log(np.exp(scores).sum())
        assert judged[position] == pytest.approx(log_p[everything[position]], abs=1e-5)
        assert entropy[position] == pytest.approx(-(np.exp(log_p) * log_p).sum(), abs=1e-4)
        assert ranks[position] == 1 + (scores > scores[everything[position]]).sum()
    np.testing.assert_array_equal(
        state.attention(1, first=23), model.state(everything[-24:]).attention(1, first=23)
    )
    sampled = model.state(PROMPT, config=SLIDES)
    sampled.generate(8, **SAMPLING, top_p=1, random="splitmix64")
    assert sampled.token_ids[20:] == VECTORS[generation].sampled


def test_windows_of_streams_share_an_engine(small: dict[int, cacher.Model]) -> None:
    """Traces, too: what the last token of each window attends to."""
    model = small[1]
    prompts = [PROMPT, PROMPT[:9], list(range(24)), [7] * 23]

    async def one(engine: cacher.Engine, ids: list[int]) -> list[Any]:
        state = model.state(ids, config=SLIDES)
        return [t async for t in engine.stream(state, 30, temperature=0, trace_layer=1)]

    async def run() -> list[list[Any]]:
        async with cacher.Engine(model) as engine:
            return await asyncio.gather(*(one(engine, ids) for ids in prompts))

    before = model.stats.pages_live
    for ids, tokens in zip(prompts, asyncio.run(run()), strict=True):
        assert [token.token_id for token in tokens] == windows(model, ids, 30)
        for step in (0, 3, 17, 29):
            seen = model.state([*ids, *(t.token_id for t in tokens[:step])][-24:])
            want = seen.attention(1, first=len(seen) - 1)[:, 0]
            np.testing.assert_array_equal(tokens[step].trace.attention, want)
            del seen
    assert model.stats.pages_live == before
