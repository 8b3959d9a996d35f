"""Equal prompts of a group in one call, so that the prompt is paid once."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from cacher import typedefs
from cacher.checks import boolean
from cacher.pipelines.calls import Calls
from cacher.pipelines.counters import Counters
from cacher.pipelines.portion import Answer, Portion, another, failed
from cacher.pipelines.stage import Stage


class AsyncDeduplicator(Stage):
    """Joins the members of a group that have the same key and namespace.

    Their samples are bought by one request, and handed out in the order of the group.  The first of
    them that is fresh is the original, all further ones count as duplicated.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import AsyncDeduplicator
        >>> from cacher.typedefs import Batch, Request, Response
        >>> class Model:
        ...     async def batch_request(self, batch):
        ...         print([request.n for request in batch.requests])
        ...         return [Response(list(range(request.n))) for request in batch.requests]
        >>> asked = [Request(prompt="p", n=2, request_id=id, namespace=None) for id in "ab"]
        >>> answers = asyncio.run(AsyncDeduplicator(Model()).batch_request(Batch(asked)))
        [4]
        >>> [(answer.data, answer.duplicated) for answer in answers]
        [([0, 1], [False, True]), ([2, 3], [True, True])]
    """

    takes_portions = True

    def __init__(
        self,
        model: Any,
        correctness: bool = False,
        hash: Callable[[Any], str] = typedefs.hash,  # noqa: A002 - a documented name
    ) -> None:
        """Stand before a model, or before another stage.

        Args:
            model: What the joined requests are sent to.
            correctness: Join only the pieces of one request.
            hash: Gives the key of a request.

        Raises:
            TypeError: The model has neither `batch_request` nor `request`.
        """
        self.model = model
        self.correctness = boolean("correctness", correctness)
        self.hash = hash
        self._counters = Counters(progress=False)
        self._foreign = not isinstance(model, Stage)
        self._next = Calls(model, self._counters) if self._foreign else model

    async def serve(self, portions: list[Portion]) -> list[Answer]:  # noqa: D102 - as in Stage
        groups: dict[object, list[Portion]] = {}
        for portion in portions:
            if portion.dropped:
                portion.answer = failed(CancelledError())
                continue
            try:
                alike = self._alike(portion)
                group = groups.get(alike)
            except Exception as error:  # no key can stand for it
                portion.answer = failed(error)
                continue
            if group is None:
                groups[alike] = [portion]
            else:
                group.append(portion)
        merged = [group[0] if len(group) == 1 else _merged(group) for group in groups.values()]
        answers = await self._next.serve(merged) if merged else []
        for group, answer in zip(groups.values(), answers, strict=True):
            self._share(group, answer)
        return [portion.answer or failed(ValueError("no answer")) for portion in portions]

    def _alike(self, portion: Portion) -> object:
        """What the members of one group have in common."""
        key, namespace = portion.key(self.hash), portion.request.namespace
        if not self.correctness:
            return key, namespace
        # Numbered pieces are told by the request they are of, others by their id.
        name = str(portion.request.request_id)
        stem, mark, _ = name.rpartition("_")
        return key, namespace, stem if mark and portion.first < 0 else name

    def _share(self, group: list[Portion], answer: Answer) -> None:
        """Cut the answer up, in the order of the group."""
        if answer.error is not None:
            group[0].answer = failed(answer.error)
            for portion in group[1:]:
                portion.answer = failed(another(answer.error))
            return
        if self._foreign:
            n = sum(portion.n for portion in group)
            self._counters.surplus += len(answer.data) - n
            answer = answer.cut(0, n)
        if answer.cached.count(False) > 1:
            answer.duplicated = [not cached for cached in answer.cached]
            answer.duplicated[answer.duplicated.index(True)] = False
        else:
            answer.duplicated = [False] * len(answer.cached)
        if len(group) == 1:
            group[0].answer = answer
            return
        start = 0
        for portion in group:
            portion.answer = answer.cut(start, start + portion.n)
            start += portion.n


def _merged(group: list[Portion]) -> Portion:
    """The portion that stands for all: the first, for as many samples as all want."""
    first = group[0]
    merged = Portion(first.request, sum(portion.n for portion in group), first.first)
    merged._key, merged._hash = first._key, first._hash
    merged.members = [member for portion in group for member in portion.members or (portion,)]
    return merged
