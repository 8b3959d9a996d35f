"""What answers a question that no remembered one resembles.

Each is a function of the question, for `SemanticCache.query`, and a coroutine function for
`SemanticCache.aquery`; their answers are the same.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from cacher.checks import integer, shown
from cacher.errors import EngineClosedError, ParameterError
from cacher.semantic.entry import Response

if TYPE_CHECKING:
    from cacher.engine import Engine
    from cacher.model import Model
    from cacher.state import State
    from cacher.types import Generation

MAX_TOKENS = 4096
LONG_QUESTION = 2000  # characters that take longer to encode than to hand to a thread


class Responder(Protocol):
    """Answers questions."""

    def __call__(self, query: str) -> Response:
        """Return the answer to a question."""

    async def arespond(self, query: str, *, tenant: str = "") -> Response:
        """Return the same without keeping the event loop waiting.

        Args:
            query: The question.
            tenant: Who asks; what is computed for one is not found again by another.
        """


def template(query: str) -> Response:
    """Return a sentence that holds the question, for want of an answer.

    Example:
        >>> from cacher.semantic.responder import template
        >>> template("Why?")
        'This is a generated answer to: Why?'
    """
    return Response(f"This is a generated answer to: {query}", "template")


class TemplateResponder:
    """Answers every question with one sentence that holds it."""

    def __call__(self, query: str) -> Response:
        """Return the sentence."""
        return template(query)

    async def arespond(self, query: str, *, tenant: str = "") -> Response:  # noqa: ARG002
        """Return the sentence."""
        return template(query)


class LmResponder:
    """Answers with what a model says next: greedy, and no further than the end of the line.

    The model reads ``Question: <query>``, a newline, ``Answer:``; of a question that is too long
    for it, the end.  Where it has nothing to say, the answer is that of `template`.

    Args:
        model: A causal language model.
        max_tokens: New tokens at most, 1 to 4096.
        engine: What runs the model for `arespond`; None: a thread.

    Example:
        >>> import cacher
        >>> from cacher.semantic.responder import LmResponder
        >>> answer = LmResponder(cacher.load("tales"))("Who lives in the forest?")
        >>> (answer.source, len(answer) > 0)
        ('lm:tales', True)
    """

    def __init__(self, model: Model, *, max_tokens: int = 64, engine: Engine | None = None) -> None:
        self._model = model
        self._max_tokens = integer("max_tokens", max_tokens, 1, MAX_TOKENS)
        self._engine = engine

    def __call__(self, query: str) -> Response:
        """Return the answer to a question."""
        said = self._asked(query, None).generate(self._max_tokens, stop="\n", progress=False)
        return self._answer(query, said)

    async def arespond(self, query: str, *, tenant: str = "") -> Response:
        """Return the same; requests that come together share the model's passes."""
        if self._engine is None:
            return await asyncio.to_thread(self, query)
        salt = tenant or None
        if len(query) > LONG_QUESTION:
            state = await asyncio.to_thread(self._asked, query, salt)
        else:
            state = self._asked(query, salt)
        said = await self._engine.generate(state, self._max_tokens, stop="\n")
        return self._answer(query, said)

    def _asked(self, query: str, salt: str | None) -> State:
        config = {"temperature": 0.0, "context_strategy": "slide", "store_logits": "none"}
        state = self._model.state(config=config, cache_salt=salt)
        ids = self._model.tokenizer.encode(f"Question: {query}\nAnswer:", specials=False)
        state.append(ids[-state.context_limit :])
        return state

    def _answer(self, query: str, said: Generation) -> Response:
        if said.finish_reason == "cancelled":
            raise EngineClosedError("the engine is closed")
        text = said.text.partition("\n")[0].strip()
        return Response(text, f"lm:{self._model.name}") if text else template(query)


class FunctionResponder:
    """Answers with what a function returns.

    Args:
        name: ``module:function``.  The function takes the question and returns the answer, or is a
            coroutine function that does.

    Raises:
        ParameterError: There is no such function.

    Example:
        >>> from cacher.semantic.responder import FunctionResponder
        >>> FunctionResponder("textwrap:dedent")("  Why?")
        'Why?'
    """

    def __init__(self, name: str) -> None:
        self._function = _found(name)
        self._name = name

    def __call__(self, query: str) -> Response:
        """Return what the function returns."""
        found = self._function(query)
        return self._answer(asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found)

    async def arespond(self, query: str, *, tenant: str = "") -> Response:  # noqa: ARG002
        """Return the same; a function that is no coroutine function is called in a thread."""
        if inspect.iscoroutinefunction(self._function):
            return self._answer(await self._function(query))
        found = await asyncio.to_thread(self._function, query)
        return self._answer(await found if inspect.isawaitable(found) else found)

    def _answer(self, found: object) -> Response:
        if not isinstance(found, str):
            raise TypeError(f"{self._name} returned {type(found).__name__}, allowed: str")
        if not found:
            raise ParameterError(f"{self._name} returned an empty text, allowed: an answer")
        return Response(found, self._name.partition(":")[2])


async def _awaited(found: Awaitable[object]) -> object:
    return await found


def _found(name: str) -> Callable[[str], Any]:
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError(f"{shown(name)} cannot be imported: {error}") from error
    if not callable(found):
        raise ParameterError(f"{shown(name)} is a {type(found).__name__}, allowed: a function")
    return found  # type: ignore[no-any-return]
