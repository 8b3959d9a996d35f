"""The chat template of a model's folder: how its messages become the text that it reads.

A template is a program in Jinja's language that comes with the model.  It runs in Jinja's sandbox,
where it can read nothing but the messages: not even the date, so that a prompt is always the same.
It runs in a process of its own, with a second of computing, 512 MiB of memory and 4 Mi characters
of text: see `cacher.chat.rendering`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cacher.chat.rendering import renderer
from cacher.errors import MissingExtraError, ModelFormatError

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
OPTIONS = "tokenizer_config.json"
FILE = "chat_template.jinja"  # where newer folders have it
MOST_SOURCE = 1 << 20  # characters of a template


class ChatTemplate:
    """What turns messages into a prompt; made by `template_of`.

    Args:
        source: The template.
        special: Special tokens by their names in the template.

    Raises:
        MissingExtraError: Jinja is not installed.
        ModelFormatError: The template is none, or over 1 Mi characters.

    Example:
        >>> chat = ChatTemplate("{{ messages[0].role }}: {{ messages[0].content }}")
        >>> chat.apply_chat_template([{"role": "user", "content": "Who is there?"}])
        'user: Who is there?'
    """

    def __init__(self, source: str, special: Mapping[str, str] | None = None) -> None:
        """Compile the template."""
        if find_spec("jinja2") is None:
            raise MissingExtraError(
                "the model has a chat template, which needs Jinja: pip install 'cacher[chat]'"
            )
        if len(source) > MOST_SOURCE:
            raise ModelFormatError(
                f"the chat template has {len(source)} characters, allowed: at most {MOST_SOURCE}"
            )
        self._source = source
        self._special = dict(special or {})
        renderer.check(source)

    def apply_chat_template(
        self,
        conversation: Any,
        *,
        tokenize: bool = False,  # noqa: ARG002 - as tokenizers of transformers have it
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the text of messages.

        Args:
            conversation: Messages with ``role`` and ``content``.
            tokenize: Not used: the answer is a text.
            add_generation_prompt: Let what precedes an answer stand behind them.

        Raises:
            ParameterError: The template takes no such messages, or more time or memory than it may.
        """
        asked = {"messages": conversation, "add_generation_prompt": add_generation_prompt}
        return renderer.render(self._source, {**self._special, **asked})


def template_of(folder: str) -> ChatTemplate | None:
    """Return the chat template of a model's folder; None where it has none.

    Raises:
        MissingExtraError: It has one, and Jinja is not installed.
        ModelFormatError: It is damaged.
    """
    options = _options(Path(folder, OPTIONS))
    file = Path(folder, FILE)
    source = _text(file) if file.is_file() else options.get("chat_template")
    if isinstance(source, list):  # several, each with a name
        named = {t.get("name"): t.get("template") for t in source if isinstance(t, dict)}
        source = named.get("default")
    if source is None:
        return None
    if not isinstance(source, str):
        raise ModelFormatError(
            f"chat_template of {OPTIONS} must be a string, got {type(source).__name__}"
        )
    return ChatTemplate(source, {name: _token(options.get(name)) for name in SPECIAL})


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except ValueError as error:
        raise ModelFormatError(f"{file.name} cannot be read: {error}") from error


def _options(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        options = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{OPTIONS} cannot be read: {error}") from error
    return options if isinstance(options, dict) else {}


def _token(given: object) -> str:
    """The text of a special token, which may come with its flags."""
    text = given.get("content") if isinstance(given, dict) else given
    return text if isinstance(text, str) else ""
