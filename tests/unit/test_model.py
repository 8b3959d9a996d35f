from __future__ import annotations

import os
from pathlib import Path

import pytest

import cacher
from cacher import (
    BudgetError,
    DeviceError,
    ModelFormatError,
    ModelNotFoundError,
    ParameterError,
    UnsupportedModelError,
    hub,
)


def test_the_facts_of_the_built_in_model(model: cacher.Model) -> None:
    info = model.info
    assert (info.name, info.architecture, info.n_ctx) == ("tales", "llama", 1024)
    assert (info.model_type, info.labels, info.pad_token_id) == ("causal_lm", (), None)
    assert info.n_layers >= 6
    assert info.n_kv_heads < info.n_heads
    assert len(info.fingerprint) == 64
    assert (model.fingerprint, model.n_ctx) == (info.fingerprint, info.n_ctx)
    assert "tales" in repr(model)


def test_a_folder_is_the_same_model(model: cacher.Model, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.symlink_to(hub.find("tales"))
    assert cacher.load(folder).fingerprint == model.fingerprint
    assert cacher.load(str(folder)).name == "tales", "the folder's own name"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "cuda"}, DeviceError, "not there yet"),
        ({"device": "tpu"}, DeviceError, "'tpu'.*cpu"),
        ({"threads": 0}, ParameterError, "threads is 0"),
        ({"threads": 257}, ParameterError, "257"),
        ({"kv_budget": 0}, ParameterError, "kv_budget is 0"),
        ({"isa": "sse9"}, ParameterError, "sse9"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        cacher.load("tales", **options)  # type: ignore[arg-type]


def test_threads_and_budget_can_change(model: cacher.Model) -> None:
    own = cacher.load("tales", threads=1)
    want = model.state("Once upon a time").logits().tobytes()
    own.set_threads(3)
    assert own.info.n_threads == 3
    assert own.state("Once upon a time").logits().tobytes() == want
    with pytest.raises(ParameterError):
        own.set_threads(0)
    own.set_kv_budget(own.info.page_bytes)
    assert own.stats.kv_budget_bytes == own.info.page_bytes
    with pytest.raises(BudgetError) as caught:
        own.state([300] * 200).forward()
    assert isinstance(caught.value, MemoryError)
    own.set_kv_budget(10**9)
    assert own.state([300] * 200).forward().head_position == 200
    own.check()


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    source = hub.find("tales")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    assert cacher.load(tmp_path).n_ctx == 1024
    weights = (source / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelFormatError):
        cacher.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    config = (source / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"silu"', '"unheard_of"'))
    with pytest.raises(UnsupportedModelError, match="unheard_of"):
        cacher.load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(cacher.CacherError, match=r"config\.json"):
        cacher.load(tmp_path)


def test_models_that_are_nowhere() -> None:
    for name in ("../tales", "/no/such/folder", "a b", "x" * 300, ""):
        with pytest.raises(ModelNotFoundError, match="tales"):
            cacher.load(name)


def test_opening_and_dropping_leaks_nothing() -> None:
    before = cacher._core.live_bytes()
    loaded = cacher.load("tales", threads=1)
    state = loaded.state("Once upon a time")
    state.generate(3)
    del loaded
    assert state.generate(2).token_ids, "a state keeps its model"
    del state
    assert cacher._core.live_bytes() == before


def test_memory_that_cannot_be_had_is_a_memory_error(model: cacher.Model) -> None:
    state = model.state("Once upon a time")
    state.fork().append(" there was")  # the tokenizer's work space has its size now
    before = (state.text, state.head_position, cacher._core.live_bytes())
    failures = 0
    for nth in range(1, 200):
        cacher._core.fail_alloc(nth)
        try:
            state.fork().append(" there was")
        except MemoryError:
            failures += 1
        else:
            break
        finally:
            cacher._core.fail_alloc(0)
        assert (state.text, state.head_position, cacher._core.live_bytes()) == before
    assert failures > 0


def test_a_forced_instruction_set_gives_the_same_bits(model: cacher.Model) -> None:
    want = model.state("Once upon a time").logits().tobytes()
    plain = cacher.load("tales", isa="generic")
    assert plain.info.isa == "generic"
    assert plain.state("Once upon a time").logits().tobytes() == want


def test_a_folder_name_wins_over_nothing_but_the_built_in(tmp_path: Path) -> None:
    os.symlink(hub.find("tales"), tmp_path / "tales")
    assert hub.find("tales") != tmp_path / "tales"
    assert "tales" in hub.built_in()


def test_states_are_read_together(model: cacher.Model) -> None:
    model.drop_cached()
    texts = ["Once upon a time", "The king", "Hello " * 50]
    alone = [model.state(text).logits().tobytes() for text in texts]
    model.drop_cached()
    states = [model.state(text) for text in texts]
    states.append(model.state("The end", config={"store_logits": "none"}))
    before = model.stats.forwards
    model.forward_all(states)
    assert model.stats.forwards == before + 2, "one pass for those that store, one for the other"
    assert [state.head_position for state in states] == [len(state) for state in states]
    assert [state.logits().tobytes() for state in states[:3]] == alone
    for bad in ([states[0], states[0]], [cacher.load("tales").state("Hello")]):
        with pytest.raises(cacher.CacherError):
            model.forward_all(bad)
    with pytest.raises(TypeError, match="int"):
        model._core.eval([5])  # type: ignore[list-item]
