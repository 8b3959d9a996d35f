"""Asking a cache: the remembered answer, or a new one that is generated once."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from cacher.checks import boolean, string
from cacher.errors import ParameterError, StoreError
from cacher.semantic.entry import Answer, Entry, Hit, check_query, source_of
from cacher.stores.base import check_tenant

if TYPE_CHECKING:
    from cacher.semantic.cache import SemanticCache
    from cacher.semantic.shelf import Shelf

AGAIN_S = 0.05  # between two questions whether another process has its answer
MAX_NAME = 128

F = TypeVar("F", bound=Callable[..., Any])
Generate = Callable[[str], "str | Awaitable[str]"]


class Question(NamedTuple):
    """A question that is being answered."""

    cache: SemanticCache
    query: str
    threshold: float | None
    tenant: str
    source: str
    started: float

    @property
    def shelf(self) -> Shelf:
        """The entries of its tenant."""
        return self.cache._shelf(self.tenant)

    def answered(self, hit: Hit) -> Answer:
        """Return the answer that was found."""
        self.shelf.count(hits=1)
        return self._answer(hit.entry.response, hit, None, hit.entry.entry_id)

    def missed(self, entry: Entry, guarded: str | None) -> Answer:
        """Return the answer that was made."""
        self.shelf.count(misses=1, guarded=guarded is not None)
        entry_id = entry.entry_id if self.cache.max_cache_size else None
        return self._answer(entry.response, None, guarded, entry_id)

    def passed(self, response: str) -> Answer:
        """Return the answer to a question that was not to be looked for."""
        self.shelf.count(bypasses=1)
        return self._answer(response, None, None, None)

    def _answer(
        self, response: str, hit: Hit | None, guarded: str | None, entry_id: str | None
    ) -> Answer:
        return Answer(
            query=self.query,
            response=response,
            hit=hit,
            guarded=guarded,
            entry_id=entry_id,
            embedding_dimension=self.cache.embedder.dimension,
            processing_time=time.perf_counter() - self.started,
        )

    def store(self, response: object, vector: Any) -> Entry:
        """Remember what was generated."""
        if not isinstance(response, str):
            raise TypeError(f"{self.source} returned {type(response).__name__}, allowed: str")
        source = source_of(response, self.source)
        return self.cache.put(
            self.query, str(response), source=source, vector=vector, tenant=self.tenant
        )


class Asking:
    """The asking part of `cacher.SemanticCache`."""

    _functions: dict[str, Callable[..., Any]]  # that `cached` was given, by their tenants

    def query(
        self,
        query: str,
        generate: Callable[[str], str],
        *,
        use_cache: bool = True,
        similarity_threshold: float | None = None,
        tenant: str = "",
        source: str | None = None,
    ) -> Answer:
        r"""Return the remembered answer, or generate one and remember it.

        While one call generates for a text, others that miss with the same text wait for it, in
        threads, tasks, and processes that share a store (those for 30 s; then they generate, too).
        An error of `generate` is raised from all that wait in this process, and nothing is stored.

        Args:
            query: The text, 1 to 32,768 characters, not only white space.
            generate: Called with the text, unless an answer is remembered.
            use_cache: False: neither look nor store.
            similarity_threshold: The least cosine of a hit, 0 to 1; None: the cache's.
            tenant: Whose entries.
            source: Stored with the answer as where it comes from; None: the name of `generate`.
                A `Response` brings its own.

        Raises:
            ParameterError: An argument is outside its range.
            EncodingError: A text holds half of a surrogate pair.
            StoreError: The store cannot be read, or the answer not be stored.
            RuntimeError: `generate` asks for the answer that it is to make.

        Example:
            >>> import cacher
            >>> if "minilm" in cacher.hub.built_in():
            ...     cache = cacher.SemanticCache("minilm")
            ...     cache.query("What is a fox?", lambda text: "An animal.").cache_hit
            ...     cache.query("What's a fox?", lambda text: "Never called.").response
            ... else:
            ...     print("False\n'An animal.'")
            False
            'An animal.'
        """
        asked = self._asked(query, generate, use_cache, similarity_threshold, tenant, source)
        cache, shelf = asked.cache, asked.shelf
        if not use_cache:
            return asked.passed(_response(asked, called(generate, query)))
        vector = None
        while True:
            look = cache.look(
                query, similarity_threshold=asked.threshold, vector=vector, tenant=tenant
            )
            turn = look.hit or shelf.begin(query)
            if turn is None:
                break
            hit = turn if isinstance(turn, Hit) else shelf.landed(turn.result())
            if hit is not None:
                return asked.answered(hit)
            vector = look.vector
        with shelf.flying(query) as landed:
            while (claim := shelf.claim(query)) is None:
                time.sleep(AGAIN_S)
            if isinstance(claim, Hit):
                landed.append(claim.entry)
                return asked.answered(claim)
            try:
                landed.append(asked.store(called(generate, query), look.vector))
            finally:
                shelf.release(query, claim)
        return asked.missed(landed[0], look.guarded)

    async def aquery(
        self,
        query: str,
        generate: Generate,
        *,
        use_cache: bool = True,
        similarity_threshold: float | None = None,
        tenant: str = "",
        source: str | None = None,
    ) -> Answer:
        """Return what `query` returns; the event loop never waits for it.

        Args:
            query: As for `query`.
            generate: A function that is called in a thread, or a coroutine function.
            use_cache: As for `query`.
            similarity_threshold: As for `query`.
            tenant: As for `query`.
            source: As for `query`.

        Raises:
            ParameterError: As `query`, with its other errors.
        """
        cache = cast("SemanticCache", self)
        if not cache.ready:
            await asyncio.to_thread(lambda: cache.embedder)
        asked = self._asked(query, generate, use_cache, similarity_threshold, tenant, source)
        shelf = asked.shelf
        if not use_cache:
            return asked.passed(_response(asked, await generated(generate, query)))
        while True:
            look = await cache.alook(query, similarity_threshold=asked.threshold, tenant=tenant)
            turn = look.hit or shelf.begin(query)
            if turn is None:
                break
            hit = (
                turn
                if isinstance(turn, Hit)
                else shelf.landed(await asyncio.shield(asyncio.wrap_future(turn)))
            )
            if hit is not None:
                return asked.answered(hit)
        with shelf.flying(query) as landed:
            while (claim := await self._claimed(shelf, query)) is None:
                await asyncio.sleep(AGAIN_S)
            if isinstance(claim, Hit):
                landed.append(claim.entry)
                return asked.answered(claim)
            try:
                response = await generated(generate, query)
                landed.append(await cache._aside(asked.store, response, look.vector))
            finally:
                await asyncio.shield(cache._aside(shelf.release, query, claim))
        return asked.missed(landed[0], look.guarded)

    async def _claimed(self, shelf: Shelf, query: str) -> str | Hit | None:
        """Claim a text; a claim that comes for one who was called off is given back."""
        cache = cast("SemanticCache", self)
        claiming = asyncio.ensure_future(cache._aside(shelf.claim, query))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(StoreError):
                if isinstance(claim := await claiming, str):
                    await cache._aside(shelf.release, query, claim)
            raise

    def _asked(
        self,
        query: str,
        generate: Generate,
        use_cache: bool,
        threshold: float | None,
        tenant: str,
        source: str | None,
    ) -> Question:
        boolean("use_cache", use_cache)
        if not callable(generate):
            raise TypeError(f"generate must be callable, got {type(generate).__name__}")
        name = name_of(generate) if source is None else string("source", source)
        cache = cast("SemanticCache", self)
        return Question(cache, check_query(query), threshold, tenant, name, time.perf_counter())

    def _place(self, function: Callable[..., Any]) -> str:
        """The tenant of a function's entries."""
        place = place_of(function)
        first = self._functions.setdefault(place, function)
        if first is not function and "<locals>" in name_of(function):
            raise ParameterError(f"{name_of(function)} names two functions: name a tenant")
        return place

    def cached(
        self,
        function: F | None = None,
        *,
        similarity_threshold: float | None = None,
        tenant: str | None = None,
    ) -> Any:
        """Make a function of a text remember its answers; a decorator.

        A coroutine function stays one.  Functions do not share answers.

        Args:
            function: Takes one text and returns a text.  What else it takes keeps its default,
                since nothing but the text decides what is found.
            similarity_threshold: The least cosine of a hit, 0 to 1; None: the cache's.
            tenant: Where its entries are; None: under its module's name and its own.

        Raises:
            TypeError: It takes something else: a method takes its object, too.
            ParameterError: It has no name of its own, as a lambda, a bound method, or the second
                of functions that one piece of code makes; then a tenant must be named.

        Example:
            >>> import cacher
            >>> if "minilm" in cacher.hub.built_in():
            ...     cache = cacher.SemanticCache("minilm")
            ...     @cache.cached
            ...     def shout(text):
            ...         return text.upper()
            ...     assert shout("What is a fox?") == shout("What's a fox?")
        """
        cache = cast("SemanticCache", self)

        def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
            text = _text_of(function)
            place = cache._place(function) if tenant is None else check_tenant(tenant)
            kwargs: dict[str, Any] = {
                "similarity_threshold": similarity_threshold, "tenant": place
            }  # fmt: skip
            if inspect.iscoroutinefunction(function):

                @wraps(function)
                async def answering(*args: Any, **named: Any) -> str:
                    return (await self.aquery(text(args, named), function, **kwargs)).response

                return answering

            @wraps(function)
            def answer(*args: Any, **named: Any) -> str:
                return self.query(text(args, named), function, **kwargs).response

            return answer

        return decorated if function is None else decorated(function)


def called(generate: Callable[[str], object], query: str) -> object:
    """Return what a function makes of a text.

    Raises:
        RuntimeError: It raised StopIteration, which no future can carry to those who wait.
    """
    try:
        return generate(query)
    except StopIteration as error:
        raise RuntimeError(f"{name_of(generate)} raised StopIteration") from error


async def generated(generate: Generate, query: str) -> object:
    """Return the answer of a function, which is called in a thread, or of a coroutine function."""
    if inspect.iscoroutinefunction(generate):
        return await generate(query)
    found = await asyncio.to_thread(called, generate, query)
    return await found if inspect.isawaitable(found) else found


def _response(asked: Question, response: object) -> str:
    if not isinstance(response, str):
        raise TypeError(f"{asked.source} returned {type(response).__name__}, allowed: str")
    return str(response)


def name_of(function: object) -> str:
    """Return the name of what is called."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def place_of(function: Callable[..., Any]) -> str:
    """Return the name of a function as one of a tenant: letters, digits, and few more.

    Raises:
        ParameterError: Others of the same name may do something else.
    """
    name = f"{getattr(function, '__module__', None) or 'builtins'}.{name_of(function)}"
    owner = getattr(function, "__self__", None)
    bound = owner is not None and not isinstance(owner, (type, ModuleType))
    if bound or not hasattr(function, "__qualname__") or "<lambda>" in name:
        raise ParameterError(f"{name} is not one function's name alone: name a tenant")
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    if plain == name and len(name) <= MAX_NAME:
        return name
    mark = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{plain[: MAX_NAME - len(mark) - 1]}-{mark}"


def _text_of(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Return what finds the text among the arguments of a call.

    Raises:
        TypeError: The function takes something else than one text.
    """
    name = name_of(function)
    if not callable(function):
        raise TypeError(f"what is cached must be callable, got {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is a generator, allowed: what returns a text")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of something written in C, which does not tell
        signature = inspect.Signature()
    else:
        try:
            signature.bind("a text")
        except TypeError as error:
            raise TypeError(
                f"{name}{signature} cannot be called with one text alone: {error}"
            ) from None
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind is inspect.Parameter.VAR_POSITIONAL:
        first = inspect.Parameter("text", inspect.Parameter.POSITIONAL_ONLY)
    alone = inspect.Signature([first.replace(default=inspect.Parameter.empty)])

    def text(args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if len(args) == 1 and not named:
            return args[0]  # as below, sooner
        try:
            return alone.bind(*args, **named).args[0]
        except TypeError as error:
            raise TypeError(f"{name} is cached, and called with one text alone: {error}") from None

    return text
