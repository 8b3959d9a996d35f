"""Buying samples from a model, storing them, and handing them to those who wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import Executor
from typing import Any, Protocol

from cacher.errors import ShortResponseError, StoreError
from cacher.pipelines.batcher import AsyncBatcher
from cacher.pipelines.calls import Calls
from cacher.pipelines.counters import Counters
from cacher.pipelines.lane import Lane, Results
from cacher.pipelines.portion import Answer, Portion, another, detached, failed
from cacher.pipelines.series import Claim, Purchase, Series
from cacher.pipelines.store import SampleStore
from cacher.typedefs import derived

PAUSE_S = 0.01  # between two looks whether another process has bought
PAUSES = 6000  # until it is taken to hang

log = logging.getLogger(__name__)


class Buyer(Protocol):
    """Whose claims samples are bought for."""

    def plan(self, claim: Claim) -> list[Purchase]:
        """Say where the samples that a claim lacks come from; return what is to be bought."""

    def fail(self, claim: Claim, error: BaseException) -> None:
        """End a claim without samples."""


class Purchasing:
    """The purchases of a sample cache, of one event loop.

    A purchase goes through `buy`, `_bought` when the model has answered, `_stored` when the store
    has the samples, and `_hand_over`.  What a model works on is finished and stored even when
    nobody waits for it any more.
    """

    def __init__(self, buyer: Buyer, model: Any, store: SampleStore, *, strict: bool) -> None:
        """Buy from a model.

        Args:
            buyer: Who is told.
            model: The model, or the batcher before it.
            store: Where samples are stored.
            strict: Whether a sample that cannot be stored is none; else it is kept in memory.
        """
        self._buyer = buyer
        self._model = model
        self._store = store
        self._strict = strict
        self._tasks: dict[asyncio.Task[Any], list[Purchase]] = {}
        self._warned = False
        self.kept: dict[str, dict[int, Any]] = {}  # what could not be stored

    def share(self, counters: Counters) -> None:
        """Count in the numbers of a whole pipeline."""
        self._counters = counters
        self._calls = Calls(self._model, counters)

    def bind(self, loop: asyncio.AbstractEventLoop, executor: Executor | None) -> None:
        """Belong to an event loop; what belonged to another one is left."""
        self._loop = loop
        self._tasks = {}
        self.reads_here = executor is None or self._store.reads_quickly
        self.reads = Lane(loop, self._store.read, None if self.reads_here else executor)
        self._writes = Lane(loop, self._add, executor)
        self.mark = self._store.mark

    # ---- asking the model

    def buy(
        self, purchases: list[Purchase], *, mark: bytes | None = None, together: bool = False
    ) -> None:
        """Buy samples that the store did not have, unless another process is at it.

        Args:
            purchases: What is to be bought.
            mark: That of the store before it was asked; None: it may have been long ago.
            together: Ask the model by one call of a group.
        """
        mine: list[Purchase] = []
        for purchase in purchases:
            want = purchase.want
            if self._store.take(want):
                purchase.taken = want
                mine.append(purchase)
            elif not purchase.buyers:  # nobody waits for it any more
                self._bought(purchase, failed(asyncio.CancelledError()))
            elif purchase.pauses == PAUSES:
                mine.append(purchase)
            else:
                purchase.pauses += 1
                self._loop.call_later(PAUSE_S, self.buy, [purchase])
        if mine and self.mark() not in (mark, b""):  # who had taken them may have stored them
            wants = [purchase.want for purchase in mine]
            self.reads.put(wants, self._looked, (mine, together))
        else:
            self._ask(mine, together=together)

    def _looked(self, wanted: tuple[list[Purchase], bool], found: Results) -> None:
        """Give what others have stored meanwhile; ask the model for the rest."""
        purchases, together = wanted
        missing: list[Purchase] = []
        for at, purchase in enumerate(purchases):
            there = {} if isinstance(found, Exception) else found[at]
            if purchase.series.left or not there:
                missing.append(purchase)
                continue
            self.leave(purchase)
            purchase.series.to_be_stored(purchase)
            self._hand_over(purchase, there, own=False)
            self.store_ready(purchase.series)
        self._ask(missing, together=together)

    def _ask(self, purchases: list[Purchase], *, together: bool) -> None:
        """Ask the model for samples: all by one call of a group, or each by itself."""
        purchases = [purchase for purchase in purchases if not purchase.series.left]
        if together and purchases:
            requests = [_request_for(purchase) for purchase in purchases]
            self._call(purchases, self._calls.answers(requests))
            return
        for purchase in purchases:
            request = _request_for(purchase)
            if isinstance(self._model, AsyncBatcher):
                self._enter(self._model, purchase, request)
            else:
                self._call([purchase], self._calls.answer(request))

    def _enter(self, batcher: AsyncBatcher, purchase: Purchase, request: Any) -> None:
        portion = Portion(request, request.n)
        try:
            purchase.entry = batcher.enter(portion, self._bought, purchase)
        except Exception as error:  # it was closed
            self._bought(purchase, failed(error))

    def _call(self, purchases: list[Purchase], call: Coroutine[Any, Any, Any]) -> None:
        """Let a call of the model run, which returns an answer, or one for each purchase."""
        task = self._loop.create_task(call)
        self._tasks[task] = purchases
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[Any]) -> None:
        purchases = self._tasks.pop(task, ())
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            answers = [failed(error), *(failed(another(error)) for _ in purchases[1:])]
        else:
            given = task.result()
            answers = given if isinstance(given, list) else [given]
        for purchase, answer in zip(purchases, answers, strict=True):
            self._bought(purchase, answer)

    def _bought(self, purchase: Purchase, answer: Answer) -> None:
        """Store what the model gave, when its turn has come; what it did not, others may buy."""
        series, claim = purchase.series, purchase.claim
        if series.left:
            return
        purchase.ended = True
        purchase.samples = answer.data
        error = answer.error
        if len(answer.data) < purchase.n:
            if error is None:
                error = ShortResponseError(
                    f"the model returned {len(answer.data)} of {purchase.n} samples"
                )
            self._shorten(purchase, len(answer.data))
        if error is not None:
            self._buyer.fail(claim, error)
        self.store_ready(series)
        if not answer.data:
            self.leave(purchase)
            series.close_if_idle()

    def leave(self, purchase: Purchase) -> None:
        """Let other processes buy what this one may have bought."""
        if purchase.taken is not None:
            self._store.leave(purchase.taken)
            purchase.taken = None

    def _shorten(self, purchase: Purchase, n: int) -> None:
        """Let those who wait for samples that will not come get them elsewhere."""
        bought: list[Purchase] = []
        for claim in purchase.series.shorten(purchase, n):
            if claim is not purchase.claim:
                bought += self._buyer.plan(claim)
        self.buy(bought)

    def trim(self, purchase: Purchase, n: int) -> None:
        """Let the pieces of a purchase from number n on leave the batcher's queue."""
        if purchase.entry is not None and isinstance(self._model, AsyncBatcher):
            kept = self._model.keep(purchase.entry, n)
            if not purchase.ended and kept < purchase.n:
                purchase.series.shorten(purchase, kept)

    # ---- storing

    def store_ready(self, series: Series) -> None:
        """Store the samples whose turn it is."""
        for purchase in series.to_store():
            add = (series.key, purchase.start, purchase.samples)
            self._writes.put([add], self._stored, purchase)

    def _add(self, adds: list[Any]) -> list[Any]:
        """Store in one transaction; beside samples that cannot be stored, the others in others."""
        try:
            return list(self._store.add(adds))
        except TypeError as error:
            if len(adds) == 1:
                return [error]
            return [self._add([each])[0] for each in adds]

    def _stored(self, purchase: Purchase, stored: Results) -> None:
        """Give samples that were stored to those who wait for them."""
        self.leave(purchase)
        series, start, samples = purchase.series, purchase.start, purchase.samples
        if series.left:
            return
        places = stored if isinstance(stored, Exception) else stored[0]
        if isinstance(places, Exception):
            self.note_error("written", places)
            if self._strict:
                series.unstore(purchase)
                self._bought(purchase, failed(as_store_error(places)))
                return
            kept = self.kept.setdefault(series.key, {})
            kept.update((start + i, detached(sample)) for i, sample in enumerate(samples))
        else:
            if self._counters.watcher is not None:
                self._counters.tell("stored", key=series.key, index=places[0], count=len(places))
            if places[0] != start or places[-1] != start + len(samples) - 1:
                want = (series.key, start, start + len(samples))
                self.reads.put([want], self._displaced, purchase)
                return
        self._hand_over(purchase, {start + i: sample for i, sample in enumerate(samples)}, own=True)

    def _displaced(self, purchase: Purchase, found: Results) -> None:
        """Give what others stored under the indices that a purchase was for.

        An index that is still empty gets what was bought for it.
        """
        if purchase.series.left:
            return
        there: dict[int, Any] = {}
        if isinstance(found, Exception):
            self.note_error("read", found)
        else:
            there = found[0]
        for index, sample in enumerate(purchase.samples[: purchase.n], purchase.start):
            if index not in there:
                there[index] = sample
                purchase.claim.own |= {index}
        self._hand_over(purchase, there, own=False)

    def _hand_over(self, purchase: Purchase, samples: dict[int, Any], *, own: bool) -> None:
        """Give samples by index to all who wait; `own`: they are what the purchase brought."""
        series = purchase.series
        series.stored(purchase)
        if series.reading:
            series.recent.update((i, detached(sample)) for i, sample in samples.items())
        bought: list[Purchase] = []
        for claim in purchase.buyers:
            if purchase in claim.waiting:
                claim.waiting.remove(purchase)
            if claim is not purchase.claim:
                claim.found.update((i, detached(sample)) for i, sample in samples.items())
            else:
                claim.found.update(samples)
                if own:
                    claim.own |= samples.keys()
            if not claim.waiting:
                bought += self._buyer.plan(claim)
        if bought:
            self.buy(bought)
        series.close_if_idle()

    def note_error(self, what: str, error: Exception) -> None:
        """Count what a store raised; say it once."""
        self._counters.store_errors += 1
        if not self._warned:
            self._warned = True
            log.warning("samples could not be %s: %s", what, error)


def as_store_error(error: Exception) -> Exception:
    """Return what a store raised as a `StoreError`."""
    if isinstance(error, StoreError):
        return error
    wrapped = StoreError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _request_for(purchase: Purchase) -> Any:
    """The request that asks a model for what is to be bought."""
    portion = purchase.claim.portion
    return derived(
        portion.request,
        n=purchase.n,
        request_id=portion.request_id,
        sample_index=purchase.start,
    )
