"""Progress: a bar where somebody is watching, or a callback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = bool | Callable[[int, int], object] | None

LONG_TEXT = 2000  # tokens to read from which a bar appears by itself
MANY_TEXTS = 500  # texts to embed from which one does


def watched() -> bool:
    """Whether standard error is a terminal, or this is a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def reading(
    progress: Progress, total: int, unit: str = "token", much: int = LONG_TEXT
) -> Iterator[Callable[[int, int], object] | None]:
    """Give the callback for reading `total` tokens, called with the tokens read so far and in all.

    Args:
        progress: None: a bar for `much` to read when somebody watches; True: always a bar; False:
            nothing; or the callback itself.
        total: Tokens that are about to be read.
        unit: What is read instead of tokens.
        much: The least of them for which a bar appears by itself.
    """
    if callable(progress):
        yield progress
        return
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress must be None, a bool or callable, got {type(progress).__name__}")
    wanted = progress is True or (progress is None and total > much and watched())
    try:
        if not wanted:
            raise ImportError
        from tqdm.auto import tqdm
    except ImportError:  # not wanted, or a bar is no reason to fail
        yield None
        return
    with tqdm(total=total, unit=unit, desc="reading", leave=False) as bar:
        yield lambda done, _total: bar.update(done - bar.n)
