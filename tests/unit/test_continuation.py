"""Texts laid one behind the other, with a tokenizer that puts a space in front of a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacher
from cacher.decoding import continuation_pieces
from tests.models.make_tiny import make_tiny

SPACE = "\u2581"
FOX = "🦊"


def sentencepiece(how: str) -> dict[str, object]:
    """Return a tokenizer.json whose texts begin with a space of its own, put there `how`."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in FOX.encode()), SPACE, *"abcd."]
    merges = [["a", "b"], ["c", "d"], [SPACE, "ab"], [SPACE, "cd"], [SPACE, SPACE]]
    tokens += ["".join(pair) for pair in merges]
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": how, "split": False}
    prepend = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        ],
    }
    decoders = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {
        "added_tokens": [
            {"id": i, "content": tokens[i], "special": True, "normalized": False} for i in range(3)
        ],
        "normalizer": prepend if how == "prepend" else None,
        "pre_tokenizer": None if how == "prepend" else metaspace,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


@pytest.fixture(scope="module", params=["prepend", "always", "first"])
def spaced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> cacher.Model:
    """A tiny random model with such a tokenizer."""
    folder: Path = make_tiny("mistral", tmp_path_factory.mktemp(request.param))
    (folder / "tokenizer.json").write_text(json.dumps(sentencepiece(request.param)))
    return cacher.load(folder, threads=1)


def test_texts_put_together_are_the_state_s_text(spaced: cacher.Model) -> None:
    state = spaced.state("ab").append(" cd").append("cd").append("").append(".")
    assert state.text == "ab cdcd."
    encode = spaced.tokenizer.encode
    assert state.token_ids == [*encode("ab cd"), *encode("cd.", continues=True)]
    assert spaced.state("ab").edit(append_text="cd").text == "abcd"


def test_behind_a_special_token_a_text_begins_anew(spaced: cacher.Model) -> None:
    begin = spaced.tokenizer.id("<s>")
    assert spaced.state([begin]).append("ab").token_ids == [begin, *spaced.tokenizer.encode("ab")]


def test_a_merge_s_separator_is_taken_as_it_is(spaced: cacher.Model) -> None:
    first, second = spaced.state("ab"), spaced.state("cd")
    merged = cacher.merge([first, second], strategy="concat", separator=".")
    assert merged.token_ids == [*first.token_ids, spaced.tokenizer.id("."), *second.token_ids]


@given(parts=st.lists(st.text(f"abcd. {FOX}", max_size=6), max_size=5))
def test_any_texts_come_back_joined(spaced: cacher.Model, parts: list[str]) -> None:
    state = spaced.state()
    for part in parts:
        state.append(part)
    # The prefix rule leaves a space alone that stands in front already, and decoding strips one.
    whole = spaced.tokenizer.decode(spaced.tokenizer.encode("".join(parts)))
    assert state.text == whole


@given(text=st.text(f"abcd. {FOX}", max_size=6), ids=st.lists(st.integers(3, 17), max_size=6))
def test_pieces_of_a_continuation_go_on_from_the_text(
    spaced: cacher.Model, text: str, ids: list[int]
) -> None:
    state = spaced.state(text)
    pieces = continuation_pieces(state, ids)
    if "\ufffd" not in (whole := spaced.tokenizer.decode([*state.token_ids, *ids])):
        assert state.text + "".join(pieces) == whole


def test_ids_that_only_the_model_knows_give_no_text(spaced: cacher.Model, tmp_path: Path) -> None:
    assert spaced.vocab_size > len(spaced.tokenizer)
    state = spaced.state("ab")
    drawn = state.generate(60, temperature=10.0, top_p=1.0, seed=1)
    assert max(drawn.token_ids) >= len(spaced.tokenizer)
    assert state.text == "ab" + drawn.text
    assert len(state.top_tokens(spaced.vocab_size)) == spaced.vocab_size
    assert "".join(token.text for token in state) == state.text
    assert len(state.beam(4, 5)) == 4
    state.save(tmp_path / "state.json")
    assert spaced.restore(tmp_path / "state.json").text == state.text
    with pytest.raises(cacher.TokenIdError, match=f"id {spaced.vocab_size} "):
        spaced.tokenizer.decode([spaced.vocab_size])
