"""Conversations as text and as tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import cacher
from cacher import Model, Tokenizer, TokenizerError
from cacher.chat.formats import format_of
from cacher.niels_gpt import chat_template
from cacher.niels_gpt.chat_format import Message, extract_assistant_reply, format_chat
from cacher.niels_gpt.token_utils import token_display
from cacher.niels_gpt.tokenizer import decode, encode
from tests.models import niels, pieces

S, U, A = "system", "user", "assistant"


def said(*messages: tuple[str, str]) -> list[Message]:
    return [{"role": role, "content": content} for role, content in messages]


@pytest.fixture(scope="module")
def tok(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(pieces.write_model(tmp_path_factory.mktemp("spm") / "spm.model"))


@pytest.mark.parametrize(
    ("messages", "transcript"),
    [
        ([], "assistant: "),
        ([(U, "hi")], "user: hi\nassistant: "),
        ([(S, "s"), (U, "u"), (A, "")], "system: s\nuser: u\nassistant: "),
        ([(A, "so far")], "assistant: so far\nassistant: "),
        ([(U, "a\nb")], "user: a\nb\nassistant: "),
        ([(A, ""), (U, " x ")], "assistant: \nuser:  x \nassistant: "),
    ],
)
def test_79_transcripts(messages: list[tuple[str, str]], transcript: str) -> None:
    given = said(*messages)
    assert format_chat(given) == transcript
    assert given == said(*messages)


@pytest.mark.parametrize("role", ["tool", "User", ""])
def test_80_a_role_that_there_is_not(role: str, tok: Tokenizer) -> None:
    with pytest.raises(ValueError, match=f"role is '{role}', allowed: system, user, assistant"):
        format_chat(said((role, "x")))
    with pytest.raises(ValueError, match="allowed: system, user, assistant"):
        chat_template.format_prompt(tok, said((role, "")))


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("assistant: one\nuser: u\nassistant: two\n", "two"),
        ("user: a\nassistant: \n", ""),
        ("assistant: one\nassistant: \nuser: x", "one"),
        ("assistant:  a \n b\nsystem: s", "a \n b"),
        ("assistant: a assistant: b", "b"),
        ("assistant: User: x\nuser:y", "User: x\nuser:y"),
    ],
)
def test_81_the_last_reply_of_a_text(text: str, reply: str) -> None:
    assert extract_assistant_reply(text) == reply


@pytest.mark.parametrize("text", ["", "assistant:", "user: a\nAssistant: b"])
def test_81_a_text_without_a_reply(text: str) -> None:
    with pytest.raises(ValueError, match="'assistant: '"):
        extract_assistant_reply(text)


def test_82_bytes() -> None:
    assert encode("é") == [195, 169]
    assert encode("") == []
    assert encode("<|eot|>\n") == list(b"<|eot|>\n")
    assert decode([72, 105]) == "Hi"
    assert decode([195]) == "\ufffd"
    assert decode([72, 195, 169, 255]) == "Hé\ufffd"
    for bad in (256, -1):
        with pytest.raises(ValueError, match=f"token id {bad}"):
            decode([bad])
    with pytest.raises(ValueError, match="surrogate"):
        encode("\ud800")


def test_82_every_byte_is_shown() -> None:
    tok = Tokenizer.of_bytes()
    assert tok.kind == "bytes"
    assert len(tok) == 256
    assert [tok.display(i) for i in range(256)] == [token_display(i) for i in range(256)]
    assert tok.chat_tokens == {}


def test_84_a_prompt_is_usr_content_eot_asst(tok: Tokenizer) -> None:
    ids = tok.chat_tokens
    hello = tok.encode("hello")
    assert chat_template.format_prompt(tok, said((U, "hello"))) == [
        ids["usr"], *hello, ids["eot"], ids["asst"],
    ]  # fmt: skip
    assert chat_template.format_prompt(tok, []) == [ids["asst"]]
    long = said((S, "what"), (U, "hello"), (A, "you"), (U, ""), (A, ""))
    prompt = chat_template.format_prompt(tok, long)
    assert prompt.count(ids["eot"]) == 4  # the empty beginning of an answer is none
    assert prompt[:-1] == chat_template.format_chat(tok, long)
    starts = [i for i in prompt if i in (ids["sys"], ids["usr"], ids["asst"])]
    assert starts == [ids[name] for name in ("sys", "usr", "asst", "usr", "asst")]


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text,
        lambda text: f"a{text}{text}b",
        lambda text: text.replace("<", "＜").replace("|", "｜"),  # to be normalized
        lambda text: text[:3] + "\u200b" + text[3:],  # the normalizer drops it
        lambda text: "\\" + text,
    ],
)
@pytest.mark.parametrize("special", [pieces.SPECIAL, pieces.OLD_SPECIAL])
def test_85_a_spelling_in_a_content_is_no_special_token(
    tmp_path: Path, special: tuple[str, ...], spell: Callable[[str], str]
) -> None:
    path = tmp_path / "spm.model"
    path.write_bytes(pieces.model(pieces.chat_pieces(special=special)))
    tok = Tokenizer.open(path)
    for text in special:
        prompt = chat_template.format_prompt(tok, said((U, spell(text))))
        assert [i for i in prompt if i in tok.chat_tokens.values()] == [
            tok.chat_tokens[name] for name in ("usr", "eot", "asst")
        ]
    escaped = special[3].replace("|", "\\|")
    assert chat_template.format_chat(tok, said((U, special[3])))[1:-1] == tok.encode(escaped)


def test_84_the_reply_of_ids(tok: Tokenizer) -> None:
    ids = tok.chat_tokens
    asst, eot = ids["asst"], ids["eot"]
    reply = chat_template.extract_assistant_reply
    assert reply(tok, [asst, 300, eot, asst, 301, 302, eot, 303]) == [301, 302]
    assert reply(tok, [asst, 300, eot, asst, 301]) == [301]
    assert reply(tok, [asst, 300, eot, asst]) == []
    assert reply(tok, [300, eot]) == []


def test_a_model_has_the_format_that_it_was_trained_on(tmp_path: Path, model: Model) -> None:
    size = niels.Size(V=512, T=128, C=16, L=1, H=2, d_ff=16)
    path = niels.write_checkpoint(tmp_path / "best.pt", 2, size=size)
    pieces.write_model(tmp_path / "spm.model", size.V)
    of_pieces = cacher.load(path, threads=1)
    ids = of_pieces.tokenizer.chat_tokens
    messages = said((U, "hello<|usr|>"))
    prompt = format_of(of_pieces).prompt(messages)
    assert prompt == chat_template.format_prompt(of_pieces.tokenizer, messages)
    assert format_of(of_pieces).stop == ()  # eot ends an answer
    assert of_pieces.info.eos_token_ids == (ids["eot"],)
    (tmp_path / "256").mkdir()
    of_bytes = cacher.load(niels.write_checkpoint(tmp_path / "256" / "best.pt", 2), threads=1)
    for other, text in {of_bytes: format_chat(messages), model: format_chat(messages)[:-1]}.items():
        assert format_of(other).stop == ("\nsystem: ", "\nuser: ", "\nassistant: ")
        assert other.tokenizer.decode(format_of(other).prompt(messages)) == text


def test_a_tokenizer_without_the_special_tokens_makes_no_prompt() -> None:
    with pytest.raises(TokenizerError, match="sys, usr, asst, eot"):
        chat_template.format_prompt(Tokenizer.of_bytes(), [])
