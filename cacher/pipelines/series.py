"""The samples of one key while requests for it are under way: who has which, and what is coming.

The store holds the samples, under indices 0, 1, 2, ...  The `Ledger` gives a request the lowest
indices that its namespace was not given, and a `Hold` keeps them for it until the samples were
delivered, or not.  One that lacks samples is a `Claim`.  What the store does not have is bought by
a `Purchase`, which others may wait for.  A `Series` is all of this for one key, and is gone when
nothing is under way.

1. No index is reserved twice, nor reserved again once it was handed out, within a namespace.
2. Samples are stored in the order of the indices that they are planned for, which is that in which
   their requests were reserved.
3. When a purchase brings less than was planned, and nobody else wants the rest, what comes behind
   moves up: the plans, and the reservations that rely on them.  So the list has no holes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Set
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from cacher.pipelines.ledger import Hold, Ledger

if TYPE_CHECKING:
    from cacher.pipelines.pieces import Entry
    from cacher.pipelines.portion import Portion
    from cacher.pipelines.store import Want
    from cacher.pipelines.visit import Visit


class Claim(Hold):
    """A hold of what a store may not have: the samples that were found for it, and are bought.

    Attributes:
        series: The key it is for.
        order: Claims that were made earlier have a smaller one.
        found: Samples by index.
        own: The indices that it bought itself.
        waiting: The purchases that it waits for.
        parties: How many of the portions that it was made for are still waited for.
        visit: The call that it belongs to; None once that has the answer.
        place: Where its answer stands in that call.
    """

    __slots__ = ("found", "order", "own", "parties", "place", "series", "visit", "waiting")

    def __init__(self, series: Series, hold: Hold, order: int, visit: Visit, place: int) -> None:
        self.ledger, self.key, self.namespace = hold.ledger, hold.key, hold.namespace
        self.portion, self.indices = hold.portion, hold.indices
        self.series = series
        self.order = order
        self.visit: Visit | None = visit
        self.place = place
        self.found: dict[int, Any] = {}
        self.own: Set[int] = _NONE
        self.waiting: list[Purchase] = []
        holders = hold.holders()
        for portion in holders:
            portion.claim = self
        self.parties = len(holders)
        series.claims.add(self)

    def lacking(self) -> list[int]:
        """Return the indices for which no sample was found yet."""
        found = self.found
        if not found:
            return list(self.indices)
        return [index for index in self.indices if index not in found]

    def fail(self) -> None:
        """Give everything back."""
        self.visit = None
        for portion in self.holders():
            self.settle(portion, taken=False)

    def settle(self, portion: Portion, *, taken: bool) -> None:
        """Note that samples were delivered, or will not be."""
        super().settle(portion, taken=taken)
        self.parties -= 1
        if self.parties:
            return
        series = self.series
        series.claims.discard(self)
        if self.visit is not None:
            self.visit.left_by(self)
        for purchase in list(self.waiting):
            purchase.left_by(self)
        if not taken:  # others may have been planned behind what it was to bring
            gone = [index for index in self.lacking() if index not in series.coming]
            series.gone = series.gone.union(gone)
        if series.gone:
            series.owner.store_ready(series)
        series.close_if_idle()


class Purchase:
    """Samples that a model was asked for.

    Attributes:
        series: The key it is for.
        claim: Who asked.
        start: The index that the first sample is to have.
        n: How many are planned.
        buyers: The claims that wait for it: who asked, and others.
        entry: Its place in the batcher, when it is the batcher that was asked.
        ended: The model has answered.
        samples: What it gave.
        taken: What was taken in the store for it.
        pauses: How often it waited for another process that buys the same.
    """

    __slots__ = (
        "buyers", "claim", "ended", "entry", "n", "pauses", "samples", "series", "start", "taken",
    )  # fmt: skip

    def __init__(self, claim: Claim, start: int, n: int) -> None:
        self.series = claim.series
        self.claim = claim
        self.start = start
        self.n = n
        self.buyers: list[Claim] = []
        self.entry: Entry | None = None
        self.ended = False
        self.samples: list[Any] = []
        self.taken: Want | None = None
        self.pauses = 0

    @property
    def want(self) -> Want:
        """What it is to bring, as a store is asked for it."""
        return self.series.key, self.start, self.start + self.n

    def left_by(self, claim: Claim) -> None:
        """Let a claim go; what nobody else waits for need not be bought, if it is not yet."""
        self.buyers.remove(claim)
        claim.waiting.remove(self)
        if not self.ended and self.entry is not None:
            stop = self.start + self.n
            wanted = [i for buyer in self.buyers for i in buyer.indices if self.start <= i < stop]
            self.series.owner.trim(self, max(wanted) + 1 - self.start if wanted else 0)


class Owner(Protocol):
    """Who keeps the series: what they need of it."""

    def trim(self, purchase: Purchase, n: int) -> None:
        """Buy no more than the first n samples, as far as more are not bought already."""

    def store_ready(self, series: Series) -> None:
        """Store what need not wait any more."""

    def idle(self, series: Series) -> None:
        """Note that nothing is under way for a key any more."""


class Series:
    """What is under way for one key.

    Attributes:
        claims: The claims that are not settled.
        purchases: Those that are not being stored, in the order in which they will be.
        storing: Those whose samples the store has not confirmed.
        coming: The purchase that is to bring the sample of an index.
        gone: Indices that a purchase was to bring, and did not.
        left: The event loop that it belonged to was left: nobody may use it any more.
        reading: How many claims wait for a read.
        recent: Samples that were stored meanwhile, which those reads may have missed.
    """

    __slots__ = (
        "claims", "coming", "gone", "key", "ledger", "left", "owner", "purchases", "reading",
        "recent", "storing",
    )  # fmt: skip

    def __init__(self, key: str, ledger: Ledger, owner: Owner) -> None:
        self.key = key
        self.ledger = ledger
        self.owner = owner
        self.claims: set[Claim] = set()
        self.purchases: list[Purchase] = []
        self.storing: list[Purchase] = []
        self.coming: dict[int, Purchase] = {}
        self.gone: frozenset[int] = _NONE
        self.left = False
        self.reading = 0
        self.recent: dict[int, Any] = {}

    def plan(self, claim: Claim, indices: range) -> Purchase:
        """Let a claim buy samples; they are stored in the order of the claims."""
        purchase = Purchase(claim, indices.start, len(indices))
        self.await_purchase(claim, purchase)
        for index in indices:
            self.coming[index] = purchase
        if self.purchases and self.purchases[-1].start > purchase.start:
            insort(self.purchases, purchase, key=_START)
        else:
            self.purchases.append(purchase)
        return purchase

    def await_purchase(self, claim: Claim, purchase: Purchase) -> None:
        """Let a claim wait for what another one, or itself, buys."""
        if purchase not in claim.waiting:
            claim.waiting.append(purchase)
            purchase.buyers.append(claim)

    def shorten(self, purchase: Purchase, n: int) -> list[Claim]:
        """Note that a purchase brings no more than n samples; return the claims that lack some."""
        gone = range(purchase.start + n, purchase.start + purchase.n)
        for index in gone:
            del self.coming[index]
        self.gone = self.gone.union(gone)
        purchase.n = n
        lacking = [claim for claim in purchase.buyers if any(i in gone for i in claim.indices)]
        for claim in lacking:
            if not any(purchase.start <= i < purchase.start + n for i in claim.indices):
                claim.waiting.remove(purchase)
                purchase.buyers.remove(claim)
        return sorted(lacking, key=_ORDER)

    def to_store(self) -> list[Purchase]:
        """Return the purchases whose turn it is, and whose samples are there."""
        if not self.purchases or not self.purchases[0].ended:
            return []
        if self.gone:
            self.move_up()
        # Somebody wants it and has not bought it, or may yet.
        missing = min(self.gone.difference(self.coming), default=None) if self.gone else None
        ready = 0
        for purchase in self.purchases:
            behind = missing is not None and missing < purchase.start and purchase.samples
            if not purchase.ended or behind:
                break
            ready += 1
        first, self.purchases = self.purchases[:ready], self.purchases[ready:]
        brought = [purchase for purchase in first if purchase.samples]
        self.storing += brought
        return brought

    def stored(self, purchase: Purchase) -> None:
        """Forget a purchase."""
        self.storing.remove(purchase)
        brought = range(purchase.start, purchase.start + purchase.n)
        for index in brought:
            del self.coming[index]
        if self.gone:
            self.gone = self.gone.difference(brought)

    def to_be_stored(self, purchase: Purchase) -> None:
        """Let a purchase be one that is being stored: another process does that."""
        self.purchases.remove(purchase)
        self.storing.append(purchase)

    def unstore(self, purchase: Purchase) -> None:
        """Let a purchase be one that is not stored yet, again."""
        self.storing.remove(purchase)
        self.purchases.insert(0, purchase)

    def move_up(self) -> None:
        """Let what is planned behind indices that nobody brings move up; see 3. above."""
        if self.reading:  # it is not known yet what is there
            return
        gone = self.gone.difference(self.coming, *(claim.found for claim in self.claims))
        wanted = {index for claim in self.claims for index in claim.lacking()}
        self.gone = gone & wanted
        gap = sorted(gone - wanted)
        # Before the first of these, samples were stored or handed out: what is missing there stays.
        gap = gap[bisect_left(gap, True, key=self._nothing_behind) :]
        if not gap:
            return

        def moved(index: int) -> int:
            return index - bisect_left(gap, index)

        for claim in self.claims:
            claim.indices = [moved(index) for index in claim.indices]
        for purchase in self.purchases:
            purchase.start = moved(purchase.start)
        self.gone = frozenset(map(moved, self.gone))
        self.coming = {moved(index): purchase for index, purchase in self.coming.items()}
        for namespace in self.ledger.namespaces(self.key):
            next_, free = self.ledger.position(namespace, self.key)
            free = [moved(index) for index in free if index not in gap]
            self.ledger.place(namespace, self.key, moved(next_), free)

    def _nothing_behind(self, low: int) -> bool:
        """Whether all that is known of the indices from one on are plans."""
        held: Counter[Any] = Counter()
        for claim in self.claims:
            if any(index >= low for index in claim.found):
                return False
            for portion in claim.holders():
                own = claim.indices[portion.offset : portion.offset + portion.n]
                held[claim.namespace] += sum(index >= low for index in own)
        for namespace in self.ledger.namespaces(self.key):
            next_, free = self.ledger.position(namespace, self.key)
            given_back = sum(index >= low for index in free)
            if next_ > low and next_ - low - given_back != held[namespace]:
                return False  # some were handed out
        return not any(p.start + p.n > low for p in self.storing)

    def leave(self) -> None:
        """Give everything back: the event loop has ended."""
        self.left = True
        self.purchases, self.storing, self.coming = [], [], {}
        for claim in list(self.claims):
            claim.waiting.clear()
            claim.fail()

    def close_if_idle(self) -> None:
        """Let go of everything when nothing is under way."""
        if not (self.claims or self.purchases or self.storing):
            self.owner.idle(self)


_NONE: frozenset[int] = frozenset()
_ORDER = attrgetter("order")
_START = attrgetter("start")
