"""How many tokens of prompts a forward pass reads beside rows that are generating.

Reading in larger chunks is more efficient, but every running row waits for the whole pass.  So the
chunk is steered: a pass that also reads may take `STRETCH` times what a pass takes that only
generates.  Chunk law: the split never changes a result.

And how many passes go in one burst: what surrounds a pass in Python costs the same for one as for
several, and so does handing tokens out: sending one wakes its reader, which costs most of all.
"""

from __future__ import annotations

STRETCH = 1.4  # of a pass that only generates; a reader of a stream is promised less than 2
FREE_CHUNK = 256  # tokens of a pass when nobody is generating
LEAST_CHUNK = 1
BURST_S = 1 / 60  # seconds of passes in one burst: what a screen shows at once
MOST_PASSES = 8  # half of what is computed ahead of a reader, who takes one half meanwhile
REMEASURE = 64  # mixed passes after which one that only generates is measured again


class Pace:
    """Chooses the chunk of the next pass from how long passes took."""

    def __init__(self) -> None:
        self._usual: dict[int, float] = {}  # seconds of a pass, by the bit length of its rows
        self._chunk = 4.0
        self._mixed = 0

    def chunk(self, generating: int, reading: int) -> int:
        """Return how many tokens the next pass may have.

        Args:
            generating: Rows that need one token.
            reading: Rows that have a prompt left to read.
        """
        if not reading or not generating:
            return max(FREE_CHUNK, generating)
        if generating.bit_length() not in self._usual or self._mixed >= REMEASURE:
            return generating
        return generating + int(self._chunk)

    def passes(self, generating: int) -> int:
        """Return how many passes may go together, when nobody reads.

        Args:
            generating: Rows that need one token.
        """
        usual = self._usual.get(generating.bit_length())
        return 1 if usual is None else min(MOST_PASSES, 1 + int(BURST_S / usual))

    def took(self, seconds: float, chunk: int, generating: int, reading: int) -> None:
        """Learn from a pass that `chunk` was chosen for."""
        if not generating:
            return
        size = generating.bit_length()
        if not reading or chunk == generating:
            usual = self._usual.get(size, seconds)
            self._usual[size] = usual + 0.2 * (seconds - usual)
            self._mixed = 0
            return
        self._mixed += 1
        stretch = seconds / self._usual[size]
        if stretch > STRETCH:
            self._chunk = max(LEAST_CHUNK, self._chunk * max(0.8, STRETCH / stretch))
        else:
            self._chunk = min(FREE_CHUNK, self._chunk * 1.05 + 0.1)
