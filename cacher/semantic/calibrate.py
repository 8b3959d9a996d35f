"""A threshold for the semantic cache from pairs of texts that somebody has labelled.

A hit is wrong where its two texts must not share an answer.  The share of wrong hits that was seen
says little when few hits were: of 50 hits none may be wrong although one in twenty is.  So what
counts is the greatest share that the counts still allow, the exact binomial bound of Clopper and
Pearson.  A bound of 1% takes 299 hits without a wrong one at a confidence of 95%.

The pairs stand for the traffic: a mix of them with more near misses than users send makes the share
of wrong hits greater than users will see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cacher.checks import boolean, number, shown
from cacher.errors import ParameterError
from cacher.progress import MANY_TEXTS, Progress, reading
from cacher.semantic.bounds import hits_needed, upper_bound
from cacher.semantic.embedder import Embedder, default_model, embedded, opened
from cacher.semantic.entry import check_query
from cacher.semantic.guard import guard as compared
from cacher.semantic.pairs import Pair
from cacher.semantic.picture import HITS, WRONG, Curve, sweep

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cacher.model import Model

STEPS = 100  # thresholds are its fractions
LOWEST = 0.5  # a cache compares with all its entries, not with one: below, chance finds some
CHUNK = 64  # texts between two looks at the progress


class Step(NamedTuple):
    """What a threshold does to the pairs.

    Attributes:
        threshold: The least similarity of a hit.
        hits: Pairs that hit.
        wrong: Those of them that must not.
        bound: The greatest share of wrong hits that these counts allow at the confidence asked for;
            1.0 without hits.
    """

    threshold: float
    hits: int
    wrong: int
    bound: float

    @property
    def wrong_rate(self) -> float:
        """The share of wrong hits among hits; 0.0 without hits."""
        return self.wrong / self.hits if self.hits else 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What labelled pairs say about thresholds; printed, a verdict, and a picture in a notebook.

    Attributes:
        threshold: The lowest threshold from 0.50 on whose bound is at most `max_wrong`; None: the
            pairs are too few, or too many near misses are similar, for any.
        likely: The lowest threshold from which on the share seen is at most `max_wrong`, sure or
            not; None: there is none with hits.
        max_wrong: The share of wrong hits that was asked for.
        confidence: How sure a bound is.
        n_pairs: Pairs in all.
        n_same: Pairs that may share an answer.
        guarded: Whether the guard was asked.
        steps: Every threshold from 0.00 to 1.00.
    """

    threshold: float | None
    likely: float | None
    max_wrong: float
    confidence: float
    n_pairs: int
    n_same: int
    guarded: bool
    steps: tuple[Step, ...] = field(repr=False)

    def at(self, threshold: float) -> Step:
        """Return what a threshold does, rounded to hundredths.

        Raises:
            ParameterError: Outside 0 to 1.
        """
        return self.steps[round(STEPS * number("threshold", threshold, 0, 1))]

    def hit_rate(self, threshold: float) -> float:
        """Return the share of pairs of one meaning that hit; 0.0 without such pairs."""
        step = self.at(threshold)
        return (step.hits - step.wrong) / self.n_same if self.n_same else 0.0

    def __str__(self) -> str:
        return "\n".join(self._verdict())

    def _repr_html_(self) -> str:
        """Hits and wrong hits over thresholds, and the verdict."""
        guarded = "guard" if self.guarded else "no guard"
        curves = [
            Curve(
                f"hits, {guarded}",
                HITS,
                False,
                [(step.threshold, self.hit_rate(step.threshold)) for step in self.steps],
            ),
            Curve(
                f"wrong hits, {guarded}",
                WRONG,
                False,
                [(step.threshold, step.wrong_rate) for step in self.steps],
            ),
        ]
        marked = self.likely if self.threshold is None else self.threshold
        picture = sweep(f"{self.n_pairs} pairs", curves, marked)
        return picture + "".join(f"<p>{escape(line)}</p>" for line in self._verdict())

    def _verdict(self) -> Iterator[str]:
        sure = f"{100 * self.confidence:g}%"
        share = f"{100 * self.max_wrong:g}%"
        if self.threshold is not None:
            yield f"threshold {self.threshold:.2f}: {self._counts(self.threshold)}"
            yield (
                f"At most {share} of the hits of traffic like these pairs are wrong, "
                f"{sure} sure at this threshold."
            )
            yield "It was chosen with these pairs: others, kept aside, would be a stricter test."
            return
        yield f"no threshold: these pairs do not show that at most {share} of hits are wrong."
        if self.likely is not None:
            step = self.at(self.likely)
            yield f"threshold {self.likely:.2f} is the best guess: {self._counts(self.likely)}"
            yield f"Up to {100 * step.bound:.1f}% of hits may be wrong, {sure} sure."
        needed = hits_needed(self.max_wrong, self.confidence)
        most = self.at(LOWEST).hits
        if needed > most:
            yield (
                f"For {share}, {needed} hits without a wrong one are needed; of these "
                f"{self.n_pairs} pairs at most {most} hit."
            )

    def _counts(self, threshold: float) -> str:
        step = self.at(threshold)
        return (
            f"{step.hits - step.wrong} of {self.n_same} pairs of one meaning hit "
            f"({100 * self.hit_rate(threshold):.1f}%), with {step.wrong} wrong "
            f"hit{'s' * (step.wrong != 1)} ({100 * step.wrong_rate:.2f}% of hits)."
        )


def calibrate(
    pairs: Iterable[Pair | tuple[str, str, bool]],
    *,
    max_wrong: float = 0.01,
    confidence: float = 0.95,
    embedder: str | Model | Embedder | None = None,
    guard: bool = True,
    progress: Progress = None,
) -> Calibration:
    """Return the lowest threshold at which at most a given share of hits is wrong.

    Args:
        pairs: Texts and whether one answer is right for both, as of `read_pairs`.
        max_wrong: The share of wrong hits among hits, above 0 and below 1.
        confidence: How sure to be of it, 0.5 to 0.9999.
        embedder: As of `cacher.SemanticCache`.
        guard: Whether the guard is asked.
        progress: None: a bar for more than 500 texts in a terminal or notebook; True or False:
            always or never; or a function called with (texts embedded, texts in all).

    Raises:
        ParameterError: No pairs, a text that is no query, or an argument outside its range.
        ModelError: There is no model that embeds.

    Example:
        >>> import cacher
        >>> from cacher.semantic.calibrate import calibrate
        >>> if "minilm" in cacher.hub.built_in():
        ...     found = calibrate([("Is it far?", "Is it a long way?", True)], embedder="minilm")
        ...     print(found.threshold, found.n_pairs)
        ... else:
        ...     print("None 1")
        None 1
    """
    max_wrong = number("max_wrong", max_wrong, 0, 0.9999, open_low=True)
    confidence = number("confidence", confidence, 0.5, 0.9999)
    guard = boolean("guard", guard)
    several = [_checked(i, pair) for i, pair in enumerate(pairs)]
    if not several:
        raise ParameterError("pairs is empty, allowed: 1 pair or more")
    same = np.array([pair.same for pair in several])
    scores = similarities(several, embedder=embedder, progress=progress)
    if guard:
        refused = [compared(pair.query, pair.other) is not None for pair in several]
        scores[refused] = -1
    steps = tuple(_steps(scores, same, confidence))
    threshold, likely = _chosen(steps, max_wrong)
    n_same = int(same.sum())
    return Calibration(threshold, likely, max_wrong, confidence, len(several), n_same, guard, steps)


def similarities(
    pairs: Iterable[Pair],
    *,
    embedder: str | Model | Embedder | None = None,
    progress: Progress = None,
) -> NDArray[np.float64]:
    """Return the cosine of each pair's texts: 1.0 for equal texts, as in the cache.

    Args:
        pairs: The pairs.
        embedder: As of `cacher.SemanticCache`.
        progress: As of `calibrate`.
    """
    several = list(pairs)
    model = opened(default_model() if embedder is None else embedder)
    texts = list(dict.fromkeys(text for pair in several for text in pair[:2]))
    rows: dict[str, NDArray[np.float32]] = {}
    with reading(progress, len(texts), "text", MANY_TEXTS) as callback:
        for first in range(0, len(texts), CHUNK):
            chunk = texts[first : first + CHUNK]
            rows.update(zip(chunk, embedded(model, chunk), strict=True))
            if callback is not None:
                callback(first + len(chunk), len(texts))
    return np.array(
        [
            1.0 if pair.query == pair.other else float(rows[pair.query] @ rows[pair.other])
            for pair in several
        ]
    )


def _checked(index: int, pair: Pair | tuple[str, str, bool]) -> Pair:
    if not isinstance(pair, tuple) or len(pair) != 3:
        raise TypeError(f"pair {index} must be (query, other, same), got {shown(pair)}")
    for text in pair[:2]:
        check_query(text)
    return Pair(pair[0], pair[1], boolean(f"same of pair {index}", pair[2]))


def _steps(
    scores: NDArray[np.float64], same: NDArray[np.bool_], confidence: float
) -> Iterator[Step]:
    for i in range(STEPS + 1):
        hit = scores >= i / STEPS
        hits, wrong = int(hit.sum()), int((hit & ~same).sum())
        yield Step(i / STEPS, hits, wrong, upper_bound(wrong, hits, confidence))


def _chosen(steps: tuple[Step, ...], max_wrong: float) -> tuple[float | None, float | None]:
    """Return the lowest threshold that is sure, and the lowest from which on all look right."""
    allowed = [step for step in steps if step.threshold >= LOWEST]
    sure = next((step.threshold for step in allowed if step.bound <= max_wrong), None)
    likely = None
    for step in reversed(allowed):
        if step.wrong_rate > max_wrong:
            break
        if step.hits:
            likely = step.threshold
    return sure, likely
