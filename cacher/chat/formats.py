"""How messages become the tokens that a model reads, and where its answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from cacher.chat.template import ChatTemplate, template_of
from cacher.niels_gpt.chat_format import TAGS, Message, format_chat, spoken
from cacher.niels_gpt.chat_template import format_prompt

if TYPE_CHECKING:
    from cacher.model import Model


class ChatFormat(Protocol):
    """A format: the prompt of messages, and strings behind which an answer does not go on."""

    stop: tuple[str, ...]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of messages and of what precedes the assistant's answer."""


class PlainFormat:
    """A line for each message, ``role: content``, then ``assistant: ``.

    Its last space is left out where tokens are longer than bytes: there it is a part of the first
    word of an answer, and a model has hardly ever read it alone.
    """

    stop = TAGS

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.tokenizer
        self._behind = "" if model.tokenizer.kind == "bytes" else " "

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `ChatFormat`; a content is plain text, whatever it spells."""
        text = format_chat(messages).removesuffix(self._behind)
        return self._tokenizer.encode(text, specials=False)


class PieceFormat:
    """Special tokens around messages, as niels-gpt models with pieces read them.

    The model's end-of-sequence token is ``eot``.
    """

    stop: tuple[str, ...] = ()

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.tokenizer

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `ChatFormat`."""
        return format_prompt(self._tokenizer, messages)


class TemplateFormat:
    """What a model's own chat template makes of messages; its end-of-sequence token ends them."""

    stop: tuple[str, ...] = ()

    def __init__(self, model: Model, template: ChatTemplate) -> None:
        self._tokenizer = model.tokenizer
        self._template = template

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `ChatFormat`."""
        return self._tokenizer.encode(self._template.apply_chat_template(spoken(messages)))


def format_of(model: Model) -> ChatFormat:
    """Return the format of a model: that of its pieces or its template, or else the plain one.

    Raises:
        TokenizerError: The model has no tokenizer.
        MissingExtraError: It has a template, and Jinja is not installed.
        ModelFormatError: Its template is damaged.
    """
    if model.tokenizer.chat_tokens:
        return PieceFormat(model)
    template = template_of(model.folder)
    return PlainFormat(model) if template is None else TemplateFormat(model, template)
