"""The laws in the default suite: some hundred random programs, and each law by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cacher
from tests.laws.programs import FORMATS, NO_SCORES, Bench, Format, available_isas, equal_isas
from tests.models.make_tiny import CONFIGS, VOCAB, make_tiny

FAMILIES = sorted(CONFIGS)
MODELS = [(name, FORMATS[0]) for name in FAMILIES] + [(FAMILIES[-1], f) for f in FORMATS[1:]]
tokens_lists = st.lists(st.integers(2, VOCAB - 1), min_size=1, max_size=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laws")


@pytest.fixture(scope="module", params=FAMILIES)
def source(request: pytest.FixtureRequest, folder: Path) -> Path:
    return make_tiny(request.param, folder)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, folder: Path) -> cacher.Model:
    name, form = request.param
    return form.load(make_tiny(name, folder), threads=2)


def fresh_logits(model: cacher.Model, tokens: list[int]) -> bytes:
    model.drop_cached()
    return model.state(tokens, config=NO_SCORES).logits().tobytes()


@pytest.mark.parametrize(
    ("seeds", "formats"),
    [
        (range(300), FORMATS[:1]),
        (range(100), FORMATS[1:3]),
        (range(100), FORMATS[3:]),
        pytest.param(range(300, 3000), FORMATS[:1], marks=pytest.mark.slow),
        pytest.param(range(100, 1000), FORMATS[1:], marks=pytest.mark.slow),
    ],
)
def test_random_programs_agree_with_a_straight_line_run(
    folder: Path, seeds: range, formats: tuple[Format, ...]
) -> None:
    bench = Bench(folder, formats)
    found = [bench.run(seed) for seed in seeds]
    assert [text for text in found if text is not None] == []


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(tokens_lists, min_size=2, max_size=6))
def test_batch_law(model: cacher.Model, rows: list[list[int]]) -> None:
    alone = [fresh_logits(model, tokens) for tokens in rows]
    model.drop_cached()
    states = [model.state(tokens, config=NO_SCORES) for tokens in rows]
    model.forward_all(states)
    assert [state.logits().tobytes() for state in states] == alone


@settings(max_examples=40, deadline=None)
@given(tokens=tokens_lists, chunk=st.integers(1, 40))
def test_chunk_law(model: cacher.Model, tokens: list[int], chunk: int) -> None:
    whole = fresh_logits(model, tokens)
    model.drop_cached()
    state = model.state(tokens, config=NO_SCORES)
    model.forward_all([state], chunk_tokens=chunk)
    assert state.logits().tobytes() == whole


@settings(max_examples=15, deadline=None)
@given(tokens=tokens_lists)
def test_thread_and_isa_laws(source: Path, tokens: list[int]) -> None:
    for form in FORMATS:
        for isas in equal_isas(source, form):
            seen = {
                fresh_logits(form.load(source, threads=n, isa=isa), tokens)
                for isa in isas
                for n in (1, 2, 3)
            }
            assert len(seen) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_only_weights_in_bf16_have_more_than_one_order(source: Path, form: Format) -> None:
    groups = equal_isas(source, form)
    assert groups == [available_isas(source)] or (
        form.dtype == "bf16" and groups == [available_isas(source)[:-1], ["amx"]]
    )


@settings(max_examples=40, deadline=None)
@given(tokens=tokens_lists, cut=st.integers(0, 100))
def test_path_law(model: cacher.Model, tokens: list[int], cut: int, tmp_path_factory) -> None:
    cut = min(cut, len(tokens))
    want = fresh_logits(model, tokens)
    state = model.state(tokens, config=NO_SCORES)
    assert state.logits().tobytes() == want, "found by its prefix"
    fork = state.fork()
    assert fork.logits().tobytes() == want, "forked"
    fork.rollback(cut)
    fork.append(tokens[cut:])
    assert fork.logits().tobytes() == want, "rolled back and redone"
    state.evict()
    assert state.logits().tobytes() == want, "evicted and recomputed"
    path = tmp_path_factory.mktemp("path") / "state.json"
    state.save(path)
    model.drop_cached()
    assert model.restore(path).logits().tobytes() == want, "saved and restored"


@settings(max_examples=40, deadline=None)
@given(tokens=tokens_lists, seed=st.integers(0, 2**63 - 1), cut=st.integers(1, 11))
def test_seed_law(model: cacher.Model, tokens: list[int], seed: int, cut: int) -> None:
    sampling = {"temperature": 1.2, "top_p": 0.95, "seed": seed}
    whole = model.state(tokens).generate(12, **sampling)
    parts = model.state(tokens)
    first = parts.generate(cut, **sampling)
    second = parts.fork().generate(12 - cut, **sampling) if not first.finished else None
    got = list(first.token_ids) + (list(second.token_ids) if second else [])
    assert got == list(whole.token_ids)


def test_ownership_law(model: cacher.Model) -> None:
    rng = np.random.default_rng(3)
    states = [model.state(rng.integers(2, VOCAB, 50).tolist()) for _ in range(20)]
    states += [state.fork(at=30) for state in states]
    model.forward_all(states)
    assert model.stats.pages_live > 0
    del states
    assert model.stats.pages_live == 0
    model.check()
