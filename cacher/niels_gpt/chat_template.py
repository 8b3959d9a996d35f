"""A conversation as tokens: what models with pieces are trained on.

A message is the special token of its role, its content, and ``eot``; behind all of them comes the
token of an answer.  The special tokens are those of `Tokenizer.chat_tokens`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from cacher.errors import TokenizerError
from cacher.niels_gpt.chat_format import Message, spoken
from cacher.tokenizer import Tokenizer

#: The special token that begins a message of a role.
TOKENS = {"system": "sys", "user": "usr", "assistant": "asst"}


def format_prompt(tok: Tokenizer, messages: Iterable[Message]) -> list[int]:
    """Return the ids of messages, and of what precedes the answer.

    Args:
        tok: With the four special tokens.
        messages: As those of `cacher.niels_gpt.chat_format.format_chat`.

    Raises:
        ValueError: A role is none of system, user, assistant.
        TokenizerError: The tokenizer has no such tokens.
    """
    return [*format_chat(tok, messages), _ids(tok)["asst"]]


def format_chat(tok: Tokenizer, messages: Iterable[Message]) -> list[int]:
    """Return the ids of messages alone; otherwise as `format_prompt`."""
    special = _ids(tok)
    ids: list[int] = []
    for message in spoken(messages):
        content = _encode_content(tok, message["content"])
        ids += [special[TOKENS[message["role"]]], *content, special["eot"]]
    return ids


def extract_assistant_reply(tok: Tokenizer, ids: Sequence[int]) -> list[int]:
    """Return the ids of the last answer: those behind the last ``asst``, up to an ``eot``.

    Returns:
        None of them where there is no ``asst``.

    Raises:
        TokenizerError: The tokenizer has no such tokens.
    """
    special, every = _ids(tok), list(ids)
    if special["asst"] not in every:
        return []
    reply = every[len(every) - every[::-1].index(special["asst"]) :]
    return reply[: reply.index(special["eot"])] if special["eot"] in reply else reply


def _ids(tok: Tokenizer) -> Mapping[str, int]:
    found = tok.chat_tokens
    if not found:
        needed = ", ".join([*TOKENS.values(), "eot"])
        raise TokenizerError(f"the tokenizer has not all of the special tokens {needed}")
    return found


def _encode_content(tok: Tokenizer, content: str) -> list[int]:
    r"""Encode a content, in which no special token is one.

    A literal spelling loses its meaning by a backslash in front of each ``|``, as in training.  A
    normalizer may spell one out of other characters, so special pieces are not looked for either.
    """
    spelled = _spelled(tuple(tok.token(i) for i in _ids(tok).values()))
    escaped = spelled.sub(lambda found: found[0].replace("|", "\\|"), content)
    return tok.encode(escaped, specials=False)


@lru_cache(16)
def _spelled(spellings: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, spellings)))
