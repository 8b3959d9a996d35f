"""The package's own engine as the model of a pipeline: samples whose bits depend on nothing else.

Sample i of a key draws from a seed of its own, made from the model's seed, the key and i.  So it is
the same whenever it is drawn: alone, beside others, after a restart, or behind samples that another
process drew.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cacher import hub
from cacher.chat.template import template_of
from cacher.checks import MAX_UINT64, integer
from cacher.engine import Engine
from cacher.errors import ContextOverflowError, EngineClosedError
from cacher.generate import MAX_ROWS
from cacher.model import Model
from cacher.params import SAMPLING_CHECKS, check_max_tokens
from cacher.pipelines.prompts import TOKEN_LIMITS, ChatTokenizer, option, prompt_of
from cacher.typedefs import Batch, Request, Response
from cacher.typedefs import hash as key_of

if TYPE_CHECKING:
    from cacher.state import State
    from cacher.types import Generation

T = TypeVar("T")

LONG_PROMPT = 2000  # characters that take longer to encode than to hand to a thread
LOOK_UP = 64  # requests that are read before others have a turn in the event loop
OFF = {"top_k": 0, "top_p": 1.0, "stop": ()}  # what None means here


def sample_seed(seed: int, key: str, index: int) -> int:
    """Return what sample `index` of a key is drawn with.

    Args:
        seed: Of the model, 0 to 2^64-1.
        key: Of the request.
        index: Of the sample in the key's list.

    Example:
        >>> sample_seed(42, "0" * 64, 0) == sample_seed(42, "0" * 64, 1)
        False
    """
    hashed = sha256(seed.to_bytes(8, "little") + key.encode("ascii") + index.to_bytes(8, "little"))
    return int.from_bytes(hashed.digest()[:8], "little")


class Sample(NamedTuple):
    """What was drawn.

    Attributes:
        text: Without the prompt and without the stop sequence.
        finish_reason: ``"stop"`` or ``"length"``.
        prompt_tokens: Of the prompt.
        completion_tokens: New ones.
        seed: It was drawn with.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seed: int


class _Order(NamedTuple):
    """A request as the engine runs it; its samples have the indices from `first` on."""

    prompt: str
    max_tokens: int
    sampling: dict[str, Any]
    seed: int
    key: str
    first: int
    n: int


class _Desk:
    """What is in hand in one event loop: so many samples, and the prompts that they continue."""

    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self._prompts: dict[str, tuple[State, int]] = {}

    def find(self, prompt: str) -> State | None:
        """Return the state of a prompt that others use."""
        return self._prompts[prompt][0] if prompt in self._prompts else None

    def join(self, prompt: str, state: State) -> State:
        """Note one user more, of the state that is there or else of this one; return which."""
        state, users = self._prompts.get(prompt, (state, 0))
        self._prompts[prompt] = (state, users + 1)
        return state

    def leave(self, prompt: str) -> None:
        """Note one user less."""
        state, users = self._prompts.pop(prompt)
        if users > 1:
            self._prompts[prompt] = (state, users - 1)


class LocalLLM:
    """A language model of this package behind both protocols of the pipelines.

    Samples are computed together, `max_batch` at a time; where one ends, the next takes its place.
    Those of one prompt share the reading of it.  Computing happens in the engine's thread: the
    event loop never waits.

    A request's ``kwargs``, or the fields that a subclass of `Request` adds, override ``max_tokens``
    (also as ``max_completion_tokens`` or ``max_new_tokens``), ``temperature``, ``top_k``,
    ``top_p``, ``stop`` and ``seed``; other entries are ignored, but count in the key.

    Args:
        model: A model's name, folder or hub id; an opened model; or an engine.
        tokenizer: What turns messages into the text that a chat model reads, by a method
            ``apply_chat_template`` as tokenizers of transformers have it; None: the chat template
            of the model's folder.  Without one, a text model reads the contents of messages, a
            line each.
        max_new_tokens: New tokens of a sample at most.
        temperature: As in `SamplingParams`.
        top_k: As in `SamplingParams`; None or 0 is off.
        top_p: As in `SamplingParams`; None or 1 is off.
        seed: 0 to 2^64-1; sample i of a key is drawn with `sample_seed` of it.
        max_batch: Samples that are computed together at most, 1 to 256.
        stop: Strings that end a sample.
        threads: Threads of a forward pass; None: the cores this process may use.

    Raises:
        ModelError: The model cannot be opened, or writes no text.
        MissingExtraError: It has a chat template, and ``cacher[chat]`` is not installed.
        ParameterError: A value is outside its range.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import LocalLLM
        >>> from cacher.typedefs import Request
        >>> llm = LocalLLM("tales", max_new_tokens=8)
        >>> request = Request(prompt="Once upon a", n=2, request_id="1", namespace=None)
        >>> len(asyncio.run(llm.request(request)).data)
        2
    """

    def __init__(
        self,
        model: str | PathLike[str] | Model | Engine,
        *,
        tokenizer: ChatTokenizer | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.9,
        top_k: int | None = 50,
        top_p: float | None = None,
        seed: int = 42,
        max_batch: int = 8,
        stop: str | Iterable[str] | None = None,
        threads: int | None = None,
    ) -> None:
        """Open the model where it is not open; threads start with the first request."""
        max_batch = integer("max_batch", max_batch, 1, MAX_ROWS)
        self.max_new_tokens = check_max_tokens(max_new_tokens)
        self.seed = integer("seed", seed, 0, MAX_UINT64)
        given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "stop": stop}
        self._sampling = _checked({**OFF, **_there(given)})
        self._owned = not isinstance(model, Engine)
        # Of an engine of our own as many more wait to join: a place in a pass never stays empty.
        self._places = 2 * max_batch if self._owned else max_batch
        self.engine = _engine(model, max_batch, threads)
        self.engine.model._require("generation")
        self.engine.model.tokenizer  # noqa: B018 - raises where there is none
        self._tokenizer = tokenizer or template_of(self.engine.model.folder)
        self._lock = threading.Lock()  # guards what follows
        self._desks: dict[asyncio.AbstractEventLoop, _Desk] = {}
        self._drawn: dict[str, int] = {}

    @property
    def model(self) -> Model:
        """The model."""
        return self.engine.model

    @property
    def identity(self) -> str:
        """A line that is another where the same request would be answered otherwise."""
        made = (self.model.fingerprint, self.max_new_tokens, *self._sampling.items(), self.seed)
        return repr(made)

    async def request(self, request: Request) -> Response:
        """Return `request.n` samples, each a string: without the prompt and the stop sequence.

        A caller that is cancelled stops the samples within a token.

        Raises:
            ParameterError: There is no prompt, or an option is outside its range.
            ContextOverflowError: The prompt leaves no room for a new token.
        """
        return _texts(await self.draw(request))

    async def batch_request(self, batch: Batch) -> list[Response | Exception]:
        """Return the answers of all members, computed together.

        A member that cannot be run has its exception in its place.
        """
        drawn = await self.draw_all(batch.requests)
        return [found if isinstance(found, Exception) else _texts(found) for found in drawn]

    async def draw(self, request: Request) -> list[Sample]:
        """Return the samples of a request with what is known of each; see `request`."""
        return await self._carry_out(self._order(request))

    async def draw_all(self, requests: Sequence[Request]) -> list[list[Sample] | Exception]:
        """Return the samples of several requests, or in its place what failed; see `draw`."""
        results: dict[int, list[Sample] | Exception] = {}
        orders = {}
        for i, request in enumerate(requests):  # in their order: who has no index is counted here
            if i % LOOK_UP == LOOK_UP - 1:
                await asyncio.sleep(0)
            try:
                orders[i] = self._order(request)
            except Exception as error:
                results[i] = error
        runs = await _all([self._carry_out(order) for order in orders.values()])
        for i, found in zip(orders, runs, strict=True):
            if isinstance(found, BaseException) and not isinstance(found, Exception):
                raise found
            results[i] = found
        return [results[i] for i in range(len(requests))]

    async def aclose(self) -> None:
        """End what runs, and the engine unless it was given."""
        if self._owned:
            await self.engine.aclose()

    async def __aenter__(self) -> LocalLLM:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<LocalLLM {self.model.name!r}, seed {self.seed}>"

    # ---- from a request to what the engine runs

    def _order(self, request: Request) -> _Order:
        n = integer("n", request.n, 0, MAX_UINT64)
        prompt = prompt_of(request, self._tokenizer)
        options = {name: option(request, name) for name in (*self._sampling, "seed")}
        seed = self.seed if options["seed"] is None else options["seed"]
        max_tokens = option(request, *TOKEN_LIMITS)
        key = key_of(request)
        order = _Order(
            prompt,
            self.max_new_tokens if max_tokens is None else check_max_tokens(max_tokens),
            {**self._sampling, **_checked(_there({**options, "seed": None}))},
            integer("seed", seed, 0, MAX_UINT64), key, 0, n,
        )  # fmt: skip
        return order._replace(first=self._first(key, request))

    def _first(self, key: str, request: Request) -> int:
        """Return the index of a request's first sample."""
        if request.sample_index is not None:
            return integer("sample_index", request.sample_index, 0, MAX_UINT64 - request.n)
        with self._lock:
            first = self._drawn.get(key, 0)
            self._drawn[key] = first + request.n
        return first

    # ---- running it

    async def _carry_out(self, order: _Order) -> list[Sample]:
        runs = [self._sample(order, order.first + i) for i in range(order.n)]
        if len(runs) == 1:
            return [await runs[0]]
        tasks = [asyncio.ensure_future(run) for run in runs]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:  # one failed, or the caller goes: nobody wants the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _sample(self, order: _Order, index: int) -> Sample:
        seed = sample_seed(order.seed, order.key, index)
        async with self._read(order.prompt) as prompt:
            said = await self.engine.generate(
                prompt.fork(), order.max_tokens, seed=seed, **order.sampling
            )
            return _sample(said, len(prompt), seed)

    @asynccontextmanager
    async def _read(self, prompt: str) -> AsyncIterator[State]:
        """Give the state of a prompt; all that continue it at a time share one."""
        desk = self._desk()
        async with desk.places:
            state = desk.find(prompt)
            if state is None:
                state = await self._encoded(prompt)
            state = desk.join(prompt, state)
            try:
                yield state
            finally:
                desk.leave(prompt)

    def _desk(self) -> _Desk:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._desks:
                for ended in [other for other in self._desks if other.is_closed()]:
                    del self._desks[ended]
                self._desks[loop] = _Desk(self._places)
            return self._desks[loop]

    async def _encoded(self, prompt: str) -> State:
        if len(prompt) > LONG_PROMPT:
            return await self.engine.run(self._state, prompt)
        return self._state(prompt)

    def _state(self, prompt: str) -> State:
        model = self.model
        state = model.state(prompt, config={"context_size": model.n_ctx, "store_logits": "none"})
        if len(state) >= state.context_limit:
            raise ContextOverflowError(
                f"the prompt has {len(state)} tokens, which leaves no room for a new one in the "
                f"context of {state.context_limit}"
            )
        return state


def _engine(
    model: str | PathLike[str] | Model | Engine, max_batch: int, threads: int | None
) -> Engine:
    if isinstance(model, Engine):
        return model
    if isinstance(model, Model):
        if threads is not None:
            model.set_threads(threads)
    else:
        model = hub.load(model, threads=threads)
    return Engine(model, max_running=max_batch)


async def _all(runs: Sequence[Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    """Run coroutines beside each other; one that is alone needs no task."""
    if len(runs) != 1:
        return await asyncio.gather(*runs, return_exceptions=True)
    try:
        return [await runs[0]]
    except Exception as error:
        return [error]


def _there(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: SAMPLING_CHECKS[name](name, value) for name, value in options.items()}


def _sample(said: Generation, prompt_tokens: int, seed: int) -> Sample:
    if said.finish_reason == "cancelled":
        raise EngineClosedError("the engine is closed")
    text = said.text
    if said.stop_sequence is not None:
        text = text[: text.find(said.stop_sequence)]
    stopped = said.finish_reason in ("eos", "stop_sequence")
    return Sample(text, "stop" if stopped else "length", prompt_tokens, len(said), seed)


def _texts(samples: list[Sample]) -> Response:
    return Response(data=[sample.text for sample in samples])
