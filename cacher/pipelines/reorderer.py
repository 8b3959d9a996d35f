"""Groups in an order that does not depend on who came first."""

from __future__ import annotations

from typing import Any

from cacher.pipelines.calls import Calls
from cacher.pipelines.counters import Counters
from cacher.pipelines.portion import Answer, Portion
from cacher.pipelines.stage import Stage


class RequestReorderer(Stage):
    """Sorts each group by the ids of its requests, and gives the answers in the order asked.

    The pieces ``x_0``, ``x_1``, ... of a request stand in the order of their numbers, and requests
    in that of their ids as texts.  Of equal ids, the one that came first stands first.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import RequestReorderer
        >>> from cacher.typedefs import Batch, Request, Response
        >>> class Model:
        ...     async def batch_request(self, batch):
        ...         print([request.request_id for request in batch.requests])
        ...         return [Response([request.prompt]) for request in batch.requests]
        >>> asked = [Request(prompt=id, n=1, request_id=id, namespace=None) for id in "213"]
        >>> answers = asyncio.run(RequestReorderer(Model()).batch_request(Batch(asked)))
        ['1', '2', '3']
        >>> [answer.data for answer in answers]
        [['2'], ['1'], ['3']]
    """

    def __init__(self, model: Any) -> None:
        """Stand before a model, or before another stage.

        Raises:
            TypeError: The model has neither `batch_request` nor `request`.
        """
        self.model = model
        self._counters = Counters(progress=False)
        self._next = model if isinstance(model, Stage) else Calls(model, self._counters)
        self.takes_portions = isinstance(model, Stage) and model.takes_portions

    async def serve(self, portions: list[Portion]) -> list[Answer]:  # noqa: D102 - as in Stage
        places = [(*portion.place, at, portion) for at, portion in enumerate(portions)]
        if len({place[0] for place in places}) < len(places):
            # Of two requests with one id, pieces of the same number stand side by side.
            places = [
                (stem, number + i, at, piece)
                for stem, number, at, portion in places
                for i, piece in enumerate(_pieces(portion))
            ]
        places.sort()  # no two are equal before their portions
        answers: list[Answer | None] = [None] * len(portions)
        served = await self._next.serve([place[3] for place in places])
        for (_, _, at, _), answer in zip(places, served, strict=True):
            before = answers[at]
            if before is None:
                answers[at] = answer
            else:
                before.extend(answer)
        return [answer for answer in answers if answer is not None]


def _pieces(portion: Portion) -> list[Portion]:
    return portion.pieces() if portion.first >= 0 else [portion]
