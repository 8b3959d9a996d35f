"""How a user's model is called, and what is made of its answers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from types import CoroutineType
from typing import Any

from cacher.checks import shown
from cacher.errors import ModelContractError, ShortResponseError
from cacher.pipelines.counters import Counters
from cacher.pipelines.portion import Answer, Portion, another, failed
from cacher.typedefs import Batch, Response

log = logging.getLogger(__name__)


def check_model(model: object) -> None:
    """See that a model offers one of the two calls.

    Raises:
        TypeError: It has neither.
    """
    if not any(callable(getattr(model, name, None)) for name in ("request", "batch_request")):
        raise TypeError(
            f"a model must have request or batch_request, {type(model).__name__} has neither"
        )


def being_cancelled() -> bool:
    """Whether a `CancelledError` is meant for the running task: a model may raise its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def answer_of(given: Any, n: int) -> Answer:
    """Return what a model gave for n samples as an answer: all of them, and an error when short."""
    if isinstance(given, BaseException):
        return failed(given)
    if isinstance(given, list):
        given = Response(given)
    if not isinstance(given, Response) or not isinstance(given.data, (list, tuple)):
        what = (
            f"a Response of {type(given.data).__name__}"
            if isinstance(given, Response)
            else (type(given).__name__)
        )
        return failed(ModelContractError(f"the model returned {what}, allowed: Response of a list"))
    data = list(given.data)
    size = len(data)
    answer = Answer(data, _flags(given.cached, size), _flags(given.duplicated, size))
    if size < n:
        answer.error = ShortResponseError(f"the model returned {size} of {n} samples")
    return answer


def _flags(flags: Any, n: int) -> list[bool]:
    """A flag for each sample; those that a model did not give are false."""
    if flags is None:
        return [False] * n
    given = [bool(flag) for flag in flags[:n]]
    return given + [False] * (n - len(given))


class Calls:
    """A user's model as the end of a pipeline."""

    def __init__(self, model: Any, counters: Counters, *, isolate: bool = False) -> None:
        """Look at what a model offers.

        Args:
            model: The model.
            counters: Where its calls are counted.
            isolate: Ask for each member of a group alone when the model raises for all of it.

        Raises:
            TypeError: The model has neither of the two calls.
        """
        check_model(model)
        self.model = model
        self._counters = counters
        self._isolate = isolate

    async def serve(self, portions: list[Portion]) -> list[Answer]:
        """Return the answer to each portion, with all that the model gave for it."""
        return await self.answers([portion.as_request() for portion in portions])

    async def answers(self, requests: list[Any]) -> list[Answer]:
        """Return the answer to each request of a group."""
        if not callable(getattr(self.model, "batch_request", None)):
            return await self._one_by_one(requests)
        self._counters.model_calls += 1
        try:
            given = await self.model.batch_request(Batch(requests))
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and being_cancelled():
                raise
            if self._isolate and len(requests) > 1 and isinstance(error, Exception):
                return [(await self.answers([request]))[0] for request in requests]
            return [failed(error)] + [failed(another(error)) for _ in requests[1:]]
        return self._matched(given, requests)

    def _matched(self, given: Any, requests: list[Any]) -> list[Answer]:
        if not isinstance(given, (list, tuple)) or isinstance(given, Response):
            text = f"the model returned {type(given).__name__} for a batch, allowed: a list"
            return [failed(ModelContractError(text)) for _ in requests]
        if len(given) > len(requests):
            log.warning("the model returned %d answers for %d requests", len(given), len(requests))
        answers = [
            answer_of(each, request.n) for each, request in zip(given, requests, strict=False)
        ]
        self._counters.model_samples += sum(len(answer.data) for answer in answers)
        text = f"the model returned {len(given)} answers for {len(requests)} requests"
        while len(answers) < len(requests):
            answers.append(failed(ModelContractError(text)))
        return answers

    async def _one_by_one(self, requests: list[Any]) -> list[Answer]:
        if len(requests) == 1:
            return [await self.answer(requests[0])]
        tasks = [asyncio.ensure_future(self.answer(request)) for request in requests]
        try:
            await asyncio.wait(tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        return [failed(asyncio.CancelledError()) if t.cancelled() else t.result() for t in tasks]

    async def answer(self, request: Any) -> Answer:
        """Return the answer to a single request."""
        if not callable(getattr(self.model, "request", None)):
            return (await self.answers([request]))[0]
        self._counters.model_calls += 1
        try:
            given = self.model.request(request)
            if type(given) is not CoroutineType and not inspect.isawaitable(given):
                text = f"the model's request returned {shown(type(given).__name__)}"
                return failed(ModelContractError(f"{text}, allowed: something to await"))
            answer = answer_of(await given, request.n)
        except Exception as error:
            return failed(error)
        except asyncio.CancelledError as error:
            if being_cancelled():
                raise
            return failed(error)
        self._counters.model_samples += len(answer.data)
        return answer
