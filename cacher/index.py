"""The similarity index: vectors under keys, and the exact nearest ones by cosine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from cacher import _core
from cacher.checks import MAX_INT64, choice, integer, number, thread_count
from cacher.errors import ParameterError
from cacher.facts import DTYPES, Dtype

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_DIMENSION = 65536


class Match(NamedTuple):
    """A vector that was found.

    Attributes:
        key: Its key.
        score: The cosine of the angle between it and the query, from -1 to 1.
    """

    key: int
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What `Index.search_all` found: a row for each query, best first.

    Attributes:
        keys: int64 [queries, width], where width is the largest count; -1 behind the last match.
        scores: float64 [queries, width]; NaN behind the last match.
        counts: int64 [queries]: the number of matches of each query.
    """

    keys: NDArray[np.int64] = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, query: int) -> list[Match]:
        n = self.counts[query]
        pairs = zip(self.keys[query, :n].tolist(), self.scores[query, :n].tolist(), strict=True)
        return [Match(*pair) for pair in pairs]


class Index:
    """Vectors under integer keys, searched by cosine similarity, exactly.

    A search gives the vectors that are most similar to a query, equal ones in the order in which
    they were added. It reads 8 bits of each number and bounds every similarity from both sides;
    what could be among the best is then scored in float64, so that nothing is missed. With a
    threshold, one bit of each number rules most vectors out before. The result has the same bits
    for one query or many, on any number of threads and any processor.

    Any number of searches may run beside one call that changes the index; such calls take turns. A
    search sees all vectors of an `add`, or none.

    Args:
        dimension: Numbers of a vector, 1 to 65536.
        dtype: How vectors are held, and what a similarity is computed from: ``"f32"`` as given
            (41 bits a number, with those of the scan), ``"bf16"`` rounded (25 bits), ``"int8"``
            only their direction, in 255 steps (8 bits; searches with a threshold are slower).
        threads: Of a large search; None is the cores this process may run on.

    Raises:
        ParameterError: A value is outside its range.

    Example:
        >>> import cacher
        >>> index = cacher.Index(3)
        >>> index.add([[1, 0, 0], [0, 1, 0], [1, 1, 0]], keys=[10, 20, 30])
        array([10, 20, 30])
        >>> index.search([2, 1, 0], k=2)[0]
        Match(key=30, score=0.9486832980505138)
    """

    __slots__ = ("_core",)

    def __init__(self, dimension: int, *, dtype: Dtype = "f32", threads: int | None = None) -> None:
        self._core = _core.Index(
            integer("dimension", dimension, 1, MAX_DIMENSION),
            choice("dtype", dtype, *DTYPES),
            thread_count(threads),
        )

    def add(self, vectors: ArrayLike, keys: Iterable[int] | None = None) -> NDArray[np.int64]:
        """Add vectors, all or none of them, and return their keys.

        Args:
            vectors: [n, dimension], or one [dimension]; finite, of any length.
            keys: A key for each, 0 or more and not in use. None: one more than the largest key
                there ever was, and so on.

        Raises:
            ParameterError: A vector is not finite or of another dimension, a key is in use or
                negative, or there are not as many keys as vectors.

        Example:
            >>> import cacher
            >>> cacher.Index(2).add([[3, 4], [0, 0]])
            array([0, 1])
        """
        rows = np.atleast_2d(_floats("vectors", vectors))
        given = None if keys is None else _keys(keys)
        return np.asarray(self._core.add(rows, given))

    def remove(self, keys: int | Iterable[int]) -> int:
        """Remove the vectors of these keys and return how many there were.

        Example:
            >>> import cacher
            >>> index = cacher.Index(2)
            >>> index.remove(index.add([[1, 0], [0, 1]])[:1])
            1
        """
        return self._core.remove(_keys(keys if isinstance(keys, Iterable) else [keys]))

    def search(self, vector: ArrayLike, k: int = 1, *, threshold: float = -1.0) -> list[Match]:
        """Return the k most similar vectors, best first.

        Args:
            vector: The query, [dimension]; finite, of any length. One of zeros has similarity 0
                with everything.
            k: 1 or more.
            threshold: The least similarity of a match, -1 to 1.

        Raises:
            ParameterError: The query is not finite or of another dimension, or a value is outside
                its range.

        Example:
            >>> import cacher
            >>> index = cacher.Index(2)
            >>> keys = index.add([[1, 0], [0, 1], [-1, 0]])
            >>> index.search([3, 0], k=3, threshold=0.0)
            [Match(key=0, score=1.0), Match(key=1, score=0.0)]
        """
        k = integer("k", k, 1, MAX_INT64)
        threshold = number("threshold", threshold, -1, 1)
        found = self._core.search(_floats("vector", vector), k, threshold)
        return [Match(*pair) for pair in found]

    def search_all(self, vectors: ArrayLike, k: int = 1, *, threshold: float = -1.0) -> Matches:
        """Return what `search` gives for each of many queries, in one walk over the index.

        Args:
            vectors: The queries, [n, dimension].
            k: As for `search`.
            threshold: As for `search`.

        Raises:
            ParameterError: As `search`.

        Example:
            >>> import cacher
            >>> index = cacher.Index(2)
            >>> keys = index.add([[1, 0], [0, 1]])
            >>> index.search_all([[1, 0], [0, -1]], threshold=0.5)[0]
            [Match(key=0, score=1.0)]
        """
        k = integer("k", k, 1, MAX_INT64)
        threshold = number("threshold", threshold, -1, 1)
        found = self._core.search_all(_floats("vectors", vectors), k, threshold)
        keys, scores, counts = (np.asarray(part) for part in found)
        width = counts.max(initial=0)
        return Matches(keys[:, :width], scores[:, :width], counts)

    def vector(self, key: int) -> NDArray[np.float32]:
        """Return a vector as it is held: rounded, with dtype ``"bf16"``; of length 1, ``"int8"``.

        Raises:
            KeyError: There is none under this key.

        Example:
            >>> import cacher
            >>> index = cacher.Index(2)
            >>> index.vector(index.add([3, 4])[0])
            array([3., 4.], dtype=float32)
        """
        if key not in self:
            raise KeyError(key)
        try:
            return np.asarray(self._core.row(key))
        except ParameterError:  # removed by another thread just now
            raise KeyError(key) from None

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to a file, as it was when the call began.

        The file is there whole or as it was before, also after a loss of power. Searches and
        changes go on meanwhile.

        Raises:
            FileError: The file could not be written.

        Example:
            >>> import cacher, tempfile
            >>> index = cacher.Index(2)
            >>> keys = index.add([[1, 0]])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     index.save(f"{folder}/index")
            ...     len(cacher.Index.open(f"{folder}/index"))
            1
        """
        self._core.save(path)

    @classmethod
    def open(cls, path: str | PathLike[str], *, threads: int | None = None) -> Index:
        """Return an index whose vectors lie in a file that `save` wrote, and that is mapped.

        The vectors stay in the file: of one with dtype ``"f32"``, a search reads the 8-bit codes
        and few others. In memory are keys and signs. All bytes are read once, to compare them with
        their digest. What is changed is changed in memory. Saving to the same path is safe, for
        that replaces the file; changing it in place is not, and cutting it short ends the process
        (``SIGBUS``).

        Raises:
            FileError: The file could not be read.
            IndexFileError: It is no index file, of a version to come, or damaged.

        Example:
            >>> import cacher, tempfile
            >>> index = cacher.Index(2)
            >>> keys = index.add([[3, 4], [1, 0]])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     index.save(f"{folder}/index")
            ...     mapped = cacher.Index.open(f"{folder}/index")
            >>> mapped.search([3, 4]) == index.search([3, 4])
            True
        """
        n_threads = thread_count(threads)
        index = cls.__new__(cls)
        index._core = _core.Index.open(path, n_threads)
        return index

    def keys(self) -> NDArray[np.int64]:
        """Return all keys, in the order in which their vectors were added.

        Example:
            >>> import cacher
            >>> index = cacher.Index(1)
            >>> keys = index.add([[1], [2]], keys=[7, 5])
            >>> index.keys()
            array([7, 5])
        """
        return np.asarray(self._core.keys())

    def __contains__(self, key: object) -> bool:
        if isinstance(key, bool) or not hasattr(key, "__index__"):
            return False
        value = int(cast("int", key).__index__())
        return 0 <= value <= MAX_INT64 and self._core.has(value)

    def __len__(self) -> int:
        rows: int = self._core.info()["rows"]
        return rows

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        dimension: int = self._core.info()["dimension"]
        return dimension

    @property
    def dtype(self) -> Dtype:
        """How vectors are held."""
        dtype: Dtype = self._core.info()["dtype"]
        return dtype

    @property
    def memory_bytes(self) -> int:
        """Bytes held in memory, those of removed vectors included until they are overwritten."""
        held: int = self._core.info()["bytes"]
        return held

    @property
    def mapped_bytes(self) -> int:
        """Bytes of vectors that lie in a mapped file: in memory while the system has room."""
        mapped: int = self._core.info()["mapped_bytes"]
        return mapped

    def __repr__(self) -> str:
        info = self._core.info()
        return f"<Index {info['rows']} x {info['dimension']} {info['dtype']}>"


def _floats(name: str, value: ArrayLike) -> NDArray[np.float32]:
    """Return numbers as the core takes them; an array of float32 as it is.

    Raises:
        TypeError: Not numbers, or of unequal lengths.
    """
    if isinstance(value, np.ndarray) and value.dtype == np.float32 and value.flags.c_contiguous:
        return value  # as below, sooner
    try:
        with np.errstate(over="ignore"):  # the core refuses the infinity that comes of it
            return np.ascontiguousarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from None


def _keys(keys: Iterable[int]) -> NDArray[np.int64]:
    """Return keys as the core takes them.

    Raises:
        TypeError: Not integers.
        ParameterError: One is larger than an int64.
    """
    values = np.asarray(keys if isinstance(keys, np.ndarray) else list(keys))
    if values.size == 0:
        return np.empty(0, np.int64)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise TypeError(
            f"keys must be integers in one dimension, got {values.dtype} in {values.ndim}"
        )
    if values.dtype.kind == "u" and values.max() > MAX_INT64:
        raise ParameterError(f"a key is {values.max()}, allowed: 0 to {MAX_INT64}")
    return np.ascontiguousarray(values, np.int64)
