"""What a chat completion of a local model is: the fields that clients of OpenAI's API read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cacher.typedefs import Response

KIND = "chat.completion"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """What was said.

    Attributes:
        role: ``"assistant"``.
        content: The text.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers.

    Attributes:
        index: Which, from 0.
        message: The answer.
        finish_reason: ``"stop"``: the model ended it, or a stop sequence did; ``"length"``: it has
            as many tokens as were allowed, or as there was room for.
    """

    index: int
    message: ChatMessage
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens.

    Attributes:
        prompt_tokens: Of the prompt, which is read once for all answers.
        completion_tokens: Of the answers together.
        total_tokens: Of both.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """The answers to a prompt; equal where all fields are.

    Attributes:
        id: Of the first answer.
        object: ``"chat.completion"``.
        created: When that was made, in seconds since 1970.
        model: The model's name.
        choices: The answers, in the order of their samples.
        usage: Tokens of all.

    Example:
        >>> answer = completion("c-1", 0, "tales", "Hello.", "stop", 3, 2)
        >>> answer.choices[0].message.content, answer.usage.total_tokens
        ('Hello.', 5)
        >>> ChatCompletion.model_validate(answer.model_dump()) == answer
        True
    """

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage

    def model_dump(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def model_validate(cls, data: Mapping[str, Any]) -> ChatCompletion:
        """Return what `model_dump` was called on."""
        choices = [
            Choice(**{**choice, "message": ChatMessage(**choice["message"])})
            for choice in data["choices"]
        ]
        return cls(**{**data, "choices": choices, "usage": Usage(**data["usage"])})


def completion(
    name: str,
    created: int,
    model: str,
    text: str,
    finish_reason: str,
    prompt_tokens: int,
    completion_tokens: int,
) -> ChatCompletion:
    """Return a completion with one answer."""
    choice = Choice(0, ChatMessage("assistant", text), finish_reason)
    usage = Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens)
    return ChatCompletion(name, KIND, created, model, [choice], usage)


def joined(response: Response) -> ChatCompletion:
    """Return one completion of samples that are completions; without any, one without answers.

    Example:
        >>> answer = completion("c-1", 0, "tales", "Hello.", "stop", 3, 2)
        >>> both = joined(Response([answer, answer]))
        >>> [choice.index for choice in both.choices], both.usage.total_tokens
        ([0, 1], 7)
    """
    samples: list[ChatCompletion] = response.data
    if not samples:
        return ChatCompletion("", KIND, 0, "", [], Usage(0, 0, 0))
    said = [choice for sample in samples for choice in sample.choices]
    choices = [Choice(i, each.message, each.finish_reason) for i, each in enumerate(said)]
    first = samples[0]
    prompt = first.usage.prompt_tokens
    new = sum(sample.usage.completion_tokens for sample in samples)
    usage = Usage(prompt, new, prompt + new)
    return ChatCompletion(first.id, KIND, first.created, first.model, choices, usage)
