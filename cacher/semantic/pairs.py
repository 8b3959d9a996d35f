"""Pairs of texts that somebody has labelled, and the CSV files that hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cacher.checks import shown
from cacher.errors import FileError, ParameterError
from cacher.semantic.entry import check_query

COLUMNS = ("query", "other", "same")
SAME = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
MAX_BYTES = 256 * 2**20  # of a file of pairs


class Pair(NamedTuple):
    """Two texts and whether one answer is right for both."""

    query: str
    other: str
    same: bool


def read_pairs(path: str | Path) -> list[Pair]:
    r"""Return the pairs of a CSV file in UTF-8 with the columns query, other and same.

    Other columns are left alone; same is 1 or 0, true or false, yes or no.

    Raises:
        FileError: It cannot be read, or is larger than 256 MiB.
        ParameterError: It holds no such pairs; the message names the line and what stands there.

    Example:
        >>> import pathlib, tempfile
        >>> from cacher.semantic.pairs import read_pairs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "pairs.csv")
        ...     _ = path.write_text("query,other,same\nIs it far?,Is it a long way?,1\n")
        ...     read_pairs(path)
        [Pair(query='Is it far?', other='Is it a long way?', same=True)]
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise FileError(f"{path} has more than {MAX_BYTES} bytes, which is the most allowed")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ParameterError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from None
    pairs = list(_rows(path, text))
    if not pairs:
        raise ParameterError(f"{path} holds no pairs below its header, allowed: 1 or more")
    return pairs


def _rows(path: Path, text: str) -> Iterator[Pair]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise ParameterError(
                f"{path}, line 1: no column {', '.join(missing)} in "
                f"{shown(','.join(rows.fieldnames or ()))}, needed: {','.join(COLUMNS)}"
            )
        for row in rows:
            yield _pair(f"{path}, line {rows.line_num}", row)
    except csv.Error as error:
        raise ParameterError(f"{path}, line {rows.reader.line_num}: no CSV: {error}") from None


def _pair(where: str, row: dict[str, str | None]) -> Pair:
    query, other, same = (row[name] for name in COLUMNS)
    if query is None or other is None or same is None:
        raise ParameterError(f"{where}: fewer fields than the header names")
    label = SAME.get(same.strip().lower())
    if label is None:
        raise ParameterError(
            f"{where}: same is {shown(same)}, allowed: 1 or 0, true or false, yes or no"
        )
    for name, text in (("query", query), ("other", other)):
        try:
            check_query(text)
        except ParameterError as error:
            raise ParameterError(f"{where}, {name}: {error}") from None
    return Pair(query, other, label)
