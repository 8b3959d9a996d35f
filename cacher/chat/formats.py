"""How messages become the tokens that a model reads, and where its answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict

from cacher.pipelines.chat import ChatTemplate, template_of

if TYPE_CHECKING:
    from cacher.model import Model

ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """Who said what; `role` is one of `ROLES`."""

    role: str
    content: str


class ChatFormat(Protocol):
    """A format: the prompt of messages, and strings behind which an answer does not go on."""

    stop: tuple[str, ...]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of messages and of what precedes the assistant's answer."""


class PlainFormat:
    """A line for each message, ``role: content``, then ``assistant: ``."""

    stop = tuple(f"\n{role}: " for role in ROLES)

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.tokenizer

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `ChatFormat`; a content is plain text, whatever it spells."""
        lines = [f"{message['role']}: {message['content']}\n" for message in messages]
        return self._tokenizer.encode("".join([*lines, "assistant: "]), specials=False)


class TemplateFormat:
    """What a model's own chat template makes of messages; its end-of-sequence token ends them."""

    stop: tuple[str, ...] = ()

    def __init__(self, model: Model, template: ChatTemplate) -> None:
        self._tokenizer = model.tokenizer
        self._template = template

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `ChatFormat`."""
        return self._tokenizer.encode(self._template.apply_chat_template(list(messages)))


def format_of(model: Model) -> ChatFormat:
    """Return the format of a model: that of its template, or else the plain one.

    Raises:
        TokenizerError: The model has no tokenizer.
        MissingExtraError: It has a template, and Jinja is not installed.
        ModelFormatError: Its template is damaged.
    """
    template = template_of(model.folder)
    return PlainFormat(model) if template is None else TemplateFormat(model, template)
