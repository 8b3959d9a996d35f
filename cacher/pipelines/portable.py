"""Samples in a file: JSON lines, the first of which says what the others are.

``{"format": "cacher-samples", "version": 1}``, then one object for each sample, ``key``, ``index``
and ``sample``; what JSON has no notation for is written as `cacher.pipelines.values` does.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from cacher.checks import shown
from cacher.errors import CacherError, FileError, ParameterError
from cacher.pipelines.store import MAX_INDEX, SampleStore
from cacher.pipelines.values import from_json, to_json
from cacher.progress import Progress, reading
from cacher.statefile import new_file, open_at_once, reason, sync
from cacher.typed import get, parse

FORMAT = "cacher-samples"
VERSION = 1
MAX_LINE = 256 * 2**20  # bytes
PAGE = 200  # keys, or samples of a file, at a time
MANY = 10_000  # samples from which a bar appears by itself


class Line(NamedTuple):
    """A sample as a file holds it."""

    key: str
    place: int
    sample: object


class Imported(NamedTuple):
    """What an import did.

    Attributes:
        added: Samples that were stored, each under its index.
        known: Those that were there already.
        others: Those whose index another sample had; they were left out.
    """

    added: int
    known: int
    others: int


def export_samples(
    store: SampleStore, path: str | os.PathLike[str], *, progress: Progress = None
) -> int:
    """Write all samples to a file; it is on disk, under its name, when this returns.

    Args:
        store: The store.
        path: The file; what is there stays until the new one is whole.
        progress: None: a bar for many samples when somebody watches; a callback.

    Returns:
        How many samples were written.

    Raises:
        StoreError: The store cannot be read.
        FileError: The file cannot be written.

    Example:
        >>> import os, tempfile
        >>> from cacher.pipelines import Cache
        >>> from cacher.pipelines.portable import export_samples, import_samples
        >>> path = os.path.join(tempfile.mkdtemp(), "rivers.jsonl")
        >>> with Cache() as cache:
        ...     cache.extend("river", ["Rhine", ("Elbe", 1094)])
        ...     export_samples(cache, path)
        0
        2
        >>> with Cache() as cache:
        ...     import_samples(cache, path)
        ...     cache["river"]
        Imported(added=2, known=0, others=0)
        ['Rhine', ('Elbe', 1094)]
    """
    name = os.fsdecode(path)
    folder, count = os.path.dirname(name) or ".", 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        yield json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n"
        with reading(progress, total, "sample", MANY) as tell:
            for key, index, sample in _all(store):
                item = {"key": key, "index": index, "sample": to_json(sample)}
                yield json.dumps(item).encode() + b"\n"
                count += 1
                if tell is not None:
                    tell(count, max(count, total))

    total = store.stats()["samples"]
    try:
        if os.path.exists(name) and not os.path.isfile(name):
            raise OSError(errno.EINVAL, "it is there and not a regular file")
        with new_file(folder, lines()) as temporary:
            os.replace(temporary, name)
        sync(folder)
    except CacherError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(f"{name!r} cannot be written: {reason(error)}") from error
    return count


def _all(store: SampleStore) -> Iterator[Line]:
    keys = list(store)
    for start in range(0, len(keys), PAGE):
        page = keys[start : start + PAGE]
        found = store.read([(key, 0, MAX_INDEX) for key in page])
        for key, samples in zip(page, found, strict=True):
            for index in sorted(samples):
                yield Line(key, index, samples[index])


def import_samples(
    store: SampleStore, path: str | os.PathLike[str], *, progress: Progress = None
) -> Imported:
    """Add the samples of a file under their indices; it is checked before anything is stored.

    Args:
        store: The store; what it has stays.
        path: What `export_samples` wrote.
        progress: None: a bar for many samples when somebody watches; a callback.

    Returns:
        How many were added.

    Raises:
        FileError: The file cannot be read.
        ParameterError: It holds something else; the message names the line.
        StoreError: The store cannot be written.
    """
    name = os.fsdecode(path)
    total = sum(1 for _ in _lines(name))
    added = known = others = 0
    page: list[Line] = []
    with reading(progress, total, "sample", MANY) as tell:
        for done, line in enumerate(_lines(name), 1):
            page.append(line)
            if len(page) == PAGE or done == total:
                n_added, n_known = _store(store, page)
                added, known = added + n_added, known + n_known
                others += len(page) - n_added - n_known
                page = []
                if tell is not None:
                    tell(done, total)
    return Imported(added, known, others)


def _store(store: SampleStore, page: list[Line]) -> tuple[int, int]:
    """Add lines whose index is free; return how many, and how many were there."""
    there = store.read([(line.key, line.place, line.place + 1) for line in page])
    free = [line for line, found in zip(page, there, strict=True) if not found]
    known = sum(
        to_json(found[line.place]) == to_json(line.sample)
        for line, found in zip(page, there, strict=True)
        if found
    )
    if free:
        store.add([(line.key, line.place, [line.sample]) for line in free])
    return len(free), known


def _lines(name: str) -> Iterator[Line]:
    try:
        with open(name, "rb", opener=open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError(f"{name!r} is not a regular file")
            number = 0
            while data := file.readline(MAX_LINE):
                number += 1
                try:
                    item = parse(data)
                    if number == 1:
                        _check_header(item)
                    else:
                        yield _line(item)
                except (CacherError, TypeError, ValueError) as error:
                    raise ParameterError(f"{name}, line {number}: {error}") from None
    except CacherError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(f"{name!r} cannot be read: {reason(error)}") from error
    if not number:
        raise ParameterError(f"{name}, line 1: it is empty, allowed: what `cache export` wrote")


def _check_header(item: dict[str, object]) -> None:
    if get(item, "format", str) != FORMAT or get(item, "version", int) != VERSION:
        raise ParameterError(
            f"it says {shown(item)}, allowed: format {FORMAT!r}, version {VERSION}"
        )


def _line(item: dict[str, object]) -> Line:
    index = get(item, "index", int)
    if not 0 <= index < MAX_INDEX:
        raise ParameterError(f"index is {index}, allowed: 0 to {MAX_INDEX - 1}")
    if "sample" not in item:
        raise ParameterError("it has no sample")
    return Line(get(item, "key", str), index, from_json(item["sample"]))
