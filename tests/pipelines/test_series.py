"""The samples of one key while requests for it are under way."""

from __future__ import annotations

from cacher.pipelines.ledger import Hold, Ledger
from cacher.pipelines.portion import Portion
from cacher.pipelines.series import Claim, Purchase, Series
from cacher.pipelines.visit import Visit
from tests.pipelines.models import ask


class Keeper:
    """Whose series it is; does nothing for it."""

    def trim(self, purchase: Purchase, n: int) -> None:
        """Buy no more than the first n samples."""

    def store_ready(self, series: Series) -> None:
        """Store what need not wait."""

    def idle(self, series: Series) -> None:
        """Note that nothing is under way."""


def test_plans_move_up_to_what_is_stored_and_leave_no_hole() -> None:
    ledger = Ledger()
    series = Series("k", ledger, Keeper())

    def claim(n: int, namespace: str) -> Claim:
        hold = Hold(ledger, Portion(ask(n=n, ns=namespace), n), "k")
        return Claim(series, hold, len(series.claims), Visit(1), 0)

    left, first, gone, last = claim(2, "a"), claim(5, "b"), claim(7, "b"), claim(2, "b")
    left.settle(left.portion, taken=False)  # 0 and 1 are coming from nowhere
    bought = series.plan(first, range(5))
    bought.ended, bought.samples = True, list("abcde")
    series.reading = 1  # of somebody else: nothing moves until it is known what is there
    assert series.to_store() == [bought]
    series.stored(bought)
    series.reading = 0
    first.found = dict(enumerate("abcde"))
    first.settle(first.portion, taken=True)

    behind = series.plan(last, range(12, 14))
    gone.settle(gone.portion, taken=False)  # 5 to 11
    behind.ended, behind.samples = True, list("fg")
    assert series.to_store() == [behind]
    assert behind.start == 5
    assert last.indices == [5, 6]
    assert ledger.position("b", "k") == (7, [])
