"""The decorator: whose answers are whose, what is refused, how the result is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from cacher import ParameterError, SemanticCache

FOX = "What is a fox?"


class Chat:
    """Something that answers in its own voice."""

    def __init__(self, voice: str) -> None:
        self.voice = voice

    def ask(self, text: str) -> str:
        return f"{self.voice}: {text}"

    def __call__(self, text: str) -> str:
        return self.ask(text)

    @classmethod
    def known(cls, text: str) -> str:
        return f"{cls.__name__}: {text}"


def of_two(first: str, text: str) -> str:
    return first + text


def with_options(text: str, temperature: float = 0.5) -> str:
    return f"{text} {temperature}"


@pytest.mark.parametrize(
    "functions",
    [
        (lambda text: text.upper(), lambda text: text.lower()),
        (partial(of_two, "1"), partial(of_two, "2")),
        (Chat("a").ask, Chat("b").ask),
        (Chat("a"), Chat("b")),
    ],
    ids=["lambdas", "partials", "methods", "objects"],
)
def test_what_has_no_name_of_its_own_needs_a_tenant(
    cache: SemanticCache, functions: tuple[Callable[[str], str], ...]
) -> None:
    for function in functions:
        with pytest.raises(ParameterError, match="name a tenant"):
            cache.cached(function)
    made = [cache.cached(f, tenant=f"voice{i}") for i, f in enumerate(functions)]
    assert [one(FOX) for one in made] == [function(FOX) for function in functions]


def test_functions_that_one_piece_of_code_makes_do_not_share_answers(cache: SemanticCache) -> None:
    def make(voice: str, **options: Any) -> Callable[[str], str]:
        @cache.cached(**options)
        def ask(text: str) -> str:
            return f"{voice}: {text}"

        return ask  # type: ignore[no-any-return]

    assert make("a")(FOX) == f"a: {FOX}"
    with pytest.raises(ParameterError, match=r"make\.<locals>\.ask names two functions"):
        make("b")
    assert make("b", tenant="b")(FOX) == f"b: {FOX}"


def test_one_function_twice_and_one_of_a_class_are_fine(cache: SemanticCache) -> None:
    strict = cache.cached(with_options, similarity_threshold=1.0)
    assert strict(FOX) == cache.cached(with_options)(FOX) == f"{FOX} 0.5"
    assert cache.cached(Chat.known)(FOX) == f"Chat: {FOX}"
    assert cache.cached(str.upper)(FOX) == FOX.upper()


def test_the_text_may_be_named_and_nothing_else_given(cache: SemanticCache) -> None:
    cached = cache.cached(with_options)
    assert cached(text=FOX) == f"{FOX} 0.5"
    for call in (
        lambda: cached(FOX, temperature=1.0),
        lambda: cached(FOX, 1.0),
        lambda: cached(),
        lambda: cached(query=FOX),
    ):
        with pytest.raises(TypeError, match="with_options is cached, and called with one text"):
            call()

    @cache.cached
    async def whisper(text: str) -> str:
        return text.lower()

    assert asyncio.run(whisper(text=FOX)) == FOX.lower()


def test_what_takes_no_text_or_returns_none_is_refused_at_once(cache: SemanticCache) -> None:
    with pytest.raises(TypeError, match=r"ask\(self, text\) cannot be called with one text"):

        class Cached:
            @cache.cached
            def ask(self, text):  # type: ignore[no-untyped-def]
                return text

    def yields(text: str) -> Iterator[str]:
        yield text

    async def yields_later(text: str) -> AsyncIterator[str]:
        yield text

    for function in (yields, yields_later):
        with pytest.raises(TypeError, match=r"yields.* is a generator"):
            cache.cached(function)
    with pytest.raises(TypeError, match="one text alone"):
        cache.cached(lambda: "answer", tenant="none")
    with pytest.raises(TypeError, match="callable, got classmethod"):
        cache.cached(Chat.__dict__["known"])
    with pytest.raises(ParameterError, match="tenant"):
        cache.cached(with_options, tenant="../a")
