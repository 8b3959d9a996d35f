"""What a request asks of a local model: its prompt, in whatever form it came, and its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cacher.checks import string
from cacher.errors import ParameterError
from cacher.typedefs import Request

TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens")


class ChatTokenizer(Protocol):
    """What knows the form of a chat model's prompts; tokenizers of transformers do."""

    def apply_chat_template(
        self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool
    ) -> Any:
        """Return the text of messages, with what precedes an answer behind them."""


def option(request: Request, *names: str) -> Any:
    """Return the first of these that a request gives, in its kwargs or in a field of its own."""
    kwargs = request.kwargs if isinstance(request.kwargs, Mapping) else {}
    for name in names:
        if kwargs.get(name) is not None:
            return kwargs[name]
    for name in names:
        if (value := getattr(request, name, None)) is not None:
            return value
    return None


def prompt_of(request: Request, tokenizer: ChatTokenizer | None) -> str:
    """Return the text that the model is to go on with.

    Args:
        request: Its prompt is `Request.prompt`, ``kwargs["messages"]``, ``kwargs["prompt"]`` or
            ``args[0]``: the first that is there.
        tokenizer: Of a chat model, which reads messages, a plain text as that of a user; None: a
            text model reads a plain text as it is, and the contents of messages, a line each.

    Raises:
        TypeError: The prompt is neither a string nor messages.
        ParameterError: There is none, or messages hold more than text.
    """
    given = _given(request)
    if tokenizer is None:
        return given if isinstance(given, str) else "\n".join(m["content"] for m in given)
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return string("what apply_chat_template returned", text)


def _given(request: Request) -> str | list[dict[str, str]]:
    """Return the prompt: a text, or messages with a text each."""
    found: Any = request.prompt
    kwargs = request.kwargs if isinstance(request.kwargs, Mapping) else {}
    for name in ("messages", "prompt"):
        found = kwargs.get(name) if found is None else found
    if found is None and request.args:
        found = request.args[0]
    if found is None:
        raise ParameterError(
            "the request has no prompt, allowed: prompt, kwargs['messages'], kwargs['prompt'], "
            "args[0]"
        )
    if isinstance(found, str):
        return found
    if not isinstance(found, Sequence) or not all(isinstance(m, Mapping) for m in found):
        raise TypeError(f"a prompt must be a string or messages, got {type(found).__name__}")
    if not found:
        raise ParameterError("there are no messages, allowed: 1 or more")
    return [{"role": "user", **message, "content": _content(message)} for message in found]


def _content(message: Mapping[str, Any]) -> str:
    """Return the text of a message, which may come in parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise TypeError(
            f"the content of a message must be a string or parts, got {type(content).__name__}"
        )
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text":
            raise ParameterError(f"a message holds a part of type {kind!r}, allowed: 'text'")
    return "".join(string("the text of a part", part.get("text")) for part in content)
