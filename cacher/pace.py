"""How many tokens of prompts a forward pass reads beside rows that are generating.

Reading in larger chunks is more efficient, but every running row waits for the whole pass.  So the
chunk is steered: a pass that also reads is to take `STRETCH` times what a pass takes that only
generates.  What a token read beside costs is learned from the passes; it is not the same for few
and for many, so that a chunk is at most twice the last one.  Chunk law: the split never changes a
result.

And how many passes go in one burst: what surrounds a pass in Python costs the same for one as for
several, and so does handing tokens out: sending one wakes its reader, which costs most of all.
"""

from __future__ import annotations

from collections import deque
from statistics import median

STRETCH = 1.6  # of a pass that only generates; a reader of a stream is promised less than 2
FREE_CHUNK = 256  # tokens of a pass when nobody is generating
FIRST_CHUNK = 4  # tokens read beside, before anything is known
LEAST_CHUNK = 1
LEAST_COST_S = 1e-9  # of a token
PASSES = 5  # whose median counts: one that was disturbed tells nothing
BURST_S = 1 / 60  # seconds of passes in one burst: what a screen shows at once
MOST_PASSES = 8  # half of what is computed ahead of a reader, who takes one half meanwhile
REMEASURE = 64  # mixed passes after which one that only generates is measured again


class Pace:
    """Chooses the chunk of the next pass from how long passes took."""

    def __init__(self) -> None:
        self._usual: dict[int, float] = {}  # seconds of a pass, by the bit length of its rows
        self._costs: deque[float] = deque(maxlen=PASSES)  # seconds of a token that is read beside
        self._last = FIRST_CHUNK / 2  # tokens read beside in the last pass
        self._mixed = 0

    def chunk(self, generating: int, reading: int) -> int:
        """Return how many tokens the next pass may have.

        Args:
            generating: Rows that need one token.
            reading: Rows that have a prompt left to read.
        """
        if not reading or not generating:
            return max(FREE_CHUNK, generating)
        usual = self._usual.get(generating.bit_length())
        if usual is None or self._mixed >= REMEASURE:
            return generating
        beside = min(2 * self._last, FREE_CHUNK)
        if self._costs:
            cost = max(median(self._costs), LEAST_COST_S)
            beside = min(beside, (STRETCH - 1) * usual / cost)
        return generating + max(LEAST_CHUNK, int(beside))

    def passes(self, generating: int) -> int:
        """Return how many passes may go together, when nobody reads.

        Args:
            generating: Rows that need one token.
        """
        usual = self._usual.get(generating.bit_length())
        return 1 if usual is None else min(MOST_PASSES, 1 + int(BURST_S / usual))

    def took(
        self, seconds: float, chunk: int, generating: int, reading: int, *, filled: bool
    ) -> None:
        """Learn from a pass that `chunk` was chosen for.

        Args:
            seconds: What it took.
            chunk: What was chosen.
            generating: As in `chunk`.
            reading: As in `chunk`.
            filled: Whether prompts filled the chunk: some of them is not read yet.
        """
        if not generating:
            return
        size, beside = generating.bit_length(), chunk - generating
        usual = self._usual.get(size, seconds)
        if not reading or not beside:
            self._usual[size] = usual + 0.2 * (seconds - usual)
            self._mixed = 0
            return
        self._mixed += 1
        self._usual[size] = min(usual, seconds)  # else a disturbed pass would be the measure
        if filled:  # else nobody knows what it read
            self._costs.append((seconds - self._usual[size]) / beside)
            self._last = beside
