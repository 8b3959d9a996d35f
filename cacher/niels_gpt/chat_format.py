"""A conversation as plain text: a line for each message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

ROLES = ("system", "user", "assistant")
#: What begins a message behind an answer, and so ends it.
TAGS = tuple(f"\n{role}: " for role in ROLES)
ANSWER = "assistant: "


class Message(TypedDict):
    """Who said what; `role` is one of `ROLES`."""

    role: str
    content: str


def format_chat(messages: Iterable[Message]) -> str:
    r"""Return the text of messages, and what precedes the answer.

    Args:
        messages: With ``role`` and ``content``.  An empty last one of the assistant is the
            beginning of the answer itself.

    Raises:
        ValueError: A role is none of system, user, assistant.

    Example:
        >>> from cacher.niels_gpt.chat_format import format_chat
        >>> format_chat([{"role": "user", "content": "hi"}])
        'user: hi\nassistant: '
    """
    lines = (f"{message['role']}: {message['content']}\n" for message in spoken(messages))
    return "".join(lines) + ANSWER


def spoken(messages: Iterable[Message]) -> list[Message]:
    """Return the messages that stand before an answer: all but an empty last one of the assistant.

    Raises:
        ValueError: A role is none of system, user, assistant.

    Example:
        >>> from cacher.niels_gpt.chat_format import spoken
        >>> spoken([{"role": "assistant", "content": ""}])
        []
    """
    said = list(messages)
    for message in said:
        if message["role"] not in ROLES:
            raise ValueError(f"role is {message['role']!r}, allowed: {', '.join(ROLES)}")
    if said and said[-1]["role"] == "assistant" and not said[-1]["content"]:
        said.pop()
    return said


def extract_assistant_reply(text: str) -> str:
    r"""Return the last answer in a text that is not empty, "" where all are.

    Raises:
        ValueError: There is no ``assistant: `` in it.

    Example:
        >>> from cacher.niels_gpt.chat_format import extract_assistant_reply
        >>> extract_assistant_reply("assistant: one\nuser: u\nassistant: two\n")
        'two'
    """
    if ANSWER not in text:
        raise ValueError(f"the text has no {ANSWER!r}")
    found, at = "", text.find(ANSWER)
    while at >= 0:
        begin = at + len(ANSWER)
        ends = [end for tag in TAGS if (end := text.find(tag, begin)) >= 0]
        found = text[begin : min(ends, default=len(text))].strip() or found
        at = text.find(ANSWER, at + 1)
    return found
