"""Classification: what a classifier makes of a text, or a causal model that is asked with labels.

A classifier (`ModelInfo.model_type` is ``"sequence_classification"``) has an output for each of its
labels; the logits are those after the text's last token.  With one output it is a reward model.  A
causal model judges without training ("zero-shot"): each label is put into a template behind the
text, and its logit is the mean log-probability of the label's tokens there.

A text is read in a state of its own, which shares pages with all that begins alike; the state that
is asked stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import fsum, sqrt
from typing import TYPE_CHECKING, cast

from cacher.errors import ParameterError

if TYPE_CHECKING:
    from cacher.state import State, Text

MAX_TEXTS = 64
TEMPLATE = " This text is {}."


@dataclass(frozen=True, slots=True)
class LabelScore:
    """What a text scores for a label.

    Attributes:
        label: Its name.
        score: Softmax over the logits of all labels, or with `multi_label` the logit's sigmoid.
        logit: The model's own number.
    """

    label: str
    score: float
    logit: float


@dataclass(frozen=True, slots=True)
class TokenRewards:
    """How the reward grows with the text.

    Attributes:
        tokens: The text of each token.
        rewards: The reward of the text up to and with each token.
        cumulative: Their running sums.
        average: Their mean.
        start_positions: Where each token begins in the text, in characters; -1 for special tokens.
    """

    tokens: list[str]
    rewards: list[float]
    cumulative: list[float]
    average: float
    start_positions: list[int]


@dataclass(frozen=True, slots=True)
class Classification:
    """What a model makes of a text.

    Attributes:
        label: The label with the highest score.
        score: Its score; of a reward model always the sigmoid of the reward.
        scores: All labels, best first.
        reward: The output of a reward model; None for other models.
        multi_label: Whether the labels were judged independently.
        selected: The labels that reach the threshold, best first.
        per_token: The reward of every prefix, where it was asked for.
    """

    label: str
    score: float
    scores: tuple[LabelScore, ...]
    reward: float | None
    multi_label: bool
    selected: tuple[str, ...]
    per_token: TokenRewards | None = None


@dataclass(frozen=True, slots=True)
class LabelCorrelation:
    """How the scores of labels go together over several texts.

    Attributes:
        labels: The labels, in the model's order or as given.
        matrix: Pearson's correlation of each with each; 0 where a score never varies, 1 on the
            diagonal.
    """

    labels: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Classifications:
    """What a model makes of several texts: a sequence of `Classification`.

    Attributes:
        results: One for each text.
        labels: The labels they were judged by.
    """

    results: tuple[Classification, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Classification:
        return self.results[index]

    def __iter__(self) -> Iterator[Classification]:
        return iter(self.results)

    def label_correlation(self) -> LabelCorrelation:
        """Return how the scores of the labels go together over the texts.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state()
            >>> found = state.classify_all(["We won!", "We lost."], labels=["glad", "sad"])
            >>> [round(x, 6) for x in found.label_correlation().matrix[0]]
            [1.0, -1.0]
        """
        rows = [{s.label: s.score for s in reversed(result.scores)} for result in self.results]
        columns = [[row[label] for row in rows] for label in self.labels]
        matrix = [
            tuple(1.0 if a is b else _correlation(a, b) for b in columns) for a in columns
        ]  # fmt: skip
        return LabelCorrelation(self.labels, tuple(matrix))


class Classifying:
    """The judging part of `cacher.State`."""

    __slots__ = ()

    def classify(
        self,
        text: Text | None = None,
        *,
        labels: Iterable[str] | None = None,
        multi_label: bool = False,
        threshold: float | None = None,
        template: str = TEMPLATE,
        per_token: bool = False,
    ) -> Classification:
        """Judge a text: the state's own, or another one alone.  The state stays as it is.

        Args:
            text: A text, to which the tokenizer adds the special tokens of its template if the
                model is a classifier; or token ids, taken as they are.  None: the state's own, of
                a sliding one what the model sees.
            labels: None: the model's own labels.  2 to 64 labels for a causal model.
            multi_label: Judge each label by itself: several may hold, or none.  Of a causal model
                a logit is then the difference that the text makes to the label.
            threshold: Score from which a label is selected, 0 to 1.  None: the best label alone;
                with `multi_label` 0.5.
            template: What is put behind the text, with ``{}`` for the label.
            per_token: Also give the reward of every prefix; for models with one output.

        Raises:
            WrongModelTypeError: Labels for a classifier, or none for a causal model.
            EmptyStateError: There is no text.
            ContextOverflowError: The text does not fit the context.
            ParameterError: An argument is outside its range.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("The king laughed and gave a feast.")
            >>> found = state.classify(labels=["happy", "sad", "cold"])
            >>> found.label == found.scores[0].label, round(sum(s.score for s in found.scores), 6)
            (True, 1.0)
        """
        from cacher.judging import Question

        state = cast("State", self)
        question = Question(state.model, labels, multi_label, threshold, template, per_token)
        return question.answer(state, [text])[0]

    def classify_all(
        self,
        texts: Iterable[Text],
        *,
        labels: Iterable[str] | None = None,
        multi_label: bool = False,
        threshold: float | None = None,
        template: str = TEMPLATE,
        per_token: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> Classifications:
        """Judge several texts; each gets what it would get alone.

        Args:
            texts: 1 to 64 texts.
            labels: As in `classify`, like the rest.
            multi_label: Judge each label by itself.
            threshold: Score from which a label is selected.
            template: What is put behind the text.
            per_token: Also give the reward of every prefix.
            progress: Called with (texts judged, texts in all); what it raises ends the call.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state()
            >>> found = state.classify_all(["We won!", "We lost."], labels=["glad", "sad"])
            >>> [len(result.scores) for result in found]
            [2, 2]
        """
        from cacher.judging import Question

        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise TypeError(f"texts must be several texts, got {type(texts).__name__}")
        several = list(islice(texts, MAX_TEXTS + 1))
        if not 1 <= len(several) <= MAX_TEXTS:
            count = len(several) if len(several) <= MAX_TEXTS else f"more than {MAX_TEXTS}"
            raise ParameterError(f"there are {count} texts, allowed: 1 to {MAX_TEXTS}")
        state = cast("State", self)
        question = Question(state.model, labels, multi_label, threshold, template, per_token)
        names = tuple(dict.fromkeys(question.labels))
        return Classifications(tuple(question.answer(state, several, progress)), names)


def _correlation(a: Sequence[float], b: Sequence[float]) -> float:
    if min(a) == max(a) or min(b) == max(b):
        return 0.0
    mean_a, mean_b = fsum(a) / len(a), fsum(b) / len(b)
    da, db = [x - mean_a for x in a], [x - mean_b for x in b]
    dot = sum(x * y for x, y in zip(da, db, strict=True))
    spread = sqrt(sum(x * x for x in da)) * sqrt(sum(x * x for x in db))
    return max(-1.0, min(1.0, dot / spread)) if spread > 0 else 0.0
