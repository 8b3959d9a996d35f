"""The engines that ``make bench-peers`` compares, each behind the same four methods.

``benchmarks/worker.py`` runs one of them in a process of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np


class Timed(NamedTuple):
    """How long something took, and the token ids that came of it."""

    seconds: float
    tokens: np.ndarray  # [batch, tokens]


class Engine(ABC):
    """A model that was loaded into an engine; made with (path, dtype, threads)."""

    @abstractmethod
    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Return the logits [vocab] after a prompt [n]."""

    @abstractmethod
    def prefill(self, ids: np.ndarray) -> Timed:
        """Read one prompt [n] and give the likeliest token after it."""

    @abstractmethod
    def decode(self, ids: np.ndarray, tokens: int) -> Timed:
        """Decode greedily behind prompts [batch, n] of one length.

        Each continuation has a token more than are asked for: the first comes of reading the
        prompts, which is not timed.
        """

    @abstractmethod
    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> Timed:
        """Search ``tokens`` deep from one prompt [n], reading it included; give the best beam."""


def likeliest(logits: np.ndarray, n: int) -> np.ndarray:
    """Return the ids [rows, n] of the largest logits [rows, vocab], in no order.

    They lie within the n blocks whose largest logits are the largest, which spares sorting rows.
    """
    rows, vocab = logits.shape
    block = 64
    whole = vocab // block * block
    largest = logits[:, :whole].reshape(rows, -1, block).max(2)
    blocks = np.argpartition(largest, -n, axis=1)[:, -n:]
    ids = (blocks[:, :, None] * block + np.arange(block)).reshape(rows, -1)
    ids = np.concatenate([ids, np.tile(np.arange(whole, vocab), (rows, 1))], axis=1)
    found = np.take_along_axis(logits, ids, axis=1)
    return np.take_along_axis(ids, np.argpartition(found, -n, axis=1)[:, -n:], axis=1)
