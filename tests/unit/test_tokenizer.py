from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacher
from cacher import EncodingError, FileError, ParameterError, TokenIdError, Tokenizer, TokenizerError

TEXTS = ["", " ", "Hello world", "naïve café", "日本語", "🦊🐰", "a\x00b", "\r\n\t", "e\u0301"]


@pytest.fixture(scope="module")
def tokenizer(model: cacher.Model) -> Tokenizer:
    return model.tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_what_was_encoded_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text())
def test_any_text_comes_back(model: cacher.Model, text: str) -> None:
    tokenizer = model.tokenizer
    ids = tokenizer.encode(text, specials=False)
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.pieces(ids)) == text


def test_words_of_the_specification_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert [len(tokenizer.encode(word)) for word in ("Hello", " world", "The")] == [1, 1, 1]


def test_ids_may_be_any_integers(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Hello world")
    as_int32 = np.array(ids, dtype=np.int32)
    sources = [
        ids, tuple(ids), iter(ids), as_int32, as_int32.astype(np.int64),
        np.repeat(as_int32, 2)[::2], as_int32.astype(np.uint8 if max(ids) < 256 else np.uint16),
    ]  # fmt: skip
    assert {tokenizer.decode(source) for source in sources} == {"Hello world"}


@pytest.mark.parametrize("bad", ["12", b"12", [1.5], ["1"], 5, [None]])
def test_what_is_no_list_of_integers_is_a_type_error(tokenizer: Tokenizer, bad: object) -> None:
    with pytest.raises(TypeError):
        tokenizer.decode(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-1, 4096, 2**31, 2**40, -(2**70)])
def test_an_id_outside_the_vocabulary_is_named(tokenizer: Tokenizer, bad: int) -> None:
    with pytest.raises(TokenIdError, match=str(bad)):
        tokenizer.decode([1, bad])
    with pytest.raises(TokenIdError, match=str(bad)):
        tokenizer.decode(np.array([1, bad], dtype=object))


def test_half_a_surrogate_pair_is_named_with_its_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(EncodingError, match=r"character 2 .* U\+DC00") as caught:
        tokenizer.encode("ab\udc00")
    assert caught.value.position == 2
    with pytest.raises(TypeError, match="bytes"):
        tokenizer.encode(b"ab")  # type: ignore[arg-type]


def test_special_tokens_are_read_or_taken_as_text(tokenizer: Tokenizer) -> None:
    name = tokenizer.token(0)
    assert tokenizer.is_special(0)
    assert tokenizer.encode(name) == [0]
    plain = tokenizer.encode(name, specials=False)
    assert len(plain) > 1
    assert tokenizer.decode(plain) == name
    assert tokenizer.decode([0, *plain], skip_special=True) == name


def test_entries_and_ids_are_inverse(tokenizer: Tokenizer) -> None:
    for token_id in range(0, len(tokenizer), 97):
        entry = tokenizer.token(token_id)
        assert tokenizer.id(entry) == token_id
    with pytest.raises(TokenIdError, match="4096"):
        tokenizer.token(4096)
    with pytest.raises(TokenizerError, match="no such thing"):
        tokenizer.id("no such thing")


def test_a_character_appears_with_the_token_that_completes_it(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🦊")
    assert len(ids) > 1, "the test needs a character of several tokens"
    decoder = tokenizer.stream_decoder()
    assert [decoder.push(i) for i in ids] == [""] * (len(ids) - 1) + ["🦊"]
    decoder = tokenizer.stream_decoder()
    assert decoder.push(ids[0]) == ""
    assert decoder.finish() == "\ufffd"


def test_a_decoder_outlives_its_tokenizer() -> None:
    decoder = Tokenizer.open(cacher.hub.find("tales")).stream_decoder()
    assert isinstance(decoder.push(300), str)


def test_files_that_are_not_there_or_not_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nowhere"):
        Tokenizer.open(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_text('{"model": 5}')
    with pytest.raises(TokenizerError):
        Tokenizer.open(tmp_path)
    with pytest.raises(TypeError):
        Tokenizer.open(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_a_batch_gives_what_each_gives_alone(tokenizer: Tokenizer, threads: int | None) -> None:
    texts = [text * n for n in (0, 1, 7, 300, 2000) for text in ("Once upon a time", *TEXTS)]
    texts += ["<|endoftext|>", "x" * 100_000]
    for options in ({}, {"add_special": True}, {"specials": False}):
        rows = tokenizer.encode_batch(iter(texts), threads=threads, **options)
        assert rows == [tokenizer.encode(text, **options) for text in texts]
    for skip in (False, True):
        decoded = tokenizer.decode_batch(iter(rows), skip_special=skip, threads=threads)
        assert decoded == [tokenizer.decode(ids, skip_special=skip) for ids in rows]
    arrays = [np.array(ids, dtype=np.int64) for ids in rows]
    assert tokenizer.decode_batch(arrays, threads=threads) == texts
    assert tokenizer.encode_batch([], threads=threads) == []
    assert tokenizer.decode_batch([], threads=threads) == []


@pytest.mark.parametrize("threads", [1, 4])
def test_a_batch_names_what_is_wrong(tokenizer: Tokenizer, threads: int) -> None:
    with pytest.raises(EncodingError, match=r"character 1 of text 2 is U\+D800"):
        tokenizer.encode_batch(["a" * 50_000, "b", "c\ud800"], threads=threads)
    with pytest.raises(TokenIdError, match=r"row 1: token id 4096"):
        tokenizer.decode_batch([[1] * 50_000, [1, 4096], [-1]], threads=threads)
    for bad in ("text", b"text", ["a", 5], 5):
        with pytest.raises(TypeError):
            tokenizer.encode_batch(bad, threads=threads)  # type: ignore[arg-type]
    for bad in ("12", [1, 2], [[1], "2"], [[1.5]], 5):
        with pytest.raises(TypeError):
            tokenizer.decode_batch(bad, threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, 257, -1])
def test_a_batch_has_a_bound_on_threads(tokenizer: Tokenizer, threads: int) -> None:
    with pytest.raises(ParameterError, match=f"threads is {threads}"):
        tokenizer.encode_batch(["a"], threads=threads)
    with pytest.raises(ParameterError, match=f"threads is {threads}"):
        tokenizer.decode_batch([[1]], threads=threads)


def test_lists_of_ids_are_the_callers(tokenizer: Tokenizer) -> None:
    first = tokenizer.encode("Hello world")
    wanted = [int(str(i)) for i in first]
    first.clear()
    assert tokenizer.encode("Hello world") == wanted
    assert tokenizer.decode([*wanted, True + 0]) == tokenizer.decode([*wanted, 1])
