"""The id of a state, and the salt of what it shares."""

from __future__ import annotations

import re

from cacher.checks import shown, string
from cacher.errors import ParameterError

STATE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RESERVED_IDS = frozenset({"config", "merge", "diff", "import", "export", "inspect", "stats"})


def salt_of(cache_salt: str) -> int:
    """Return the core's number for a salt: 64 bits of its SHA-256, never 0."""
    from hashlib import sha256  # few states have a salt

    return int.from_bytes(sha256(string("cache_salt", cache_salt).encode()).digest()[:8]) or 1


class Identity:
    """The id of a state: made when first read, shared with the state's forks."""

    __slots__ = ("value",)

    def __init__(self, value: str | None = None) -> None:
        allowed = value is None or STATE_ID.fullmatch(string("state_id", value))
        if not allowed or value in RESERVED_IDS:
            raise ParameterError(
                f"state id {shown(value)} is not allowed: 1 to 128 letters, digits, '.', '_', '-', "
                f"the first a letter or digit, and none of {', '.join(sorted(RESERVED_IDS))}"
            )
        self.value = value

    def get(self) -> str:
        """Return the id."""
        if self.value is None:
            import uuid  # slow to import, and few states are asked for their id

            self.value = str(uuid.uuid4())
        return self.value
