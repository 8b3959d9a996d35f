"""The checkpoint of the chat model."""

from __future__ import annotations

import os
from typing import Any

from cacher import _core


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what is in a checkpoint that torch.save wrote; nothing in it is run.

    A file that cannot be loaded as a model is refused here, too.

    Args:
        path: The file.

    Returns:
        ``model_cfg`` and ``train_cfg`` (dicts of plain values), ``step``, ``best_val_loss``: as
        they are in the file, None where they are not; ``generation`` (1 or 2); ``tensors``: by name
        a pair of the shape and a buffer of float32 numbers, row by row, for ``numpy.asarray``.

    Raises:
        FileError: The file cannot be read.
        ModelFormatError: It is damaged, or no checkpoint of such a model.
        UnsupportedModelError: It asks for something that is no part of a checkpoint; it is named.

    Example:
        >>> import cacher
        >>> from cacher.niels_gpt.checkpoint import read_checkpoint
        >>> read_checkpoint("/nowhere/best.pt")
        Traceback (most recent call last):
        ...
        cacher.errors.FileError: /nowhere/best.pt: No such file or directory
    """
    return _core.read_checkpoint(path)
