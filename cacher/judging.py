"""How a classification is made: the arguments are checked, texts are read, logits become scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice, takewhile
from math import exp, fsum, isfinite
from typing import TYPE_CHECKING, TypeVar

from cacher import _core
from cacher.checks import number, shown, string
from cacher.classify import Classification, LabelScore, TokenRewards
from cacher.errors import BudgetError, EmptyStateError, ModelError, ParameterError

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State, Text
    from cacher.tokenizer import Tokenizer

MAX_LABELS = 64
TOGETHER = 8  # states that are evaluated at once: bounds the pages needed; never changes a result
REWARD_LABELS = ("positive", "negative")

T = TypeVar("T")
R = TypeVar("R")
Told = Callable[[int, int], object] | None  # called with the texts judged, and all; may raise


class Question:
    """The checked arguments of a call."""

    def __init__(
        self,
        model: Model,
        labels: Iterable[str] | None,
        multi_label: bool,
        threshold: float | None,
        template: str,
        per_token: bool,
    ) -> None:
        self.model = model
        self.multi_label = bool(multi_label)
        self.threshold = None if threshold is None else number("threshold", threshold, 0, 1)
        self.per_token = per_token
        self.statements: list[_Statement] = []
        if labels is None:
            model._require("classify without labels", "sequence_classification")
            self.labels = model.labels if len(model.labels) > 1 else REWARD_LABELS
        else:
            model._require("classify with labels")
            self.labels = _check_labels(labels)
            self.statements = _statements(model.tokenizer, _check_template(template), self.labels)
        if per_token and len(model.labels) != 1:
            raise ParameterError(
                f"per_token is for models with one output, {model.name!r} has "
                f"{len(model.labels) or 'none'}"
            )

    def answer(
        self, state: State, texts: Sequence[Text | None], progress: Told = None
    ) -> list[Classification]:
        """Judge the texts, None being the state's own."""
        if self.statements:
            ids = [_scratch(state, text) for text in texts]
            rows = _zero_shot(state, ids, self.statements, self.multi_label, progress)
            return [self._judge(row) for row in rows]
        readings = [_read(state, text) for text in texts]
        rows = _together(readings, lambda group: _head_logits(state, group), progress)
        results = [self._judge(row) for row in rows]
        if not self.per_token:
            return results
        return [
            replace(result, per_token=_rewards(state, reading))
            for result, reading in zip(results, readings, strict=True)
        ]

    def _judge(self, logits: Sequence[float]) -> Classification:
        """Turn the logits of a text into scores."""
        if not all(map(isfinite, logits)):
            raise ModelError(f"model {self.model.name!r} gives logits that are no numbers")
        reward = logits[0] if len(logits) == 1 else None
        if reward is not None:
            logits = [reward, -reward]
        if self.multi_label or reward is not None:
            scores = [_sigmoid(x) for x in logits]
        else:
            scores = _softmax(logits)
        order = sorted(range(len(logits)), key=lambda i: -logits[i])
        ranked = tuple(LabelScore(self.labels[i], scores[i], logits[i]) for i in order)
        threshold = 0.5 if self.threshold is None and self.multi_label else self.threshold
        chosen = ranked[:1] if threshold is None else [s for s in ranked if s.score >= threshold]
        return Classification(
            ranked[0].label, ranked[0].score if reward is None else scores[0], ranked, reward,
            self.multi_label, tuple(s.label for s in chosen),
        )  # fmt: skip


def _check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise TypeError(f"labels must be several strings, got {type(labels).__name__}")
    names = tuple(string("a label", label) for label in islice(labels, MAX_LABELS + 1))
    if not 2 <= len(names) <= MAX_LABELS:
        count = len(names) if len(names) <= MAX_LABELS else f"more than {MAX_LABELS}"
        raise ParameterError(f"there are {count} labels, allowed: 2 to {MAX_LABELS}")
    if "" in names:
        raise ParameterError("a label is empty")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ParameterError(f"label {shown(name)} is given twice: they must differ")
    return names


def _check_template(template: str) -> str:
    if string("template", template).count("{}") != 1:
        raise ParameterError(f"template is {shown(template)}, it must hold {{}} once")
    return template


# ---- classifiers


@dataclass(frozen=True, slots=True)
class _Reading:
    """A text as a classifier reads it: `front` and `back` special tokens were put around it."""

    ids: list[int]
    front: int
    back: int

    def pooled(self, pad: int | None) -> list[int]:
        """Return which position speaks for each prefix: its last one but padding."""
        positions = (0 if token_id == pad else i for i, token_id in enumerate(self.ids))
        return list(accumulate(positions, max))


def _fresh(state: State, ids: Sequence[int]) -> _core.State:
    """Return a state of its own for ids; what it computes is shared with this one's like only."""
    core = state.model._core.state(state._salt)
    core.append(ids)
    return core


def _scratch(state: State, text: Text | None) -> list[int]:
    """Return the ids of a text as a state like this one would hold them."""
    if text is None:
        ids = state._seen().tokens().tolist()
    else:
        laid = type(state)(state.model, _fresh(state, ()), state.config, salt=state._salt)
        laid._lay(text)
        ids = laid.token_ids
    if ids:
        return ids
    if text is None:
        raise EmptyStateError("the state holds no text to classify")
    raise ParameterError("text is empty: there is nothing to classify")


def _read(state: State, text: Text | None) -> _Reading:
    """Return a text with the special tokens that the tokenizer's template puts around it.

    Token ids are taken as they are; the state's own get what they lack of the template.
    """
    ids = _scratch(state, text)
    tokenizer = state.model._tokenizer
    if tokenizer is None or not (text is None or isinstance(text, str)):
        return _Reading(ids, 0, 0)
    front, back = _frame(tokenizer)
    if text is None and ids[: len(front)] == front:
        front = []
    if text is None and back and ids[-len(back) :] == back:
        back = []
    return _Reading(front + ids + back, len(front), len(back))


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return what the tokenizer's template puts in front of a text, and behind it."""
    plain, framed = tokenizer.encode("a"), tokenizer.encode("a", add_special=True)
    at = next(i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
    return framed[:at], framed[at + len(plain) :]


def _head_logits(state: State, readings: Sequence[_Reading]) -> list[list[float]]:
    model = state.model
    ends = [reading.pooled(model.info.pad_token_id)[-1] + 1 for reading in readings]
    states = [_fresh(state, r.ids[:end]) for r, end in zip(readings, ends, strict=True)]
    return model._core.classify(states).tolist()


def _rewards(state: State, reading: _Reading) -> TokenRewards:
    model, length = state.model, len(reading.ids)
    rows = _fresh(state, reading.ids).classify(0, length).tolist()
    rewards: list[float] = [rows[at][0] for at in reading.pooled(model.info.pad_token_id)]
    sums = list(accumulate(rewards))
    pieces, starts = _located(model._tokenizer, reading)
    return TokenRewards(pieces, rewards, sums, sums[-1] / length, starts)


def _located(tokenizer: Tokenizer | None, reading: _Reading) -> tuple[list[str], list[int]]:
    """Return the text of each token, and where it begins."""
    length = len(reading.ids)
    if tokenizer is None:
        return [""] * length, [-1] * length
    decoder = tokenizer._core.decoder(True)
    pieces, starts, at = [], [], 0
    for i, token_id in enumerate(reading.ids):
        special = tokenizer.is_special(token_id)
        pieces.append(tokenizer.decode([token_id]) if special else decoder.push(token_id))
        starts.append(-1 if special else at)
        if not special or reading.front <= i < length - reading.back:
            at += len(pieces[-1])
    rest = decoder.finish()
    if rest:
        pieces[-1 - reading.back] += rest
    return pieces, starts


# ---- causal models


@dataclass(frozen=True, slots=True)
class _Statement:
    """A label in its template: ids up to the label's end, of which those from `first` are its."""

    ids: list[int]
    first: int


def _statements(tokenizer: Tokenizer, template: str, labels: Sequence[str]) -> list[_Statement]:
    """Return the statements; a token that reaches into the label counts as the label's."""
    before = template.partition("{}")[0]
    lead = tokenizer.encode(before, specials=False, continues=True)
    found = []
    for label in labels:
        ids = tokenizer.encode(before + label, specials=False, continues=True)
        pairs = zip(lead, ids, strict=False)
        first = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if first == len(ids):
            raise ParameterError(f"label {shown(label)} has no tokens of its own")
        found.append(_Statement(ids, first))
    return found


def _zero_shot(
    state: State, texts: Sequence[list[int]], statements: Sequence[_Statement], multi_label: bool,
    progress: Told,
) -> list[list[float]]:  # fmt: skip
    """Return the logits of each text for each statement."""
    rows = []
    for ids in texts:
        rows.append(_evidence(state, ids, statements))
        if progress is not None:
            progress(len(rows), len(texts))
    if not multi_label:
        return rows
    without = _evidence(state, [], statements)
    return [[a - b for a, b in zip(row, without, strict=True)] for row in rows]


def _evidence(state: State, text: list[int], statements: Sequence[_Statement]) -> list[float]:
    """Return the mean log-probability of each label behind the text; the text is read once."""
    model, base = state.model, _fresh(state, text)
    stored = max(1, state._store_top_k)  # so the pass that reads a label scores it, too
    model._core.eval([base], stored)

    def evaluate(group: Sequence[_Statement]) -> list[float]:
        forks = []
        for statement in group:
            fork = base.fork()
            fork.append(statement.ids)
            forks.append(fork)
        model._core.eval(forks, stored)
        means = []
        for fork, statement in zip(forks, group, strict=True):
            n = len(statement.ids) - statement.first
            logprobs = fork.scores(len(text) + statement.first, n, 0)[0]
            means.append(fsum(logprobs.tolist()) / n)
        return means

    return _together(statements, evaluate)


# ---- numbers


def _together(
    items: Sequence[T], evaluate: Callable[[Sequence[T]], list[R]], progress: Told = None
) -> list[R]:
    """Evaluate in groups: smaller ones where the KV budget holds no more."""
    done: list[R] = []
    size = min(TOGETHER, len(items))
    while len(done) < len(items):
        try:
            done += evaluate(items[len(done) : len(done) + size])
            if progress is not None:
                progress(len(done), len(items))
        except BudgetError:
            if size == 1:
                raise
            size //= 2
    return done


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def _softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    weights = [exp(x - top) for x in logits]
    total = sum(weights)
    return [weight / total for weight in weights]
