"""Styles of text on a terminal that wants them."""

from __future__ import annotations

import os
import sys

BOLD, DIM = 1, 2


def coloured() -> bool:
    """Whether standard output is a terminal that wants colours; see no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def styled(text: str, code: int) -> str:
    """Return a text in a style, where there are styles."""
    return f"\033[{code}m{text}\033[0m" if coloured() else text
