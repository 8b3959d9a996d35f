"""Models of pieces: what they encode and decode, which a checkpoint has, which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacher import FileError, Tokenizer, TokenizerError, UnsupportedModelError, _core
from cacher.niels_gpt.tokenizer import load_tokenizer
from tests.models import pieces


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pieces.write_model(tmp_path_factory.mktemp("spm") / "spm.model", 600)


@pytest.fixture(scope="module")
def tok(path: Path) -> Tokenizer:
    return load_tokenizer(path)


@pytest.mark.parametrize("special", [pieces.SPECIAL, pieces.OLD_SPECIAL])
def test_83_special_tokens_are_found_by_their_spelling(
    tmp_path: Path, special: tuple[str, ...]
) -> None:
    every = pieces.chat_pieces(special=special)
    moved = [*every[:3], *every[7:], *every[3:7]]  # their numbers do not matter
    path = tmp_path / "any name"
    path.write_bytes(pieces.model(moved))
    tok = load_tokenizer(path)
    assert tok.kind == "unigram"
    assert tok.chat_tokens == {name: 508 + i for i, name in enumerate(pieces.NAMES)}
    for spelling, token_id in zip(special, tok.chat_tokens.values(), strict=True):
        assert tok.encode(spelling) == [token_id]
        assert tok.decode([token_id]) == spelling
        assert tok.is_special(token_id)


def test_83_what_tokenizer_meta_says_holds(tmp_path: Path, path: Path) -> None:
    spm, meta = tmp_path / "spm.model", tmp_path / "tokenizer_meta.json"
    spm.write_bytes(path.read_bytes())
    meta.write_text(json.dumps({"special_tokens": {"sys": 3, "eot": 6}, "vocab_size": 600}))
    assert load_tokenizer(spm).chat_tokens["eot"] == 6
    meta.write_text(json.dumps({"special_tokens": {"sys": 3, "eot": 7}}))
    with pytest.raises(TokenizerError, match=r"special_tokens.eot is 7, but the piece has id 6"):
        load_tokenizer(spm)


@pytest.mark.parametrize("text", ["é日🙂", "#", "\x01\x7f", "＃"])
def test_86_what_no_piece_covers_goes_to_bytes(tok: Tokenizer, text: str) -> None:
    """With the library itself: tests/parity/test_pieces_parity.py."""
    written = text.replace("＃", "#")
    assert tok.encode(text) == [7 + byte for byte in written.encode()]
    assert tok.encode(f"a{text}the")[1:-1] == tok.encode(text)
    assert tok.decode(tok.encode(f"a{text}the")) == f"a{written}the"


@settings(max_examples=200)
@given(text=st.text())
def test_86_ids_are_pieces_and_streams_agree(tok: Tokenizer, text: str) -> None:
    ids = tok.encode(text, specials=False)
    assert not set(ids) & {*range(7)}
    decoded = tok.decode(ids)
    assert "".join(tok.pieces(ids)) == decoded


def test_87_a_line_feed_is_a_space(tok: Tokenizer) -> None:
    assert tok.encode("a\nb") == tok.encode("a b") == tok.encode("  a \t b\n")
    assert tok.encode("ﬁne") == tok.encode("fine")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "best.pt"


def test_88_the_tokenizer_of_a_checkpoint(tmp_path: Path, path: Path, checkpoint: Path) -> None:
    choose = _core.Tokenizer.open_for
    assert choose(checkpoint, 256, None).kind == "bytes"
    with pytest.raises(TokenizerError, match=r"neither spm.model nor tokenizer/spm.model"):
        choose(checkpoint, 600, None)
    (tmp_path / "tokenizer").mkdir()
    pieces.write_model(tmp_path / "tokenizer" / "spm.model", 512)
    assert len(choose(checkpoint, 512, None)) == 512
    pieces.write_model(tmp_path / "spm.model", 513)
    assert len(choose(checkpoint, 513, None)) == 513
    assert len(choose(checkpoint, 600, path)) == 600
    for vocab_size in (256, 512, 600):
        with pytest.raises(TokenizerError, match=f"513 pieces.*vocab_size is {vocab_size}"):
            choose(checkpoint, vocab_size, None)
    with pytest.raises(TokenizerError, match="600 pieces"):
        choose(checkpoint, 601, path)
    with pytest.raises(FileError, match="nowhere"):
        choose(checkpoint, 601, tmp_path / "nowhere")


@pytest.mark.parametrize("missing", range(4))
def test_88_a_model_without_a_special_token_is_refused(tmp_path: Path, missing: int) -> None:
    every = pieces.chat_pieces()
    path = tmp_path / "spm.model"
    path.write_bytes(pieces.model([*every[: 3 + missing], *every[4 + missing :]]))
    assert Tokenizer.open(path).chat_tokens == {}
    with pytest.raises(TokenizerError, match=f"no special token .*{pieces.NAMES[missing]}"):
        load_tokenizer(path)


def test_88_a_special_token_that_is_an_ordinary_piece_is_refused(tmp_path: Path) -> None:
    every = pieces.chat_pieces()
    every[4] = (every[4][0], -9.0, pieces.NORMAL)
    path = tmp_path / "spm.model"
    path.write_bytes(pieces.model(every))
    assert Tokenizer.open(path).chat_tokens == {}
    with pytest.raises(TokenizerError, match='"usr" is an ordinary piece'):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "is cut"),
        (lambda _: b"", "holds no pieces"),
        (lambda _: b"PK\x03\x04", "byte|wire type|cut"),
        (lambda data: data + pieces.block(2, b"\x18\x02"), "model type is bpe, supported: unigram"),
        (lambda data: data + pieces.piece("<unk>"), 'repeats "<unk>"'),
        (lambda data: data + pieces.piece(b"\xff"), "not UTF-8"),
        (lambda data: data + pieces.piece("x" * 1001), "1001 bytes, allowed: 1 to 1000"),
        (lambda data: data + pieces.piece("new", float("nan")), "score of piece 512"),
        (
            lambda data: data + pieces.block(3, b"\x12\x06\xff\xff\xff\x7fab"),
            "character map",
        ),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    path = tmp_path / "spm.model"
    path.write_bytes(change(pieces.model(pieces.chat_pieces())))
    with pytest.raises((TokenizerError, UnsupportedModelError), match=words):
        load_tokenizer(path)


def test_a_big_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spm.model"
    with path.open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(TokenizerError, match="allowed: at most 16777216"):
        load_tokenizer(path)


def test_a_folder_may_hold_a_model_of_pieces(path: Path) -> None:
    assert Tokenizer.open(path.parent).chat_tokens == {"sys": 3, "usr": 4, "asst": 5, "eot": 6}


def test_tokens_alone_keep_their_spaces(tok: Tokenizer) -> None:
    the = tok.id(f"{pieces.SPACE}the")
    assert tok.decode([the]) == "the"
    assert tok._text_of(the) == tok.display(the) == " the"
    assert [tok._text_of(7 + b) for b in (65, 10, 195)] == ["A", "\n", "\ufffd"]
    assert [tok.display(7 + b) for b in (65, 10, 195)] == ["A", "\\x0a", "\\xc3"]
    assert [tok.display(i) for i in (0, 1, 3)] == ["<unk>", "<s>", pieces.SPECIAL[0]]
