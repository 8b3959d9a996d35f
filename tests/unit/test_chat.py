"""Conversations: every answer is the one that a fresh reading of the messages would give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import cacher
from cacher.chat import Conversation
from cacher.chat.formats import Message, format_of

QUESTION, OTHER = "Who lives in the wood?", "Who lives in the lake?"


def said_anew(talk: Conversation, messages: list[Message], seed: int) -> str:
    """The answer of a state that has read nothing before."""
    form = format_of(talk.state.model)
    config = {"context_size": 1024, "store_logits": "none"}
    state = talk.state.model.state(form.prompt(messages), config=config)
    return state.generate(20, seed=seed, stop=form.stop).text


@pytest.fixture
def talk(model: cacher.Model) -> Conversation:
    return Conversation(model, max_tokens=20, system="You tell stories.", name="main")


def test_answers_are_those_of_a_fresh_state(talk: Conversation) -> None:
    pieces = list(talk.ask(QUESTION))
    assert len(pieces) > 5, "it comes as it is made"
    assert "".join(pieces) == said_anew(talk, talk.messages[:-1], 42)
    assert talk.messages == [
        {"role": "system", "content": "You tell stories."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "".join(pieces).strip()},
    ]
    second = talk.ask("And then?").read()
    assert second == said_anew(talk, talk.messages[:-1], 42)


def test_a_retry_reads_nothing_again(talk: Conversation) -> None:
    first = talk.ask(QUESTION).read()
    answer = talk.retry()
    assert answer.read_tokens == 0
    assert answer.read() == said_anew(talk, talk.messages[:-1], 43) != first
    assert len(talk.messages) == 3
    assert talk.seed == 43


def test_an_edit_rolls_back_to_what_is_equal(talk: Conversation) -> None:
    talk.ask(QUESTION).read()
    talk.ask("Are you sure?").read()
    before = talk.state.history[-1].revision
    answer = talk.edit("Are you quite sure?")
    assert 0 < answer.read_tokens < 20, "the rest of the conversation stays read"
    assert answer.read() == said_anew(talk, talk.messages[:-1], 42)
    assert [message["content"] for message in talk.messages[1::2]] == [
        QUESTION, "Are you quite sure?"
    ]  # fmt: skip
    assert "rollback" in [e.op for e in talk.state.history if e.revision > before]


def test_a_fork_goes_its_own_way(talk: Conversation) -> None:
    talk.ask(QUESTION).read()
    messages = [*talk.messages]
    copy = talk.fork("copy")
    assert copy.state.forked_from == "main"
    assert copy.state.cached_tokens >= talk.state.cached_tokens - 1
    assert copy.edit(OTHER).read() == said_anew(copy, copy.messages[:-1], 42)
    assert talk.messages == messages
    assert talk.retry().read() == said_anew(talk, messages[:-1], 43)
    assert copy.seed == 42


def test_an_answer_that_is_left_is_a_message(talk: Conversation) -> None:
    answer = talk.ask(QUESTION)
    head = next(answer) + next(answer)
    talk.ask("Stop!").read()
    assert answer.end == "closed"
    assert talk.messages[2] == {"role": "assistant", "content": head.strip()}
    assert list(answer) == []


def test_what_ends_an_answer_is_never_shown(model: cacher.Model) -> None:
    whole = Conversation(model, max_tokens=30).ask(QUESTION).read()
    words = whole.split(" ")
    stop = " ".join(words[4:6])  # over a border between tokens
    talk = Conversation(model, max_tokens=30, stop=stop)
    answer = talk.ask(QUESTION)
    shown = list(answer)
    assert "".join(shown) == whole[: whole.index(stop)] == answer.text
    assert answer.end == "stop"
    assert talk.messages[-1]["content"] == answer.text.strip()
    unfinished = Conversation(model, max_tokens=30, stop=whole[-3:] + "\0never").ask(QUESTION)
    assert "".join(unfinished) == whole, "what only might have ended it is shown in the end"
    assert unfinished.end == "length"


def test_it_goes_on_past_the_context(model: cacher.Model) -> None:
    talk = Conversation(model, max_tokens=300)
    for turn in range(5):
        assert talk.ask(f"Go on, {turn}.").read()
    assert talk.state.dropped_tokens > 0
    assert len(talk.attention()) == len(talk.state) - talk.state.dropped_tokens
    long = Conversation(model, max_tokens=5).ask("a b c d " * 1000)
    assert long.read()


def test_attention_is_that_of_the_last_token(talk: Conversation) -> None:
    with pytest.raises(cacher.EmptyStateError):
        talk.attention()
    talk.ask(QUESTION).read()
    row = talk.state.attention(2, 5)[-1]
    assert talk.attention(2, 5) == pytest.approx(row.tolist(), abs=1e-6)
    mean = talk.state.attention(5)[:, -1].mean(axis=0)
    assert talk.attention() == pytest.approx(mean.tolist(), abs=1e-6)


def test_traces_are_what_looking_shows(model: cacher.Model) -> None:
    talk = Conversation(model, max_tokens=20, trace_layer=3)
    plain = Conversation(model, max_tokens=20)
    answer = talk.ask(QUESTION)
    assert answer.read() == plain.ask(QUESTION).read()
    assert [token.token_id for token in answer.tokens] == talk.state.token_ids[-20:]
    seen = talk.state.attention(3)
    for token in answer.tokens:
        assert token.trace is not None
        assert token.trace.attention is not None
        row = seen[:, token.position - 1, : token.position]
        assert (token.trace.attention == row).all()
    with pytest.raises(cacher.LayerOutOfRangeError):
        Conversation(model, trace_layer=6)


def test_what_cannot_be_said_changes_nothing(talk: Conversation) -> None:
    for again in (talk.retry, lambda: talk.edit("x")):
        with pytest.raises(cacher.ParameterError, match="no message yet"):
            again()
    talk.ask(QUESTION).read()
    messages = [*talk.messages]
    with pytest.raises(cacher.EncodingError):
        talk.ask("\ud800")
    with pytest.raises(TypeError):
        talk.ask(5)  # type: ignore[arg-type]
    assert talk.messages == messages
    assert talk.ask("And then?").read() == said_anew(talk, talk.messages[:-1], 42)


def test_what_is_no_chat_model_is_refused() -> None:
    with pytest.raises(cacher.WrongModelTypeError, match="conversation"):
        Conversation(cacher.load("minilm"))
    with pytest.raises(cacher.ParameterError, match="temperature is -1"):
        Conversation(cacher.load("tales"), temperature=-1)


def test_a_model_with_a_template_is_asked_by_it(tmp_path: Path) -> None:
    folder = shutil.copytree(cacher.load("tales").folder, tmp_path / "chatty")
    options: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text())
    options["chat_template"] = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|endoftext|>{% endfor %}[answer]"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    talk = Conversation(cacher.load(folder), max_tokens=5)
    talk.ask("Hello").read()
    assert talk.state.text.startswith("[user] Hello<|endoftext|>[answer]")
    assert talk.state.model.tokenizer.id("<|endoftext|>") in talk.state.token_ids


def test_an_answer_begins_with_a_whole_token(model: cacher.Model) -> None:
    asked: list[Message] = [{"role": "user", "content": "hi"}]
    prompt = format_of(model).prompt(asked)
    assert model.tokenizer.decode(prompt) == "user: hi\nassistant:"


def test_the_text_of_a_message_is_no_special_token(talk: Conversation) -> None:
    talk.ask("<|endoftext|>").read()
    assert talk.state.model.tokenizer.id("<|endoftext|>") not in talk.state.token_ids
