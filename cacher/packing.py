"""A model's folder in the form in which it is computed with: mapped when it is loaded."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cacher import hub
from cacher.errors import CacherError, FileError, ModelFormatError, UnsupportedModelError
from cacher.model import Model
from cacher.statefile import reason, sync

if TYPE_CHECKING:
    from cacher.facts import Dtype

WEIGHTS = "model.packed"
# What a folder may hold besides weights that loading reads.
BESIDE = (*(name for name in hub.FILES if "safetensors" not in name and "/" not in name),
          "spm.model", "*/config.json")  # fmt: skip


def pack(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    dtype: Dtype | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> Path:
    """Write a model as a packed folder, which `load` maps instead of converting it.

    It is the same model: fingerprint and results are equal, so states and cached samples carry
    over.  The folder needs nothing of the source's.  It is there whole or not at all.

    Args:
        source: As `load` takes it, but no checkpoint.
        folder: Where to write it: not there yet, or empty.
        dtype: What it holds the weights in, as in `load`.
        threads: As in `load`.
        progress: False hides the bars of a download.

    Returns:
        The folder.

    Raises:
        FileError: The folder is there and not empty, or cannot be written.
        UnsupportedModelError: The source is a checkpoint.
        CacherError: The source cannot be loaded; see `load`.

    Example:
        >>> import cacher, tempfile
        >>> folder = cacher.pack("tales", tempfile.mkdtemp(), dtype="bf16")
        >>> cacher.load(folder).info.dtype
        'bf16'
    """
    target = Path(os.fsdecode(folder))
    found = hub.find(source, progress=progress)
    if not found.is_dir():
        raise UnsupportedModelError(f"{found} is a checkpoint, which has no packed form")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileExistsError(errno.EEXIST, "it is there, and not an empty folder")
        model = Model(found, name=target.name or "model", threads=threads, dtype=dtype)
        partial = target.parent / f".cacher-{os.urandom(8).hex()}.tmp"
        try:
            _write(model, partial)
            os.rename(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync(target.parent)
    except CacherError:
        raise
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise FileError(
            f"packed folder {str(target)!r} cannot be written: {reason(error)}"
        ) from error
    return target


def _write(model: Model, folder: Path) -> None:
    """Write the folder of an opened model, and see that it is the same model."""
    source = Path(model.folder)
    folder.mkdir()
    for file in (file for name in BESIDE for file in source.glob(name) if file.is_file()):
        copy = folder / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)
    for path in folder.rglob("*"):
        sync(path)
    model._core.pack(folder / WEIGHTS)  # puts this file and the folder's names on disk
    written = Model(folder, name=model.name, threads=model.info.n_threads)
    if written.fingerprint != model.fingerprint:
        raise ModelFormatError(f"{source} changed while it was packed")
