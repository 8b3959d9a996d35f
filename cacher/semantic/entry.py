"""What the semantic cache remembers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One remembered query.

    Attributes:
        entry_id: ``"e-"`` and 16 hexadecimal digits.
        query: The exact text; it identifies the entry within its tenant.
        response: At most 65,536 characters.
        timestamp: Seconds since 1970 when it was stored.
        source: Who made the response: ``"lm:tales"``, ``"template"``, ``"warmup"``, the name of a
            function, or "".
        embedder: The name of the model whose vector it has.
    """

    entry_id: str
    query: str
    response: str
    timestamp: float
    source: str
    embedder: str
