"""The stage that remembers samples: read from a store, or bought from a model and then stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from cacher import typedefs
from cacher.checks import boolean, choice
from cacher.pipelines.calls import check_model
from cacher.pipelines.counters import Counters, Progress
from cacher.pipelines.lane import Results
from cacher.pipelines.ledger import Hold, Ledger
from cacher.pipelines.mapping import MappingStore
from cacher.pipelines.portion import Answer, Done, Portion, detached, failed
from cacher.pipelines.purchasing import Purchasing, as_store_error
from cacher.pipelines.series import Claim, Purchase, Series
from cacher.pipelines.stage import Front
from cacher.pipelines.store import SampleStore
from cacher.pipelines.visit import Entering, Visit


class AsyncCacher(Front):
    """Keeps for each key an ordered list of samples, and lets each namespace read it once.

    A request for n samples is given the n first of its key that its namespace was not given yet.
    Those that the store does not have are bought from the model, and stored before anybody gets
    them.  A new pipeline on the same store begins at the front again.

    Attributes:
        model: Where samples are bought.
        cache: What was passed as such.
        namespace2used_counts: By namespace and key, how many samples were handed out, or are being.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import AsyncCacher
        >>> from cacher.typedefs import Request, Response
        >>> class Model:
        ...     async def request(self, request):
        ...         print("buys", request.n)
        ...         start = request.sample_index
        ...         return Response([f"sample {start + i}" for i in range(request.n)])
        >>> async def main():
        ...     cacher = AsyncCacher(Model(), cache={})
        ...     for n, namespace in ((2, "a"), (3, "b")):
        ...         asked = Request(prompt="p", n=n, request_id="1", namespace=namespace)
        ...         answer = await cacher.request(asked)
        ...     return answer
        >>> asyncio.run(main())
        buys 2
        buys 1
        Response(data=['sample 0', 'sample 1', 'sample 2'], cached=[True, True, False], \
duplicated=[False, False, False])
    """

    def __init__(
        self,
        model: Any,
        cache: Any,
        hash: Callable[[Any], str] = typedefs.hash,  # noqa: A002 - a documented name
        *,
        on_store_error: str = "deliver",
        use_model_batch: bool = False,
        progress: Progress | bool | None = None,
    ) -> None:
        """Stand between callers and a model.

        Args:
            model: Where samples are bought: it has `request`, or else `batch_request`.
            cache: A `cacher.pipelines.Cache` or `RedisCache`; or an object with `get` and `set`, or
                a dict, which is used in the thread of the event loop.
            hash: Gives the key of a request.
            on_store_error: ``"deliver"``: samples that cannot be stored are delivered all the same,
                and kept in memory; ``"raise"``: the request fails.
            use_model_batch: Buy for all requests of a group by one `batch_request`.
            progress: What is told of each answer and stored sample, a callable; True for a bar,
                None for one when somebody watches.

        Raises:
            TypeError: The model cannot be asked, or the cache cannot be used as one.
            ParameterError: An argument is outside its range.
        """
        if cache is None:
            raise TypeError("the cache is None, allowed: a store or a mapping")
        check_model(model)
        self.model = model
        self.cache = cache
        self.hash = hash
        self.on_store_error = choice("on_store_error", on_store_error, "deliver", "raise")
        self.use_model_batch = boolean("use_model_batch", use_model_batch)
        self._threaded = isinstance(cache, SampleStore) and not isinstance(cache, MappingStore)
        self._executor: ThreadPoolExecutor | None = None
        self._ledger = Ledger()
        self._series: dict[str, Series] = {}
        self._entering: list[Entering] = []  # requests of this turn of the event loop
        self._order = count()
        self._emptied: asyncio.Future[None] | None = None
        store = cache if isinstance(cache, SampleStore) else MappingStore(cache)
        self._strict = self.on_store_error == "raise"
        self._purchasing = Purchasing(self, model, store, strict=self._strict)
        self._share(Counters(progress))

    def _share(self, counters: Counters) -> None:
        """Count in the numbers of a whole pipeline."""
        self._counters = counters
        self._purchasing.share(counters)

    @property
    def namespace2used_counts(self) -> MutableMapping[Any, dict[str, int]]:
        """By namespace and key, how many samples were handed out, or are being."""
        return self._ledger.used

    @property
    def used_counts(self) -> dict[str, int]:
        """By key, how many samples were handed out in namespace None, or are being."""
        return self._ledger.used.setdefault(None, {})

    # ---- claims

    async def serve(self, portions: list[Portion]) -> list[Answer]:  # noqa: D102 - as in Stage
        loop = self._bind()
        self.begin()
        visit = self._visit(portions)
        if visit.missing:
            visit.ended = loop.create_future()
            try:
                await visit.ended
            except BaseException:
                _drop(portions)
                raise
        return visit.answers

    def enter(self, portion: Portion, done: Done, whom: Any) -> None:
        """Let a request begin, with all others of this turn of the event loop; see `Front`."""
        loop = self._bind()
        self._entering.append((portion, done, whom))
        if len(self._entering) == 1:
            loop.call_soon(self._begin, self._entering)

    def begin(self) -> None:
        """Let the requests of this turn begin now."""
        self._begin(self._entering)

    def _begin(self, entering: list[Entering]) -> None:
        if entering is not self._entering or not entering:  # they have begun, or were left
            return
        self._entering = []
        try:
            visit = self._visit([portion for portion, _, _ in entering])
        except BaseException as error:
            for _, done, whom in entering:
                done(whom, failed(error))
            raise
        visit.give_to(entering)

    def _visit(self, portions: list[Portion]) -> Visit:
        """Answer what the store has, and see that the rest is bought."""
        visit = Visit(len(portions))
        try:
            holds = [
                (place, hold)
                for place, portion in enumerate(portions)
                if (hold := self._hold(visit, place, portion)) is not None
            ]
            if holds:
                self._look(visit, holds)
        except BaseException:
            _drop(portions)
            raise
        return visit

    def _hold(self, visit: Visit, place: int, portion: Portion) -> Hold | None:
        """Reserve what a request is to get; None when it is answered without."""
        try:
            key = portion.key(self.hash)
        except Exception as error:
            visit.answer(place, failed(error))
            return None
        if not portion.n or portion.dropped:
            answer = failed(asyncio.CancelledError()) if portion.dropped else Answer([], [], [])
            visit.answer(place, answer)
            return None
        series = self._series.get(key)
        if series is not None and series.gone:
            series.move_up()
        return Hold(self._ledger, portion, key)

    def _look(self, visit: Visit, holds: list[tuple[int, Hold]]) -> None:
        """Read what the store has.

        Where that is known before anything else can happen, a hold is enough; else others may plan
        and store meanwhile, and must know of what is wanted.
        """
        wants = [hold.want for _, hold in holds]
        visit.mark = self._purchasing.mark()
        if self._purchasing.reads_here:
            self._found(visit, holds, self._purchasing.reads.run(wants))
            return
        for place, hold in holds:
            claim = self._claim(visit, place, hold)
            claim.series.reading += 1
        self._purchasing.reads.put(wants, self._read, visit)

    def _found(self, visit: Visit, holds: list[tuple[int, Hold]], found: Results) -> None:
        """Hand out what the store has; buy what it has not."""
        if isinstance(found, Exception):
            self._purchasing.note_error("read", found)
        bought: list[Purchase] = []
        for at, (place, hold) in enumerate(holds):
            samples = {} if isinstance(found, Exception) else found[at]
            data = [samples[index] for index in hold.indices if index in samples]
            n = len(data)
            if n == len(hold.indices):
                visit.answer(place, Answer(data, [True] * n, [False] * n))
            else:
                bought += self._lacks(self._claim(visit, place, hold), found, samples)
        if visit.claims:
            self._buy(visit, bought)

    def _claim(self, visit: Visit, place: int, hold: Hold) -> Claim:
        series = self._series.get(hold.key)
        if series is None:
            series = self._series[hold.key] = Series(hold.key, self._ledger, self)
        claim = Claim(series, hold, next(self._order), visit, place)
        visit.claims.append(claim)
        return claim

    def _read(self, visit: Visit, found: Results) -> None:
        """Look at what a store that was asked elsewhere has for the claims of a call."""
        if isinstance(found, Exception):
            self._purchasing.note_error("read", found)
        bought: list[Purchase] = []
        for at, claim in enumerate(visit.claims):
            series = claim.series
            series.reading -= 1
            if claim.parties:  # somebody waits for it still
                samples = {} if isinstance(found, Exception) else found[at]
                bought += self._lacks(claim, found, samples)
            if not series.reading:
                series.recent = {}
        self._buy(visit, bought)

    def _lacks(self, claim: Claim, found: Results, samples: dict[int, Any]) -> list[Purchase]:
        """Plan for a claim that was given some samples, or could not be; return what to buy."""
        if isinstance(found, Exception) and self._strict:
            self.fail(claim, as_store_error(found))
            return []
        claim.found = samples
        return self.plan(claim)

    def _buy(self, visit: Visit, bought: list[Purchase]) -> None:
        self._purchasing.buy(bought, mark=visit.mark, together=self.use_model_batch)
        for claim in visit.claims:
            if claim.series.gone:
                self.store_ready(claim.series)

    def plan(self, claim: Claim) -> list[Purchase]:
        """Say where each sample that a claim lacks is to come from; return what is to be bought."""
        series = claim.series
        bought: list[Purchase] = []
        lacking = claim.lacking()
        if lacking:
            kept = self._purchasing.kept.get(series.key, {})
            to_buy = []
            for index in lacking:
                if index in kept or index in series.recent:
                    sample = kept[index] if index in kept else series.recent[index]
                    claim.found[index] = detached(sample)
                elif index in series.coming:
                    series.await_purchase(claim, series.coming[index])
                else:
                    to_buy.append(index)
            bought = [series.plan(claim, run) for run in _runs(to_buy)]
        if not claim.waiting:
            self._answered(claim)
        return bought

    def _answered(self, claim: Claim) -> None:
        """Give a claim its samples."""
        if claim.visit is None:
            return
        found, own = claim.found, claim.own
        data = list(map(found.__getitem__, claim.indices))
        cached = [index not in own for index in claim.indices] if own else [True] * len(data)
        visit, claim.visit = claim.visit, None
        visit.answer(claim.place, Answer(data, cached, [False] * len(data)))

    def fail(self, claim: Claim, error: BaseException) -> None:
        """End a claim without samples."""
        visit = claim.visit
        if visit is not None:
            claim.fail()
            visit.answer(claim.place, failed(error))

    def trim(self, purchase: Purchase, n: int) -> None:
        """Buy no more than the first n samples, as far as more are not bought already."""
        self._purchasing.trim(purchase, n)

    def store_ready(self, series: Series) -> None:
        """Store what need not wait any more."""
        self._purchasing.store_ready(series)

    # ---- the end

    def idle(self, series: Series) -> None:
        """Forget a key for which nothing is under way."""
        if self._series.get(series.key) is series:
            del self._series[series.key]
        if not self._series and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def drain(self) -> None:
        """Return when nothing is under way."""
        loop = self._bind()
        self.begin()
        while self._series:
            if self._emptied is None or self._emptied.done():
                self._emptied = loop.create_future()
            await asyncio.shield(self._emptied)

    async def cleanup(self, cancel: bool = False) -> None:  # noqa: D102 - as in Front
        boolean("cancel", cancel)
        self._closed = True
        await self.drain()
        self._counters.close()
        executor, self._executor = self._executor, None
        if self._threaded:
            await asyncio.get_running_loop().run_in_executor(executor, self.cache.close)
        elif callable(getattr(self.cache, "close", None)):
            self.cache.close()
        if executor is not None:
            executor.shutdown(wait=False)

    def _leave(self) -> None:
        for series in list(self._series.values()):
            for purchase in (*series.purchases, *series.storing):
                self._purchasing.leave(purchase)
            series.leave()
        self._series = {}
        self._entering = []
        self._emptied = None
        if self._threaded and self._executor is None:
            self._executor = ThreadPoolExecutor(2, thread_name_prefix="cacher-store")
        self._purchasing.bind(asyncio.get_running_loop(), self._executor)


def _drop(portions: list[Portion]) -> None:
    for portion in portions:
        for member in portion.members or (portion,):
            member.drop()


def _runs(indices: list[int]) -> list[range]:
    """The indices as ranges without gaps."""
    runs: list[range] = []
    for index in indices:
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return runs
