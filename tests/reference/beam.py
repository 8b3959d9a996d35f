"""Beam search over copied lists, for one group without penalties.  Shares no code with cacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass
class Sequence:
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    score: float = 0.0


def _gap(values: list[float], size: int) -> float:
    """Return how far the last of the `size` largest is from the next."""
    ordered = sorted(values, reverse=True)
    return ordered[size - 1] - ordered[size] if len(ordered) > size else np.inf


def search(
    logprobs: Callable[[list[list[int]]], NDArray[np.float64]],
    num_beams: int,
    max_tokens: int,
    length_penalty: float,
    early_stopping: bool | str,
    eos: int,
) -> tuple[list[Sequence], float]:
    """Return the complete sequences, best first, and the smallest gap that any decision hung on.

    Args:
        logprobs: Sequences of new tokens -> float64 [sequences, vocab], of the next token.
    """
    running, complete, closest = [Sequence()], [], np.inf
    for length in range(1, max_tokens + 1):
        rows = logprobs([beam.tokens for beam in running])
        sums = np.array([beam.logprob for beam in running])[:, None] + rows
        flat = sums.ravel()
        ranked = np.argsort(-flat, kind="stable")[: 2 * num_beams]
        candidates = []
        for at in ranked:
            beam, token = divmod(int(at), rows.shape[1])
            total = float(flat[at])
            tokens = [*running[beam].tokens, token]
            candidates.append(Sequence(tokens, total, total / length**length_penalty))
        ends = [c.tokens[-1] == eos or length == max_tokens for c in candidates]
        closest = min(closest, _gap(flat.tolist(), num_beams), _gap(flat.tolist(), 2 * num_beams))
        going = [c for c, end in zip(candidates, ends, strict=True) if not end]
        closest = min(closest, _gap([c.logprob for c in going], num_beams))
        complete += [c for c, end in zip(candidates[:num_beams], ends, strict=False) if end]
        closest = min(closest, _gap([c.score for c in complete], num_beams))
        complete = sorted(complete, key=lambda c: -c.score)[:num_beams]
        running = going[:num_beams]
        if len(complete) == num_beams and running:
            reach = max_tokens if early_stopping == "never" and length_penalty > 0 else length
            margin = running[0].logprob / reach**length_penalty - complete[-1].score
            if early_stopping is True:
                break
            closest = min(closest, abs(margin))
            if margin <= 0:
                break
    steps = (a.score - b.score for a, b in pairwise(complete))
    return complete, float(min([closest, *steps]))
